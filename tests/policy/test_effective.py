"""What all layers come to, as `oomguard cat` prints it."""

import json
from typing import Any

import pytest
from hypothesis import given

from oomguard.core.host import Host
from oomguard.core.policy import Policy
from oomguard.policy.effective import Effective, document, effective, render
from oomguard.policy.load import parse
from oomguard.policy.source import Source, Sources, ignored
from pages import PAGES, ROOT, blocks

from .conftest import layered, sources
from .test_properties import POLICIES

HOST = Host(64 << 20, 0, 0, 0, 2048, "db-1", "6.12.48", is_container=False)


def _effective(files: Sources) -> Effective:
    return effective(files, parse(files, host=HOST).policy, HOST)


def _text(files: Sources) -> str:
    return "\n".join(render(_effective(files)))


def _declared(policy: Policy) -> object:
    """Return what a policy declares, wherever it is written."""
    sysctls = tuple(one._replace(file="", line=0) for one in policy.sysctls)
    rules = [(rule.names, rule.terms) for rule in policy.rules]
    return policy._replace(sysctls=sysctls, rules=(), files=(), digest="", left_out=(), facts={}), rules


def _assert_it_is_the_policy(files: Sources) -> None:
    printed = parse(sources(_text(files)), host=HOST).policy
    assert _declared(printed) == _declared(parse(files, host=HOST).policy)


@pytest.mark.parametrize(
    "text",
    [text for page in PAGES for text in blocks(page.read_text(), "yaml") if "\ncases:\n" not in text]
    + [file.read_text() for file in sorted((ROOT / "etc").glob("*.yaml"))]
    + ["pressure: off\nrecorder: off", "pressure: {some: 20%, over: 4s}"],
)
def test_what_is_printed_is_the_same_policy(text: str) -> None:
    """Each one that the pages show; also below another, which overrides some of it."""
    _assert_it_is_the_policy(sources(text))
    _assert_it_is_the_policy(
        layered(
            "vm: {overcommit_kbytes: 5, swappiness: 1}\nrules: [{name: postgres, oom_score_adj: 3}]", text
        )
    )


@given(POLICIES, POLICIES)
def test_whatever_is_declared_is_printed_as_it_is_read(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Names may be anything."""
    _assert_it_is_the_policy(layered(*(json.dumps(one, ensure_ascii=False) for one in (first, second))))


def test_files_whose_when_does_not_fit_are_listed_with_the_reason() -> None:
    """They override nothing. Where one fits, its `when:` is left out: the output is for this host."""
    assert "when:" not in _text(sources("when: {swap: none}\nvm: {swappiness: 1}"))
    text = _text(layered("when: {swap: some}\nvm: {swappiness: 1}", "vm: {swappiness: 60}"))
    assert "0.yaml: swap is 0 KiB, not some" in text
    assert "  swappiness: 60  # 1.yaml:1" in text.split("\n")


def test_each_line_has_its_file_and_what_it_overrides() -> None:
    """Files that do not count are listed with the reason; values are shown with what they come to."""
    files = (
        Source("/a/50.yaml", b"vm:\n  swappiness: 10\n  commit_limit: 90%\n", layer=0, name="50.yaml"),
        Source("/a/90.yaml", layer=0, name="90.yaml", is_mask=True),
        Source("/b", b"force: true\nvm: {swappiness: 60, overcommit_ratio: 80}\n", layer=1),
        Source("/c/50.yaml", b"nonsense: {", layer=2, name="50.yaml"),
        Source("/d/20.yaml", b"rules: [{name: [a, 'b, c'], oom_score_adj: 1}]", layer=3, name="20.yaml"),
        Source("/d/30.yaml", b"rules: [{name: a, oom_score_adj: -1}]", layer=3, name="30.yaml"),
        Source("/d/80.yml", fault=ignored("/d/80.yml"), layer=3),
        Source("/d/90.yaml", b"force: false", layer=3, name="90.yaml"),
    )

    assert (
        _text(files)
        == """\
# /a/50.yaml
# /a/90.yaml: masks files of this name in lower layers
# /b
# /c/50.yaml: replaced by /a/50.yaml
# /d/20.yaml
# /d/30.yaml
# /d/80.yml: not read: the name of a policy file ends in .yaml
# /d/90.yaml: masked by /a/90.yaml

force: true  # /b:1

vm:
  swappiness: 10  # /a/50.yaml:2; overrides 60 (/b:2)
  commit_limit: 90%  # /a/50.yaml:3; 90 % of 64.0 GiB = 60397977 kB; overrides overcommit_ratio: 80 (/b:2)

rules:
  # /d/20.yaml:1
  - name: [a, "b, c"]
    oom_score_adj: 1
  # /d/30.yaml:1: overridden by /d/20.yaml:1
  - name: a
    oom_score_adj: -1"""
    )
    found = document(_effective(files))
    assert [one["why_not"] is None for one in found["files"]] == [one["counts"] for one in found["files"]]
    assert found["values"][0]["overrides"] == [{"name": "vm.swappiness", "value": 60, "source": "/b:2"}]
    assert found["rules"][1] == {
        "rule": {"name": "a", "oom_score_adj": -1},
        "source": "/d/30.yaml:1",
        "overridden_by": "/d/20.yaml:1",
    }


def test_a_value_that_yaml_reads_as_a_word_is_printed_for_programs_too() -> None:
    """Off is false, as for the daemon."""
    (value,) = document(_effective(sources("recorder: off")))["values"]
    assert value == {
        "name": "recorder",
        "value": False,
        "source": "0.yaml:1",
        "comes_to": None,
        "overrides": [],
    }


def test_names_of_files_are_escaped() -> None:
    """A name may not end a comment, nor reach the terminal."""
    source = Source("/a/\nforce: true\x1b\udcff.yaml", b"vm: {swappiness: 1}")
    (printed, _, _, value) = _text((source,)).splitlines()
    assert printed == r"# /a/\nforce: true\x1b\xff.yaml"
    assert value == r"  swappiness: 1  # /a/\nforce: true\x1b\xff.yaml:1"
