"""Warnings: what is valid and probably not meant."""

import pytest

from oomguard.policy.fault import Fault
from oomguard.policy.load import parse

from .conftest import sources


def _warnings(text: str, *, host: bool = False) -> tuple[Fault, ...]:
    return parse(sources(text), host=host).warnings


def _codes(text: str) -> list[str]:
    return [fault.code for fault in _warnings(text)]


def _rules(*rules: str) -> str:
    return "rules:\n" + "".join(f"- {{{rule}, oom_score_adj: 1}}\n" for rule in rules)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "vm: {panic_on_oom: 1}",
            (
                "0.yaml:1:20: warning: vm.panic_on_oom: the host panics when memory runs out, "
                "and then hangs for ever unless kernel.panic is set"
            ),
        ),
        (
            "vm: {panic_on_oom: 2}\nkernel: {panic: 0}",
            (
                "0.yaml:1:20: warning: vm.panic_on_oom: the host panics when memory runs out, "
                "and then hangs for ever unless kernel.panic is set"
            ),
        ),
        (
            "vm: {overcommit_ratio: 80}",
            (
                "0.yaml:1:24: warning: vm.overcommit_ratio: has no effect unless vm.overcommit_memory is 2, "
                "which this policy does not set"
            ),
        ),
        (
            "vm: {overcommit_memory: 1, overcommit_kbytes: 80}",
            (
                "0.yaml:1:47: warning: vm.overcommit_kbytes: has no effect unless vm.overcommit_memory is 2, "
                "which this policy does not set"
            ),
        ),
        (
            "vm: {overcommit_memory: 2, overcommit_ratio: 101}",
            "0.yaml:1:46: warning: vm.overcommit_ratio: promises 101 % of RAM: more than there is",
        ),
        (
            "rules: [{name: x, oom_score_adj: {at_most: -1000}}]",
            (
                "0.yaml:1:34: warning: rules[0].oom_score_adj: -1000 also forbids killing it when its own "
                "cgroup is out of memory: if it leaks there, the cgroup stays out of memory for ever"
            ),
        ),
        (
            "rules: [{name: x, oom_score_adj: -999, trust: name}]",
            "0.yaml:1:47: warning: rules[0].trust: any user may give a program this name and be protected",
        ),
        (
            "rules: [{name: x, oom_score_adj: -999, children: inherit}]",
            "0.yaml:1:50: warning: rules[0].children: whatever these processes start is protected like them",
        ),
        (
            _rules("name: a", "name: a"),
            (
                "0.yaml:3:3: warning: rules[1]: never takes effect: whatever it matches, "
                "the rule at 0.yaml:2 (name=a) matches first"
            ),
        ),
    ],
)
def test_what_is_probably_not_meant_is_said(text: str, warning: str) -> None:
    """Each warning has its place, a code and a way out."""
    (fault,) = _warnings(text)
    assert str(fault) == warning
    assert fault.severity == "warning"
    assert fault.code
    assert fault.hint


@pytest.mark.parametrize(
    "text",
    [
        "vm: {panic_on_oom: 1}\nkernel: {panic: 10}",
        "vm: {panic_on_oom: 0}",
        "vm: {overcommit_memory: 2, overcommit_ratio: 100}",
        "rules: [{name: x, oom_score_adj: {at_least: -1000}}]",
        "rules: [{name: x, unit: a.service, oom_score_adj: -999, trust: name}]",
        "rules: [{name: x, oom_score_adj: 300, children: inherit}]",
    ],
)
def test_what_is_meant_is_not_remarked_on(text: str) -> None:
    """The same keys with other values are fine."""
    assert _warnings(text) == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a", "name: a, user: root"),
        ("name: a", "name: a, scope: main"),
        ("name: [a, b, c]", "name: [c, a]"),
        ("name: 'a*'", "name: abc"),
        ("name: 'a*'", "name: 'a*'"),
        ("name: 'a*'", "name: 'ab*'"),
        ("name: 'a*'", "name: 'a?c'"),
        ("name: '*'", "name: [x, '*y']"),
        ("name: '[ab]'", "name: '[ab]'"),
        ("user: root", "name: x, user: root"),
        ("name: a, user: root", "name: a, user: root, trust: name, children: inherit"),
        ("name: a, containers: true", "name: a"),
        ("unit: '*.service'", "unit: '*.service'"),
    ],
)
def test_a_rule_in_the_shadow_of_another_is_found(earlier: str, later: str) -> None:
    """The same or a broader name, and no other condition or the same ones."""
    assert "shadowed-rule" in _codes(_rules(earlier, later))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a", "name: b"),
        ("name: a", "name: [a, b]"),
        ("name: abc", "name: 'a*'"),
        ("name: 'ab*'", "name: 'a*'"),
        ("name: 'a?'", "name: 'a*'"),
        ("name: '?'", "name: '*'"),
        ("name: a, user: root", "name: a"),
        ("name: a, user: root", "name: a, user: 1"),
        ("name: a, scope: main", "name: a"),
        ("name: a", "name: a, containers: true"),
        ("name: a", "user: root"),
        ("unit: '*'", "name: x"),
    ],
)
def test_a_rule_that_still_matches_something_is_not_called_shadowed(earlier: str, later: str) -> None:
    """Narrow before broad is how rules are meant to be written."""
    assert _codes(_rules(earlier, later)) == []


def test_two_rules_may_shadow_a_third_together() -> None:
    """The later of the two is named: with it the last name is gone."""
    (fault,) = _warnings(_rules("name: a", "name: b", "name: [b, a]"))
    assert "0.yaml:3 (name=b)" in fault.message


def test_users_this_host_does_not_have_are_only_said_for_this_host() -> None:
    """A policy may be checked on one machine and used on another."""
    text = "rules: [{name: x, user: [root, nosuchuser, 4242], oom_score_adj: 1}]"
    assert _warnings(text) == ()
    (fault,) = _warnings(text, host=True)
    assert str(fault) == "0.yaml:1:32: warning: rules[0].user[1]: this host has no user nosuchuser"
    assert fault.code == "unknown-user"


def test_warnings_come_in_the_order_of_files_and_lines() -> None:
    """Whatever check they come from."""
    first = "rules:\n- {name: a, oom_score_adj: -1000}\n"
    second = (
        "rules:\n- {name: b, oom_score_adj: -1000}\n- {name: a, oom_score_adj: 1}\nvm: {panic_on_oom: 1}\n"
    )
    found = parse(sources(first, second)).warnings
    assert [(fault.file, fault.line, fault.path) for fault in found] == [
        ("0.yaml", 2, "rules[0].oom_score_adj"),
        ("1.yaml", 2, "rules[0].oom_score_adj"),
        ("1.yaml", 3, "rules[1]"),
        ("1.yaml", 4, "vm.panic_on_oom"),
    ]
