"""What is known of each condition, held against the code that tries it; and the kinds of value."""

from typing import Any

import pytest

from oomguard.core.match import Matcher, first_unmet
from oomguard.core.process import CMDLINE_LIMIT, Identity, Process, Program
from oomguard.core.rule import CONDITIONS, Condition, Rule, Terms, Value
from oomguard.core.trust import trust_refusal

MET: dict[str, tuple[str, ...]] = {
    "name": ("probe",),
    "exe": ("/usr/bin/probe",),
    "cmdline": ("--yes",),
    "user": ("alice",),
    "unit": ("user@1000.service",),
    "user_unit": ("a.service",),
    "cgroup": ("/user.slice/*",),
}
"""What the process below meets: an ordinary user's, in a cgroup and with a program that root made."""

PROCESS = Process(
    Identity(10, 1),
    b"probe",
    arguments=(b"probe", b"--yes"),
    uid=1000,
    cgroup="/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
    cgroup_is_roots=True,
    exe="/usr/bin/probe",
    program=Program("/usr/bin/other", is_hosts=True),
)

OTHER = Process(Identity(11, 1), b"other", arguments=(b"other",), uid=1001)


def with_conditions(*keys: str) -> Rule:
    """Return a rule that protects, with these conditions."""
    fields: dict[str, Any] = {row.field: MET[row.key] for row in CONDITIONS if row.key in keys}
    names = tuple(name.encode() for name in fields.pop("names", ()))
    uids = (1000,) if "user" in keys else ()
    return Rule(0, names, Terms(Value("exact", -500), uids=uids, **fields), "test.yaml", 1)


def test_conditions_are_tried_from_cheap_to_expensive() -> None:
    """Each may cost a system call, and the first that fails spares the others."""
    left = {row.key: row for row in CONDITIONS}
    tried = []
    while left:
        unmet = first_unmet(with_conditions(*left), OTHER)
        assert unmet is not None, f"no line in core/match.py tries {', '.join(left)}"
        tried.append(left.pop(unmet).cost)
    assert tried == sorted(tried)


@pytest.mark.parametrize("row", CONDITIONS, ids=lambda row: row.key)
def test_a_condition_alone_is_met_or_named(row: Condition) -> None:
    """And what is found instead can be shown."""
    rule = with_conditions(row.key)
    assert rule.has_only(row.key)
    assert first_unmet(rule, PROCESS) is None
    assert first_unmet(rule, OTHER) == row.key
    assert row.found(OTHER) not in ("", b"")


@pytest.mark.parametrize("row", CONDITIONS, ids=lambda row: row.key)
def test_a_user_gets_protection_only_by_a_condition_that_vouches(row: Condition) -> None:
    """The process is one that root prepared; beside the name, it meets one more condition."""
    rule = with_conditions("name", row.key)
    refusal = trust_refusal(rule, PROCESS, own=0, first_person_uid=1000)
    assert (refusal is None) == row.vouches == rule.vouches


@pytest.mark.parametrize("row", CONDITIONS, ids=lambda row: row.key)
def test_only_a_condition_that_can_change_is_asked_again(row: Condition) -> None:
    """A process in whose life none can change needs no second look."""
    matcher = Matcher([with_conditions("name", row.key)])
    assert matcher.is_decided_by_name(b"probe") != row.can_change


@pytest.mark.parametrize(
    ("value", "own", "wanted"),
    [
        (Value("exact", 0), 5, 0),
        (Value("exact", -1000), 5, -1000),
        (Value("keep"), 5, 5),
        (Value("at_most", 0), 5, 0),
        (Value("at_most", 0), -5, -5),
        (Value("at_least", 0), -5, 0),
        (Value("at_least", 0), 5, 5),
    ],
)
def test_each_kind_of_value_makes_its_own_of_what_is_there(value: Value, own: int, wanted: int) -> None:
    """`keep` leaves it alone, 0 is a value."""
    assert value.wanted(own) == wanted


def test_of_a_command_line_that_is_cut_it_is_said() -> None:
    """Or the rest of it, which no pattern sees, looks as if it had been searched."""
    (found,) = (row.found for row in CONDITIONS if row.key == "cmdline")
    for length, is_cut in ((CMDLINE_LIMIT, True), (CMDLINE_LIMIT - 1, True), (CMDLINE_LIMIT - 2, False)):
        text = found(Process(Identity(1, 1), b"java", arguments=(b"java", b"x" * (length - 5))))
        assert str(text).endswith("xx… (only its first 4096 bytes are read)") is is_cut
