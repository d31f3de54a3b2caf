"""What cannot be known of a process in time: nothing is taken back, and nobody escapes."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from fakeproc import FakeKernel, FakeProc, due
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process, UnknownFactError
from oomguard.kernel.slow_reads import VERB_SECONDS, SlowReads, Spender, patient_reads
from oomguard.policy.load import load
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from running import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = "systemd-networkd"
COMM = LONG.encode()[:15]
PERSON = 1000
_T = TypeVar("_T")


class Mute(SlowReads):
    """A host on which no process lets itself be read, unless `answers` is set."""

    def __init__(self, *, is_transient: bool = False) -> None:
        super().__init__()
        self.is_transient = is_transient
        self.answers = False
        self.asked = 0

    def call(
        self, fd: int, read: "Callable[[int], _T]", spender: "Callable[[], Spender]", what: str = ""
    ) -> _T:
        """Return the answer of the last process, and none of others'."""
        self.asked += 1
        if self.answers:
            return read(fd)
        raise UnknownFactError("no answer", is_transient=self.is_transient)


def policy(tmp_path: Path, rules: str) -> Policy:
    """Return a policy of these rules."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"rules:\n{rules}")
    return load(str(file)).policy


def value(proc: FakeProc, pid: int) -> int:
    """Return the value that a process has."""
    return int((proc.root / str(pid) / "oom_score_adj").read_text())


def test_a_protective_rule_does_not_read_what_it_would_refuse_anyway(proc: FakeProc, tmp_path: Path) -> None:
    """Any user may call a program like the shipped policy's services, and make its command line hang."""
    proc.process(Process(Identity(20, 1), COMM, uid=PERSON))
    mute = Mute()
    rules = f"- {{name: {LONG}, oom_score_adj: -500}}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), mute))
    assert due(reconciler) == []
    assert mute.asked <= 1, "only for the report of the refusal"


def test_other_conditions_are_asked_before_the_command_line(proc: FakeProc, tmp_path: Path) -> None:
    """What the kernel tells at once decides without it."""
    proc.process(Process(Identity(20, 1), COMM, uid=PERSON, cgroup="/user.slice"))
    mute = Mute()
    rules = f"""\
- {{name: {LONG}, unit: a.service, oom_score_adj: 100}}
- {{name: {LONG}, user: root, oom_score_adj: 100}}
- {{cmdline: x, cgroup: /system.slice/*, oom_score_adj: 100}}
"""
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), mute))
    assert due(reconciler) == []
    assert mute.asked == 0


@pytest.mark.parametrize("given", [-500, 300])
def test_what_a_process_was_given_stays_while_it_cannot_be_read(
    proc: FakeProc, tmp_path: Path, given: int
) -> None:
    """Not known is not unmatched: a host that thrashes would lose its protection just then."""
    proc.process(Process(Identity(20, 1), COMM))
    mute = Mute()
    mute.answers = True
    wanted = policy(tmp_path, f"- {{name: {LONG}, oom_score_adj: {given}}}\n")
    (proc.root / "20/cmdline").write_bytes(b"/usr/lib/" + LONG.encode() + b"\0")
    reconciler = Reconciler(wanted, Ledger(), FakeKernel(str(proc.root), mute))
    assert [o.result for o in reconciler.everything("start", 0.0)] == ["applied"]
    mute.answers = False
    assert [*reconciler.everything("resync", 1.0)] == []
    reconciler.adopt(wanted)  # a reload forgets which rule it was
    assert [*reconciler.everything("policy", 2.0)] == []
    assert value(proc, 20) == given
    assert reconciler.managed.unreadable


def test_nobody_escapes_a_later_rule_by_not_being_readable(proc: FakeProc, tmp_path: Path) -> None:
    """A rule that cannot be judged does not match for those who could choose that it cannot."""
    proc.process(Process(Identity(20, 1), COMM, uid=PERSON))
    proc.process(Process(Identity(21, 1), COMM, uid=0))
    rules = f"- {{name: {LONG}, oom_score_adj: 100}}\n- {{user: [root, {PERSON}], oom_score_adj: 800}}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), Mute()))
    assert [o.change.after for o in reconciler.everything("start", 0.0)] == [800]
    assert (value(proc, 20), value(proc, 21)) == (800, 0)


