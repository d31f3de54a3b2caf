"""The README: what it shows must be so."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from oomguard.cli.main import build_parser
from oomguard.core.sysctl import SYSCTLS
from oomguard.policy.load import load
from oomguard.policy.schema import json_schema
from pages import PAGES, ROOT, blocks, name
from test_layers import MAY_IMPORT

README = (ROOT / "README.md").read_text()


def verbs() -> list[str]:
    """Return the verbs that the parser knows."""
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [*action.choices]
    raise AssertionError("the parser has no verbs")


VERBS = verbs()


def section(text: str, title: str) -> str:
    """Return what stands below a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_it_is_short() -> None:
    """At most 900 words that a reader sees; everything else has a page of its own."""
    seen = re.sub(r"<!--.*?-->|^```.*?$|^\|[-| ]+\|$|^#+ |^- |\|", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(seen.split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_policies_shown_are_valid(page: Path, tmp_path: Path) -> None:
    """Each block of YAML is a policy that the loader takes without a warning."""
    for number, block in enumerate(blocks(page.read_text(), "yaml")):
        policy = tmp_path / f"{number}.yaml"
        policy.write_text(block)
        policy.chmod(0o644)  # whatever the umask
        if "\ncases:\n" in block:  # tests of a policy, which the page runs
            assert "oomguard test " in page.read_text()
            continue
        assert not [fault.message for fault in load(str(policy)).warnings], f"{page}: {block}"


def test_every_verb_is_in_the_list() -> None:
    """And every verb in the list is one."""
    assert set(re.findall(r"^- `(\w+)", section(README, "The verbs"), re.MULTILINE)) == set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_ones_that_the_parser_takes(page: Path) -> None:
    """Every line that starts with oomguard, in a block or in a sentence."""
    text = page.read_text()
    commands = re.findall(r"(?:^|&& |`)(?:\.venv/bin/|sudo )?oomguard ([a-z][^\n`|&;>]*)", text, re.MULTILINE)
    for command in commands:
        words = shlex.split(command, comments=True)
        if words[0] in VERBS and words[1:] and not {"VERB", "TOOL"} & set(words):  # a bare one is a word
            build_parser().parse_args(words)


def test_sentences_name_only_verbs_that_there_are() -> None:
    """`oomguard VERB` in all pages."""
    for page in PAGES:
        for word in re.findall(r"`oomguard ([a-z]+)", page.read_text()):
            assert word in [*VERBS, "has"], f"{page.name}: oomguard {word}"  # as in `oomguard has stopped`


def test_ci_runs_the_command_that_the_readme_gives_for_the_tests() -> None:
    """One script, so that they cannot come apart; and the other commands call what is there."""
    lines = [line for block in blocks(README, "console") for line in block.splitlines()]
    assert "sh .ci/test" in lines
    assert re.search(r"^step sh \.ci/test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    for script in re.findall(r"\bsh ([.\w/-]+)", "\n".join(lines)):
        assert (ROOT / script).is_file(), script


def test_ci_and_its_parts_are_shell() -> None:
    """They parse."""
    for script, shell in (("run", "bash"), ("setup", "sh"), ("smoke", "sh"), ("test", "sh")):
        subprocess.run([shell, "-n", ROOT / ".ci" / script], check=True)


def test_imports_point_down_the_list_of_layers() -> None:
    """docs/internals/architecture.md has every folder, above all that test_layers.py lets it import."""
    text = (ROOT / "docs/internals/architecture.md").read_text()
    layers = re.findall(r"^- `(\w+)/`: ", text, re.MULTILINE)
    assert sorted(layers) == sorted(MAY_IMPORT)
    for position, layer in enumerate(layers):
        assert set(layers[position + 1 :]) >= MAY_IMPORT[layer], layer


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/internals/architecture.md"])
def test_modules_that_a_page_names_are_there(page: str) -> None:
    """Those to start with; each says itself what it holds, and ruff asks for that line."""
    named = set(re.findall(rf"`((?:{'|'.join(MAY_IMPORT)})/\w+\.py)`", (ROOT / page).read_text()))
    assert len(named) > 5
    for module in named - {"cli/VERB.py"}:
        assert (ROOT / "src/oomguard" / module).is_file(), module


def test_the_tour_of_the_code_names_functions_that_are_there() -> None:
    """In the modules that it says."""
    tour = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`.*) \| `(\w+/\w+\.py)` \|", tour, re.MULTILINE)
    assert len(rows) >= 10
    for names, module in rows:
        code = (ROOT / "src/oomguard" / module).read_text()
        for named in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^ *(?:def|class) {named}\b", code, re.MULTILINE), f"{module}: {named}"


def test_the_reference_has_every_key() -> None:
    """Those at the top of a policy, those of a rule and those of a value; the manual has the sysctls."""
    text = (ROOT / "docs" / "policy.md").read_text()
    schema = json_schema()
    keys = [*schema["properties"]]
    for part in schema["$defs"].values():
        keys += part.get("properties", {})
    sysctls = {row.name.partition(".")[2] for row in SYSCTLS.values()}
    assert "children" in keys
    for key in set(keys) - sysctls:
        assert re.search(rf"(?:^|[`{{ ]){re.escape(key)}[`:]", text, re.MULTILINE), key
