"""Which processes a rule may protect, from the facts alone."""

from typing import Any

import pytest

from oomguard.core.decide import Refusal
from oomguard.core.process import Identity, Process, Program
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.trust import is_of_services, trust_refusal

SERVICE = "/system.slice/a.service"


def protecting(**terms: Any) -> Rule:
    """Return a rule that protects what is called x."""
    return Rule(0, (b"x",), Terms(Value("exact", -1))._replace(**terms), "p.yaml", 1)


def asked(rule: Rule, process: Process, *, wanted: int = -1) -> Refusal | None:
    """Return why the rule must not take the process from 0 to `wanted`."""
    rule = rule._replace(terms=rule.terms._replace(value=Value("exact", wanted)))
    return trust_refusal(rule, process, own=0, first_person_uid=1000)


@pytest.mark.parametrize(
    ("terms", "facts", "refused"),
    [
        ({}, {"uid": 1000}, "uid 1000 could give any program this name"),
        ({}, {"uid": 0}, ""),
        ({}, {"uid": 0, "in_user_namespace": True}, "uid 0 could give any program this name"),
        ({}, {"uid": 0, "in_pid_namespace": True}, "uid 0"),
        ({}, {"uid": 0, "in_pid_namespace": True, "cgroup": SERVICE}, ""),
        ({}, {"uid": 0, "in_pid_namespace": True, "cgroup": f"{SERVICE}/payload"}, "uid 0"),
        ({}, {"uid": 33, "in_pid_namespace": True, "cgroup": f"{SERVICE}/payload"}, "uid 33"),
        ({}, {"uid": 33, "cgroup": f"{SERVICE}/workers"}, ""),
        ({}, {"uid": 1000, "saved": 0}, "uid 1000"),
        ({}, {"uid": 0, "saved": 1000}, "uid 0"),
        ({}, {"uid": 33, "cgroup": SERVICE}, ""),
        ({}, {"uid": 33, "saved": 1000, "cgroup": SERVICE}, "uid 33"),
        ({}, {"uid": 1000, "cgroup": SERVICE}, "uid 1000"),
        ({}, {"uid": 1000, "saved": 0, "cgroup": SERVICE}, "uid 1000"),
        ({}, {"uid": 33, "cgroup": "/system.slice/a.scope"}, "uid 33"),
        ({}, {"uid": 33, "cgroup": "/user.slice/system.slice/a.service"}, "uid 33"),
        ({"trust": "name"}, {"uid": 1000}, ""),
        ({"users": ("a",), "uids": (1000,)}, {"uid": 1000}, ""),
        ({"users": ("a",), "uids": (1000,)}, {"uid": 1000, "saved": 0}, ""),
        ({"users": ("root",), "uids": (0,)}, {"uid": 0, "saved": 1000}, "can become uid 1000"),
        ({"units": ("a.service",)}, {"uid": 1000}, ""),
        ({"cgroups": ("/a",)}, {"uid": 1000}, ""),
        ({"cgroups": ("/a",)}, {"uid": 1000, "cgroup_is_roots": False}, "a cgroup with any name"),
        ({"cgroups": ("/a",)}, {"uid": 1000, "cgroup_is_roots": None}, "a cgroup with any name"),
        ({"cgroups": ("/a",), "units": ("a.scope",)}, {"uid": 1000, "cgroup_is_roots": False}, ""),
        ({"cgroups": ("/a",), "users": ("a",), "uids": (1000,)}, {"uid": 1000, "cgroup_is_roots": False}, ""),
        ({"cgroups": ("/a",)}, {"uid": 0, "cgroup_is_roots": False}, ""),
        ({"cmdlines": ("a",)}, {"uid": 1000}, "uid 1000"),
        ({"user_units": ("a.service",)}, {"uid": 1000}, "uid 1000"),
    ],
)
def test_protection_takes_more_than_a_name(
    terms: dict[str, Any], facts: dict[str, Any], refused: str
) -> None:
    """Lowering does; raising and leaving never do."""
    process = Process(Identity(2, 2), b"x")._replace(**facts)
    refusal = asked(protecting(**terms), process)
    assert (refusal is None) is (refused == "")
    assert refusal is None or (refused in refusal.reason and refusal.hint)
    assert asked(protecting(**terms), process, wanted=0) is None
    assert asked(protecting(**terms), process, wanted=1) is None


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
    assert (asked(protecting(), process) is None) is by_name
    assert (asked(protecting(exes=("/*",)), process) is None) is by_exe


@pytest.mark.parametrize(
    ("program", "is_trusted"),
    [(None, False), (Program("/usr/bin/x"), False), (Program("/usr/bin/x", is_hosts=True), True)],
)
def test_an_executable_vouches_for_one_that_can_become_another_user(
    program: Program | None, *, is_trusted: bool
) -> None:
    """As the refusal of a rule with `user` alone suggests."""
    process = Process(Identity(2, 2), b"x", uid=1000, saved=1001, program=program)
    by_user = protecting(users=("a",), uids=(1000,))
    refusal = asked(by_user, process)
    assert refusal is not None
    assert "`exe`" in refusal.hint
    by_both = by_user._replace(terms=by_user.terms._replace(exes=("/usr/bin/x",)))
    assert asked(by_both, process) == (None if is_trusted else refusal)


@pytest.mark.parametrize(
    ("uid", "is_service"),
    [(0, True), (499, True), (500, False), (999, False), (60513, False), (61500, False), (65534, True)],
)
def test_people_begin_where_the_host_says(uid: int, *, is_service: bool) -> None:
    """From UID_MIN, but for nobody; subordinate uids of a person's containers are a person's."""
    assert is_of_services(Process(Identity(2, 2), b"x", uid=uid), 500) is is_service


def test_a_dynamic_uid_is_a_services_if_systemd_made_it_up() -> None:
    """A directory service may give people uids of that range; and a service cannot be half a person."""
    dynamic = Process(Identity(2, 2), b"x", uid=61500, has_dynamic_uid=True)
    assert is_of_services(dynamic, 1000)
    assert not is_of_services(dynamic._replace(has_dynamic_uid=False), 1000)
    assert not is_of_services(dynamic._replace(saved=1000), 1000)
    assert not is_of_services(dynamic._replace(uid=1000), 1000)