def test_what_cannot_be_read_and_lowers_itself_is_raised_again(proc: FakeProc, tmp_path: Path) -> None:
    """The rule that raised it still applies."""
    proc.process(Process(Identity(20, 1), COMM, uid=PERSON))
    mute = Mute()
    mute.answers = True
    (proc.root / "20/cmdline").write_bytes(LONG.encode() + b"\0")
    wanted = policy(tmp_path, f"- {{name: {LONG}, oom_score_adj: 300}}\n")
    reconciler = Reconciler(wanted, Ledger(), FakeKernel(str(proc.root), mute))
    assert [o.result for o in reconciler.everything("start", 0.0)] == ["applied"]
    mute.answers = False
    (proc.root / "20/oom_score_adj").write_text("0\n")
    assert [(o.change.cause, o.result) for o in reconciler.everything("resync", 1.0)] == [
        ("drift", "applied")
    ]
    assert value(proc, 20) == 300


def test_what_a_busy_host_could_not_read_is_asked_again_soon(proc: FakeProc, tmp_path: Path) -> None:
    """It is neither reported nor decided."""
    proc.process(Process(Identity(20, 1), COMM, uid=PERSON))
    rules = f"- {{name: {LONG}, oom_score_adj: 100}}\n- {{user: {PERSON}, oom_score_adj: 800}}\n"
    reconciler = Reconciler(
        policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), Mute(is_transient=True))
    )
    assert due(reconciler) == []
    assert reconciler.managed.postponed == {20}
    assert not reconciler.managed.unreadable


def test_what_is_unknown_keeps_nothing_that_is_inherited(proc: FakeProc, tmp_path: Path) -> None:
    """Whoever cannot be read and is not trusted is reset like everybody else."""
    ledger = Ledger()
    ledger.record(Identity(10, 1), Entry(0, -500))
    proc.process(Process(Identity(10, 1), b"guard", oom_score_adj=-500))
    proc.process(Process(Identity(20, 5), COMM, parent_pid=10, uid=PERSON, oom_score_adj=-500))
    rules = f"- {{name: guard, oom_score_adj: -500}}\n- {{name: {LONG}, oom_score_adj: 100}}\n"
    reconciler = Reconciler(policy(tmp_path, rules), ledger, FakeKernel(str(proc.root), Mute()))
    assert [o.change.after for o in reconciler.everything("start", 0.0)] == [0]
    assert value(proc, 20) == 0


def test_nobody_escapes_a_later_rule_by_hiding_the_executable(proc: FakeProc, tmp_path: Path) -> None:
    """His tracer keeps so many ended threads that none is found that lives."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON), state="Z", threads=500)
    for tid in range(100, 600):
        thread = proc.root / f"20/task/{tid}"
        thread.mkdir(parents=True)
        (thread / "stat").write_bytes((proc.root / "20/stat").read_bytes())
    rules = f"- {{exe: /opt/build/*, oom_score_adj: 900}}\n- {{user: {PERSON}, oom_score_adj: 800}}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root)))
    assert [change.after for change in due(reconciler)] == [800]
    handle = reconciler.procfs.open(20)
    assert handle is not None
    with handle:
        assert handle.snapshot().exe is None


def test_a_process_that_ends_before_it_is_known_whose_it_was_ends_nothing_else(
    proc: FakeProc, tmp_path: Path
) -> None:
    """Its executable cannot be read, and then neither can its cgroup, which tells who is to be reported."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON), state="Z", threads=500)
    (proc.root / "20/task").mkdir(exist_ok=True)
    (proc.root / "20/cgroup").unlink()
    reconciler = Reconciler(
        policy(tmp_path, "- {exe: /opt/build/*, oom_score_adj: 900}\n"),
        Ledger(),
        FakeKernel(str(proc.root)),
    )
    assert due(reconciler) == []
    handle = reconciler.procfs.open(20)
    assert handle is not None
    with handle:
        assert not handle.spender().is_root


