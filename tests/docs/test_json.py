"""What the documentation says of JSON is what the verbs print: every key, and no other."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import oom_formats as formats
from incident import samples
from oomguard.report.log_entries import entry_document, parse_entry
from oomguard.report.recording import recording_document
from oomguard.report.status_file import LastKill
from pages import ROOT, blocks

sys.path.insert(0, str(ROOT / "tests" / "pictures"))
from terminal import made_host, managed_host

PAGE = (ROOT / "docs" / "json.md").read_text()
_WORD = re.compile(r"`([a-z_]+)`")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a policy has to be root's")


def keys(document: Any) -> set[str]:
    """Return every key of a document, however deep."""
    if isinstance(document, dict):
        return set(document).union(*map(keys, document.values()))
    return set().union(*map(keys, document)) if isinstance(document, list) else set()


def documented(page: str, *headings: str) -> set[str]:
    """Return the words in backquotes of the lists below some headings."""
    found: set[str] = set()
    for section in re.split(r"^## ", page, flags=re.MULTILINE):
        if section.split("\n")[0] in headings:
            for item in re.findall(r"^- .*(?:\n  .*)*", section, re.MULTILINE):
                found.update(_WORD.findall(item))
    assert found, headings
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what each verb prints of a host, and of a policy that is not valid."""
    folder = tmp_path_factory.mktemp("host")
    policy, host = made_host(folder)
    bad = folder / "bad.yaml"
    bad.write_text("rules: [{name: a, oom_score_adj: 2000}]\n")
    wrong = folder / "wrong.yaml"
    wrong.write_text("policy: {}\ncases: [{case: a, processes: [{name: a, expect: 1}]}]\n")
    log = folder / "kern.log"
    log.write_text("\n".join(formats.host_report(formats.KERNELS[-1])) + "\n" + formats.MEMCG_3_16)
    (sysctls := folder / "sysctls").write_text("vm.swappiness = 10\nvm.unheard_of = 1\n")
    (earlyoom := folder / "earlyoom").write_text("EARLYOOM_ARGS=\"--prefer '^chrome$' -r 60\"\n")
    entry = parse_entry(b'{"OOMGUARD_EVENT": "applied", "__REALTIME_TIMESTAMP": "1"}')
    assert entry is not None
    return {
        "plan": run("plan", *policy, *host),
        "status": run("status", *policy, *managed_host(folder)),
        "explain": run("explain", *policy, *host[:2], "nginx"),
        "rank": run("rank", *policy, *host),
        "check": run("check", "--policy", str(bad)),
        "postmortem": run("postmortem", *policy, str(log)),
        "apply": run("apply", *policy, *host),
        "restore": run("restore", *host),
        "advise": run("advise", *host),
        "import": [run("import", "sysctl", str(sysctls)), run("import", "earlyoom", str(earlyoom))],
        "log": entry_document(entry),
        "history": recording_document(samples()),
        "test": run("test", str(wrong), str(bad)),
    }


def run(*arguments: str) -> Any:
    """Return the document that a verb prints."""
    command = [sys.executable, "-m", "oomguard", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=False).stdout)


VALUES = {
    *("oom_score_adj", "start", "exec", "drift", "policy", "resync", "restore", "applied", "denied"),
    *("vanished", "refused", "contended", "plan", "actual", "error", "warning"),
    "unknown",
}
"""What the lists name that is no key everywhere: values, and keys of elsewhere."""

BOUND = {"kind", "at_least", "at_most"}
"""What a sysctl's row has only if its value is a bound."""


@pytest.mark.parametrize(
    ("verb", "headings"),
    [
        ("plan", ["`plan`"]),
        ("apply", ["`plan`", "`apply`, `restore`"]),
        ("restore", ["`plan`", "`apply`, `restore`"]),
        ("status", ["`status`"]),
        ("explain", ["`explain`"]),
        ("check", ["`check`"]),
        ("test", ["`test`", "`check`"]),
    ],
)
def test_every_key_is_documented_and_no_other(
    printed: dict[str, Any], verb: str, headings: list[str]
) -> None:
    """And no other. If a key is new, it belongs into docs/json.md."""
    said = documented(PAGE, *headings)
    found = keys(printed[verb])
    assert found <= said
    conditional = {"complaints": {"subject", "by", "tries", "reason", "hint"}, "kills": {"rule", "protected"}}
    missing = said - found - VALUES
    if verb == "status":
        missing -= conditional["complaints"] | conditional["kills"] | {"day", "file", "said"} | BOUND
        missing -= {*LastKill._fields, "next_process", "available_kib"}
    if verb == "test":
        missing -= {"check", "rule", "value"}
    if verb == "restore":
        missing -= {"reason", "hint", "kind", "said"}
    assert missing == set()


@pytest.mark.parametrize("verb", ["rank", "postmortem", "log", "history", "advise", "import"])
def test_pages_of_verbs_have_every_key(printed: dict[str, Any], verb: str) -> None:
    """The kernel's own counters excepted, which are as many as a kernel prints."""
    document = printed[verb]
    if verb == "postmortem":
        for report in document["reports"]:
            report["memory"]["pages"] = {}
            report["memory"]["cgroup"] = {"memory": report["memory"]["cgroup"].get("memory", {})}
    text = (ROOT / f"docs/{verb}.md").read_text()
    words = set(re.findall(r"`([a-z_.]+)(?:\[\])?`", text))
    if "(json.md#explain)" in text:
        words |= documented(PAGE, "`explain`")
    words |= {part for word in words for part in word.split(".")}
    assert keys(document) - {"memory"} <= words


def test_examples_have_the_structure_of_what_is_printed(printed: dict[str, Any]) -> None:
    """The same keys in the same order, and values of the same kind."""
    (example,) = [json.loads(block) for block in blocks(PAGE, "json")]
    shapes = {tuple(shape(change)) for change in printed["plan"]}
    for change in example:
        assert any(list(one) == list(shape(change)) for one in shapes), change


def shape(change: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key of a change with what kind of value it has."""
    for key, value in change.items():
        yield key, "obstacle or null" if key == "obstacle" else type(value).__name__
