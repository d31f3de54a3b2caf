"""Laws that hold for every policy, and for what is none."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.serialize import decode, encode
from oomguard.core.sysctl import SYSCTLS, Sysctl
from oomguard.policy.fault import PolicyError, render_text
from oomguard.policy.load import parse
from oomguard.policy.users import Users

from .conftest import layered, sources

_CONDITIONS = ("name", "exe", "cmdline", "user", "unit", "user_unit", "cgroup")
_LETTERS = st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/[:")
_NAMES = st.text(_LETTERS, min_size=1, max_size=30)
_SCORES = st.integers(-1000, 1000)


def _some(items: "st.SearchStrategy[Any]") -> "st.SearchStrategy[Any]":
    return items | st.lists(items, min_size=1, max_size=3)


_RULES = st.fixed_dictionaries(
    {
        "oom_score_adj": _SCORES
        | st.just("keep")
        | st.builds(lambda score: {"at_most": score}, _SCORES)
        | st.builds(lambda score: {"at_least": score}, _SCORES)
    },
    optional={
        "name": _some(_NAMES),
        "exe": _some(_NAMES.map("/".__add__)),
        "cmdline": _some(st.from_regex(r"[a-z ]+(\.\*|[0-9]\+)?", fullmatch=True)),
        "user": _some(st.integers(0, 2**32 - 2) | _NAMES.filter(lambda name: not name.isdecimal())),
        "unit": _some(_NAMES.map(lambda name: f"{name}.service")),
        "user_unit": _some(_NAMES.map(lambda name: f"{name}*")),
        "cgroup": _some(_NAMES.map("/".__add__)),
        "scope": st.sampled_from(["all", "main"]),
        "children": st.sampled_from(["reset", "inherit"]),
        "trust": st.sampled_from(["verified", "name"]),
        "containers": st.booleans(),
    },
).filter(lambda rule: any(key in rule for key in _CONDITIONS))

_KNOBS = [row for row in SYSCTLS.values() if row.name.startswith("vm.") and not row.partner]


def _taken(row: Sysctl) -> "st.SearchStrategy[int]":
    least = row.least_above_zero
    return st.integers(least, row.high) | st.just(0) if least else st.integers(row.low, row.high)


POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "vm": st.fixed_dictionaries(
            {}, optional={row.name.removeprefix("vm."): _taken(row) for row in _KNOBS}
        ),
        "rules": st.lists(_RULES, max_size=5),
        "commit_headroom": st.integers(0, 1000),
        "force": st.booleans(),
        "resync_interval": st.integers(1, 86400),
    },
)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@given(POLICIES)
def test_a_valid_policy_says_after_compilation_what_it_said_before(said: dict[str, Any]) -> None:
    """JSON is YAML with all text quoted, so it needs no writer of our own."""
    policy = parse(sources(json.dumps(said, ensure_ascii=False, indent=1))).policy
    assert {one.name.removeprefix("vm."): one.value for one in policy.sysctls} == said.get("vm", {})
    assert policy.commit_headroom_percent == said.get("commit_headroom", 10)
    assert policy.force == said.get("force", False)
    assert policy.resync_interval_seconds == said.get("resync_interval", 60)
    for rule, wanted in zip(policy.rules, said.get("rules", []), strict=True):
        terms = rule.terms
        value = wanted["oom_score_adj"]
        if isinstance(value, int):
            assert terms.value == ("exact", value)
        else:
            ((kind, number),) = value.items() if isinstance(value, dict) else [("keep", 0)]
            assert terms.value == (kind, number)
        assert [name.decode() for name in rule.names] == _listed(wanted.get("name", []))
        assert list(terms.exes) == _listed(wanted.get("exe", []))
        assert list(terms.cmdlines) == _listed(wanted.get("cmdline", []))
        assert list(terms.users) == [str(user) for user in _listed(wanted.get("user", []))]
        assert list(terms.units) == _listed(wanted.get("unit", []))
        assert list(terms.user_units) == _listed(wanted.get("user_unit", []))
        assert list(terms.cgroups) == _listed(wanted.get("cgroup", []))
        assert terms.scope == wanted.get("scope", "all")
        assert terms.children == wanted.get("children", "reset")
        assert terms.trust == wanted.get("trust", "verified")
        assert terms.containers == wanted.get("containers", False)


@given(st.lists(POLICIES, min_size=1, max_size=4))
def test_layers_say_what_one_file_would_that_has_the_first_of_each_key(said: list[dict[str, Any]]) -> None:
    """And all rules, in their order."""
    merged: dict[str, Any] = {}
    for one in reversed(said):
        merged |= {**one, "vm": {**merged.get("vm", {}), **one.get("vm", {})}}
    merged["rules"] = [rule for one in said for rule in one.get("rules", [])]
    texts = [json.dumps(one, ensure_ascii=False) for one in (*said, merged)]
    found, wanted = parse(layered(*texts[:-1])).policy, parse(sources(texts[-1])).policy
    assert [(one.name, one.value) for one in found.sysctls] == [
        (one.name, one.value) for one in wanted.sysctls
    ]
    assert [rule.terms for rule in found.rules] == [rule.terms for rule in wanted.rules]
    assert [rule.names for rule in found.rules] == [rule.names for rule in wanted.rules]
    assert found.force == wanted.force
    assert found.resync_interval_seconds == wanted.resync_interval_seconds
    assert found.commit_headroom_percent == wanted.commit_headroom_percent


@given(POLICIES)
def test_a_valid_policy_survives_its_way_to_the_daemon(said: dict[str, Any]) -> None:
    """What is decoded is what was encoded."""
    policy = parse(sources(json.dumps(said, ensure_ascii=False))).policy
    assert decode(encode(policy)) == policy


def _parses_or_is_refused(*contents: str | bytes) -> None:
    try:
        policy, warnings = parse(sources(*contents), users=Users())
    except PolicyError as error:
        assert error.faults
        faults = error.faults
    else:
        assert decode(encode(policy)) == policy
        faults = warnings
    assert all(line.isprintable() for line in render_text(faults).splitlines())
    assert len(json.loads(json.dumps([one._asdict() for one in faults]))) == len(faults)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_policy_error(content: bytes) -> None:
    """Whatever is in the file."""
    _parses_or_is_refused(content)


@given(st.text(max_size=200), st.text(max_size=50))
def test_no_text_raises_anything_but_a_policy_error(first: str, second: str) -> None:
    """Whatever is in two files."""
    _parses_or_is_refused(first.encode("utf-8", "surrogatepass"), second.encode("utf-8", "surrogatepass"))


_TOKENS = st.sampled_from(
    [
        *("vm", "kernel", "rules", "force", "commit_headroom", "resync_interval", "swappiness", "panic"),
        *("overcommit_ratio", "overcommit_kbytes", "drop_caches", "page_cluster", "panic_on_oom"),
        *_CONDITIONS,
        *("oom_score_adj", "scope", "children", "trust", "containers", "at_most", "at_least", "keep", "main"),
        *(
            ": ",
            ": ",
            ": ",
            ":\n",
            "\n",
            "\n  ",
            "\n  - ",
            "\n    ",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "'",
            '"',
        ),
        *(
            "&a ",
            "*a",
            "<<",
            "!!str ",
            "!x ",
            "? ",
            "---\n",
            "...\n",
            "# ",
            "| \n",
            "> \n",
            "\t",
            "%YAML 1.1\n",
        ),
        *("0", "-900", "010", "1_0", "12:30", "on", "~", "null", "true", "1.5", "2024-01-01", "9" * 5000),
        *(
            "sshd",
            "/usr/bin/sshd",
            "ssh.service",
            "*",
            "[",
            "(",
            "(?i)",
            "\\d",
            "\\0",
            "\\ud800",
            "ü",
            "<one>",
        ),
    ]
)


@given(st.lists(_TOKENS, max_size=40).map("".join))
def test_nothing_that_looks_like_a_policy_raises_anything_but_a_policy_error(text: str) -> None:
    """Words of the language and of YAML in any order."""
    _parses_or_is_refused(text)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _TOKENS
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_TOKENS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(st.dictionaries(_TOKENS, _TREES, max_size=4) | _TREES)
def test_no_tree_raises_anything_but_a_policy_error(tree: Any) -> None:
    """Well-formed YAML with anything anywhere."""
    _parses_or_is_refused(json.dumps(tree))


@given(_RULES, st.data())
def test_one_broken_key_is_one_fault_at_its_place(rule: dict[str, Any], data: st.DataObject) -> None:
    """A mistake in one key of a good rule is reported there, and nowhere else."""
    key = data.draw(st.sampled_from(sorted(rule)))
    text = json.dumps({"rules": [rule | {key: None}]}, ensure_ascii=False)
    try:
        parse(sources(text))
    except PolicyError as error:
        (fault,) = error.faults
    else:
        raise AssertionError(text)
    assert fault.path == f"rules[0].{key}"
    assert text[fault.column - 1 :].startswith("null")