def test_root_of_a_container_takes_no_thread_that_is_left_for_root(proc: FakeProc, tmp_path: Path) -> None:
    """It pays like any user, with all of its container."""
    rules = "- {name: a, oom_score_adj: 1}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root)))
    for pid, inside in ((20, True), (21, False)):
        cgroup = "/system.slice/docker-1.scope"
        proc.process(Process(Identity(pid, 1), b"a", cgroup=cgroup, in_pid_namespace=inside))
        handle = reconciler.procfs.open(pid)
        assert handle is not None
        with handle:
            expected = ("docker-1.scope", False) if inside else ("pid 21", True)
            assert handle.spender() == expected


class Spent(SlowReads):
    """A host whose users have used up the time that it takes to read their long files."""

    def __init__(self) -> None:
        super().__init__(deadline_seconds=VERB_SECONDS, is_patient=True)  # it may be busy with other tests

    def read_long(self, read: "Callable[[], bytes]", payer: "Callable[[], str]") -> bytes:
        """Return root's only."""
        raw = read()
        if b"\nUid:\t0\t" in raw:
            return raw
        raise UnknownFactError("no time left")


@pytest.mark.parametrize("cgroup", ["/user.slice/user-1000.slice/a.scope", "/system.slice/cron.service"])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("name: hog", 800),
        ('cgroup: "/*"', 800),
        (f"user: {PERSON}", 800),
        (f"user: {PERSON + 1}", 0),
    ],
)
def test_who_makes_his_status_long_is_still_raised_by_what_is_known_without_it(
    proc: FakeProc, tmp_path: Path, condition: str, expected: int, cgroup: str
) -> None:
    """Nobody there is in a container, and the folder of a process belongs to its effective uid."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, cgroup=cgroup))
    os.chown(proc.root / "20", PERSON, -1)
    wanted = policy(tmp_path, f"- {{{condition}, oom_score_adj: 800}}\n")
    kernel = FakeKernel(str(proc.root), Spent())
    reconciler = Reconciler(wanted, Ledger(), kernel)
    for now in (0.0, 1.0):
        for outcome in reconciler.everything("resync", now):
            assert outcome.result == "applied"
        assert value(proc, 20) == expected
    kernel.slow_reads = patient_reads()
    assert [*reconciler.everything("resync", 2.0)] == []
    assert value(proc, 20) == expected


@pytest.mark.parametrize("cgroup", ["/system.slice/cron.service", "/user.slice/user-1000.slice/a.scope"])
@pytest.mark.parametrize("told", ["by a fork", "by evidence"])
@pytest.mark.parametrize("condition", [f"user: {PERSON}", "name: job, cmdline: never"])
def test_nobody_keeps_inherited_protection_by_a_long_status(
    proc: FakeProc, tmp_path: Path, cgroup: str, told: str, condition: str
) -> None:
    """Other processes of the user use up the time, so that nobody knows that this one is not root's."""
    ledger = Ledger()
    if told == "by a fork":
        ledger.record(Identity(10, 1), Entry(0, -900))
        proc.process(Process(Identity(10, 1), b"cron", oom_score_adj=-900))
    else:
        ledger.record_protection(-900, "cron.service", 0, 1)
    proc.process(
        Process(Identity(20, 5), b"job", parent_pid=10, uid=PERSON, cgroup=cgroup, oom_score_adj=-900)
    )
    wanted = policy(
        tmp_path, f"- {{name: cron, oom_score_adj: -900}}\n- {{{condition}, oom_score_adj: 800}}\n"
    )
    reconciler = Reconciler(wanted, ledger, FakeKernel(str(proc.root), Spent()))
    assert [o.change.after for o in reconciler.everything("resync", 0.0)] == [0]
    assert value(proc, 20) == 0


