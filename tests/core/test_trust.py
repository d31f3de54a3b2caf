"""Whom a rule may protect, from the facts alone."""

from typing import Any

import pytest

from oomguard.core.policy import Rule, Terms, Value
from oomguard.core.process import Identity, Process, Program
from oomguard.core.trust import is_system_uid, trust_refusal

SERVICE = "/system.slice/a.service"


def protecting(**terms: Any) -> Rule:
    """Return a rule that protects what is called x."""
    return Rule(0, (b"x",), Terms(Value("exact", -1))._replace(**terms), "p.yaml", 1)


@pytest.mark.parametrize(
    ("terms", "facts", "refused"),
    [
        ({}, {"uid": 1000}, "uid 1000 may call any program that name"),
        ({}, {"uid": 0}, ""),
        ({}, {"uid": 0, "in_user_namespace": True}, "uid 0 may call any program that name"),
        ({}, {"uid": 0, "is_setuid": True}, "setuid"),
        ({}, {"uid": 33, "cgroup": SERVICE}, ""),
        ({}, {"uid": 33, "cgroup": SERVICE, "is_setuid": True}, "setuid"),
        ({}, {"uid": 1000, "cgroup": SERVICE}, "uid 1000"),
        ({}, {"uid": 33, "cgroup": "/system.slice/a.scope"}, "uid 33"),
        ({}, {"uid": 33, "cgroup": "/user.slice/system.slice/a.service"}, "uid 33"),
        ({"trust": "name"}, {"uid": 1000}, ""),
        ({"users": ("a",), "uids": (1000,)}, {"uid": 1000}, ""),
        ({"users": ("root",), "uids": (0,)}, {"uid": 0, "is_setuid": True}, "setuid"),
        ({"units": ("a.service",)}, {"uid": 1000}, ""),
        ({"cgroups": ("/a",)}, {"uid": 1000}, ""),
        ({"cmdlines": ("a",)}, {"uid": 1000}, "uid 1000"),
        ({"user_units": ("a.service",)}, {"uid": 1000}, "uid 1000"),
    ],
)
def test_protection_takes_more_than_a_name(
    terms: dict[str, Any], facts: dict[str, Any], refused: str
) -> None:
    """Lowering does; raising and leaving never do."""
    process = Process(Identity(2, 2), b"x")._replace(**facts)
    refusal = trust_refusal(protecting(**terms), process, own=0, wanted=-1)
    assert (refusal is None) is (refused == "")
    assert refusal is None or (refused in refusal.reason and refusal.hint)
    assert trust_refusal(protecting(**terms), process, own=0, wanted=0) is None
    assert trust_refusal(protecting(**terms), process, own=0, wanted=1) is None


@pytest.mark.parametrize(
    ("program", "by_name", "by_exe"),
    [
        (None, False, False),
        (Program("/usr/bin/x"), False, False),
        (Program("/usr/bin/x", is_hosts=True), False, True),
        (Program("/usr/bin/x", is_hosts=True, only_root_changes=True), True, True),
        (Program("/usr/bin/python3.11", is_hosts=True, only_root_changes=True), False, True),
        (Program("/usr/bin/xy", is_hosts=True, only_root_changes=True), False, True),
    ],
)
def test_an_executable_vouches_if_it_is_the_hosts(
    program: Program | None, *, by_name: bool, by_exe: bool
) -> None:
    """For a rule with `exe` that is enough; one without wants root's file of the rule's name."""
    process = Process(Identity(2, 2), b"x", uid=1000, program=program)
    assert (trust_refusal(protecting(), process, own=0, wanted=-1) is None) is by_name
    assert (trust_refusal(protecting(exes=("/*",)), process, own=0, wanted=-1) is None) is by_exe


@pytest.mark.parametrize(
    ("uid", "is_system"),
    [(0, True), (999, True), (1000, False), (60513, False), (61184, True), (65534, True), (100_000, False)],
)
def test_people_are_told_from_services_by_uid(uid: int, *, is_system: bool) -> None:
    """As systemd tells them; a person's containers run as subordinate uids, which are a person's."""
    assert is_system_uid(uid) is is_system
