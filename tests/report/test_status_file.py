"""The status file: what is written is what is read, and nothing else is."""

import json
import tracemalloc
from typing import Any

import pytest

from oomguard.core.choices import SysctlKind
from oomguard.report.status_file import (
    ChangeCount,
    Complaint,
    ContendedValue,
    KillCount,
    LastKill,
    RecentChange,
    RuleStatus,
    StillRaised,
    SysctlStatus,
    encode_status,
)
from oomguard.report.status_reader import StatusError, decode_status
from statuses import IDLE

BUSY = IDLE._replace(
    policy=IDLE.policy._replace(path="/b", files=("/a", "/b"), errors=("line one", "line two")),
    sysctls=(SysctlStatus("vm.nr_hugepages", 14, 13, "/a:1"),),
    rules=(RuleStatus(2, "name=sshd", "/a:2", "-900", 3),),
    changes=(ChangeCount("oom_score_adj", "exec", "applied", 4),),
    complaints=(Complaint("sshd[7]", -900, "denied", "no", "try", "name=sshd, /a:2", 5),),
    kills=(KillCount("", protected=True, count_=6),),
    last_kills=(LastKill(2.5, 9, "chrome", 1000, 700, ""),),
    contended=(ContendedValue("oom_score_adj", 7, 70), ContendedValue("vm.swappiness")),
    limits=("no events",),
    still_raised=(StillRaised(7, 70, 0),),
    recent=(RecentChange(1.25, "sshd[7]", 0, -900, "exec", "name=sshd, /a:2"),),
    started_at=1.5,
)


@pytest.mark.parametrize("status", [IDLE, BUSY], ids=["idle", "busy"])
def test_what_was_written_is_read(status: Any) -> None:
    """Field by field."""
    assert decode_status(encode_status(status), "x") == status


def test_the_keys_are_the_fields() -> None:
    """Without the `_` of those that Python has another use for; a sysctl has no pid."""
    document = json.loads(encode_status(BUSY))
    assert document.keys() == set(BUSY._fields)
    assert document["recent"][0].keys() == {"at", "subject", "from", "to", "cause", "by"}
    assert document["kills"] == [{"rule": "", "protected": True, "count": 6}]
    assert document["contended"] == [
        {"target": "oom_score_adj", "pid": 7, "start_time_ticks": 70},
        {"target": "vm.swappiness"},
    ]


def test_a_newer_daemon_may_write_more_keys() -> None:
    """In the file and in its parts."""
    document = json.loads(encode_status(BUSY))
    document["new"] = document["policy"]["new"] = document["rules"][0]["new"] = 1
    assert decode_status(json.dumps(document).encode(), "x") == BUSY


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format": 2}, "format 2"),
        ({"pid": "7"}, "pid: not int"),
        ({"pid": True}, "pid: not int"),
        ({"throttled": 0}, "throttled: not bool"),
        ({"started_at": "now"}, "started_at: not float"),
        ({"started_at": float("nan")}, "started_at: out of range"),
        ({"written_at": -1e400}, "written_at: out of range"),
        ({"started_at": 1 << 70}, "started_at: out of range"),
        ({"passes": 1 << 64}, "passes: out of range"),
        ({"limits": "none"}, "limits: no list"),
        ({"policy": None}, "policy:  is not a mapping"),
        ({"policy": {}}, "policy: path is missing"),
        ({"rules": [{}]}, "rules: number is missing"),
        ({"sysctls": [{"name": "vm.x", "wanted": 1, "granted": 1, "source": ""}]}, "sysctls: no such sysctl"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], found: str) -> None:
    """With its place, the file, and what to do."""
    document = json.loads(encode_status(BUSY)) | changes
    with pytest.raises(StatusError) as error:
        decode_status(json.dumps(document).encode(), "/run/status.json")
    assert error.value.message == f"/run/status.json: not a status file of this version ({found})"
    assert "restart the daemon" in str(error.value.hint)


def test_what_this_python_cannot_print_is_escaped() -> None:
    """A newer one, in an image, knows more characters: any user could make such a name."""
    document = json.loads(encode_status(BUSY)) | {"limits": ["\x1b[2J", "\ud800", "\U0003fffd", "ü"]}
    assert decode_status(json.dumps(document).encode(), "x") == BUSY._replace(
        limits=(r"\x1b[2J", r"\ud800", r"\U0003fffd", "ü")
    )


@pytest.mark.parametrize("key", IDLE._fields[1:])
def test_every_key_is_needed(key: str) -> None:
    """Another version's file has others."""
    document = json.loads(encode_status(IDLE))
    del document[key]
    with pytest.raises(StatusError, match=f"{key} is missing"):
        decode_status(json.dumps(document).encode(), "x")


@pytest.mark.parametrize(
    ("kind", "actual", "desired"),
    [("exact", 11, 10), ("at_least", 11, 11), ("at_least", 9, 10), ("at_most", 9, 9), ("at_most", None, 10)],
)
def test_a_value_within_its_bound_is_the_desired_one(
    kind: SysctlKind, actual: int | None, desired: int
) -> None:
    """An alert compares the two."""
    assert SysctlStatus("vm.swappiness", 10, 10, "/a:1", kind).desired(actual) == desired


def test_a_bound_that_is_none_is_refused() -> None:
    """Whoever wrote it."""
    status = IDLE._replace(sysctls=(SysctlStatus("vm.swappiness", 1, 1, "/a:1", "at_least", "at least 1"),))
    raw = encode_status(status)
    assert decode_status(raw, "x") == status
    with pytest.raises(StatusError, match="unknown"):
        decode_status(raw.replace(b'"at_least"', b'"at_best"'), "x")


def test_the_rows_of_many_rules_are_not_all_in_memory_at_once() -> None:
    """The daemon's peak stays its size: the text, its parts, and their joined and encoded copies."""
    rules = tuple(RuleStatus(number, "name=some", "/a:1", "300", 1) for number in range(1000))
    status = IDLE._replace(rules=rules)
    tracemalloc.start()
    try:
        size = len(encode_status(status))
        assert tracemalloc.get_traced_memory()[1] < 5 * size
    finally:
        tracemalloc.stop()