@pytest.mark.parametrize(
    ("condition", "expected"), [("", 0), (", unit: a.service", 0), (f", user: [root, {PERSON}]", -900)]
)
def test_who_was_protected_as_root_keeps_nothing_as_another_user(
    proc: FakeProc, tmp_path: Path, condition: str, expected: int
) -> None:
    """A job of cron's is matched while it is root, becomes its user's, and then cannot be read.

    Where the rule names the user and only the command line is unknown, the process keeps its value.
    """
    kernel = FakeKernel(str(proc.root))
    name = LONG if condition else "cron"
    rules = f"- {{user: 7, oom_score_adj: 300}}\n- {{name: {name}{condition}, oom_score_adj: -900}}\n"
    rules += "- {cmdline: never, oom_score_adj: 300}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), kernel)
    job = Process(
        Identity(20, 5), name.encode()[:15], arguments=(name.encode(),), cgroup="/system.slice/a.service"
    )
    proc.process(job)
    assert [o.result for o in reconciler.everything("start", 0.0)] == ["applied"]
    job = job._replace(comm=COMM if condition else b"sh", uid=PERSON, cgroup="/user.slice/a.scope")
    proc.process(job._replace(oom_score_adj=-900))
    kernel.slow_reads = Mute() if condition else Spent()
    for _ in reconciler.everything("resync", 1.0):
        pass
    assert value(proc, 20) == expected


def test_the_original_stays_known_of_who_cannot_be_read_and_is_rewritten(
    proc: FakeProc, tmp_path: Path
) -> None:
    """What somebody wrote meanwhile does not become its own value: it is corrected once it can be read."""
    kernel = FakeKernel(str(proc.root))
    wanted = policy(tmp_path, f"- {{name: keep, user: {PERSON}, oom_score_adj: -900}}\n")
    reconciler = Reconciler(wanted, Ledger(), kernel)
    proc.process(Process(Identity(20, 5), b"keep", uid=PERSON, oom_score_adj=5))
    for slow_reads, written, expected in ((None, 5, -900), (Spent(), 23, 23), (None, 23, -900)):
        kernel.slow_reads = slow_reads or patient_reads()
        proc.set_oom_score_adj(20, written)
        for _ in reconciler.everything("resync", 1.0):
            pass
        assert value(proc, 20) == expected
    reconciler.adopt(Policy())
    for _ in reconciler.everything("restore", 2.0):
        pass
    assert value(proc, 20) == 5


def test_nobody_keeps_a_floor_by_a_long_status(proc: FakeProc, tmp_path: Path) -> None:
    """Whether it has one that was inherited is asked again once there is time."""
    ledger = Ledger()
    ledger.record_protection(-900, "", 0, 1)
    proc.process(Process(Identity(20, 5), b"job", uid=PERSON))
    kernel = FakeKernel(str(proc.root), Spent())
    reconciler = Reconciler(policy(tmp_path, "- {name: guard, oom_score_adj: -900}\n"), ledger, kernel)
    for has_time in (False, True):
        kernel.slow_reads = patient_reads() if has_time else Spent()
        assert (reconciler.process(20, "resync", 0.0, in_pass=True) is not None) is has_time
        assert reconciler.managed.unread == {20}


@pytest.mark.parametrize("is_first", [True, False], ids=["the first", "the last"])
def test_a_host_that_is_busy_counts_for_more_than_a_process_that_does_not_answer(
    proc: FakeProc, tmp_path: Path, *, is_first: bool
) -> None:
    """With several rules that cannot be tried: another try at once may succeed."""
    proc.process(Process(Identity(20, 1), b"x", uid=PERSON))

    class Alternating(Mute):
        def call(
            self, fd: int, read: "Callable[[int], _T]", spender: "Callable[[], Spender]", what: str = ""
        ) -> _T:
            self.is_transient = (self.asked == 0) is is_first
            return super().call(fd, read, spender, what)

    rules = "- {cmdline: a, oom_score_adj: 100}\n- {cmdline: b, oom_score_adj: 200}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), Alternating()))
    assert due(reconciler) == []
    assert reconciler.managed.postponed == {20}


def test_of_several_rules_that_must_not_protect_a_process_the_first_is_told(
    proc: FakeProc, tmp_path: Path
) -> None:
    """Even if another could not be tried."""
    proc.process(Process(Identity(20, 1), COMM, uid=PERSON))
    rules = f"- {{name: {LONG}, oom_score_adj: -500}}\n"
    rules += "".join(f"- {{name: '{LONG[:9]}*', oom_score_adj: {value}}}\n" for value in (-300, -200))
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), Mute()))
    (change,) = due(reconciler)
    assert change.after == -300
    assert change.obstacle is not None
    assert change.obstacle.kind == "refused"


class Busy(Spent):
    """Of no process it can be read whose it is."""

    def read_long(self, read: "Callable[[], bytes]", payer: "Callable[[], str]") -> bytes:
        """Fail as if the thread had no processor."""
        raise UnknownFactError("this host is too busy", is_transient=True)


def test_a_busy_host_does_not_take_a_value_that_a_service_chose_itself(proc: FakeProc) -> None:
    """One that may lower itself (CAP_SYS_RESOURCE) did that, not one that oomguard's floor let do it."""
    proc.process(
        Process(Identity(20, 5), b"job", uid=33, cgroup="/system.slice/a.service", oom_score_adj=-500)
    )
    ledger = Ledger()
    ledger.record(Identity(20, 5), Entry(0, -900, moved_floor=True))
    reconciler = Reconciler(Policy(), ledger, FakeKernel(str(proc.root), Busy()))
    assert [*reconciler.everything("policy", 0.0)] == []
    assert proc.oom_score_adj(20) == -500
    assert reconciler.managed.postponed == {20}


def test_a_busy_host_takes_nothing_from_a_service_that_it_cannot_read(proc: FakeProc, tmp_path: Path) -> None:
    """For a moment nobody knows whose it is: that is no reason not to trust it."""
    ledger = Ledger()
    ledger.record_protection(-900, "a.service", 0, 1)
    proc.process(Process(Identity(20, 5), b"job", uid=33, cgroup="/system.slice/a.service"))
    kernel = FakeKernel(str(proc.root), Busy())
    reconciler = Reconciler(policy(tmp_path, "- {name: guard, oom_score_adj: -900}\n"), ledger, kernel)
    assert reconciler.process(20, "resync", 0.0, in_pass=True) is None
    assert reconciler.managed.postponed == {20}


def test_what_was_read_of_the_program_before_decides_nothing(
    proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes late, as on a busy host, when the process runs another program."""
    proc.process(Process(Identity(20, 1), b"x", uid=PERSON))
    cmdline = proc.root / "20/cmdline"
    cmdline.unlink()
    os.mkfifo(cmdline)
    monkeypatch.setattr("oomguard.kernel.slow_reads._Worker.waits_for_a_processor", lambda _: True)
    reads = SlowReads()
    wanted = policy(tmp_path, "- {cmdline: old, oom_score_adj: 800}\n")
    reconciler = Reconciler(wanted, Ledger(), FakeKernel(str(proc.root), reads))
    assert due(reconciler) == []
    assert reads.stuck == 1
    cmdline.write_bytes(b"old\0")
    cmdline.unlink()
    cmdline.write_bytes(b"new\0")

    def has_answered() -> bool:
        reads._reap()
        return reads.stuck == 0

    wait_until(has_answered, "an answer")
    reconciler.managed.executed[20] = time.monotonic_ns()
    assert due(reconciler) == []


@pytest.mark.parametrize("own", [0, 800])
def test_a_program_that_could_not_be_read_when_it_was_run_is_judged_by_itself_later(
    proc: FakeProc, tmp_path: Path, own: int
) -> None:
    """Until then, the rule that raised the one before it applies; it left that by an exec, not by a name."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=own))
    mute = Mute()
    rules = f"- {{name: hog, oom_score_adj: 800}}\n- {{name: {LONG}, oom_score_adj: {{at_least: 300}}}}\n"
    reconciler = Reconciler(policy(tmp_path, rules), Ledger(), FakeKernel(str(proc.root), mute))
    assert len([*reconciler.everything("start", 0.0)]) == (own == 0)
    proc.rename(20, COMM)
    (proc.root / "20/cmdline").write_bytes(LONG.encode() + b"\0")
    proc.set_oom_score_adj(20, 800)
    reconciler.managed.executed[20] = 1
    assert [*reconciler.everything("resync", 1.0)] == []
    mute.answers = True
    list(reconciler.everything("resync", 2.0))
    assert value(proc, 20) == (300 if own == 0 else 800)
    assert not [one for one in reconciler.managed.known.values() if one.is_held]
