"""One pass: what it does when a write fails, when a value is contended, and when there is little to see."""

import errno
import os
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeproc import FakeProc
from floors import FakePrivilege, FlooredKernel
from mounts import read_only
from oomguard.core.change import Outcome
from oomguard.core.choices import Cause
from oomguard.core.entry import Entry
from oomguard.core.name_regex import marked
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Identity, Process, UnknownFactError
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.reconcile.backoff import (
    FIRST_PAUSE_SECONDS,
    TOLERATED,
    TOLERATED_LOOKS,
    USER_BURST,
    WINDOW_SECONDS,
    Backoff,
)
from oomguard.reconcile.ledger import Ledger, open_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder

SESSION = "/user.slice/user-1000.slice/session-3.scope"
WORKER = Rule(0, (b"worker",), Terms(Value("exact", 300)), "p.yaml", 1)


def asking(**values: int) -> Policy:
    """Return a policy of sysctls of vm.*, and of one rule."""
    rows = [SysctlSetting(f"vm.{name}", value, "p.yaml", 1) for name, value in values.items()]
    return Policy(sysctls=tuple(rows), rules=(WORKER,))


def results(outcomes: Iterator[Outcome]) -> dict[object, str]:
    """Return what became of each target."""
    found: dict[object, str] = {}
    for outcome in outcomes:
        change = outcome.change
        found[getattr(change, "name", None) or change.identity.pid] = outcome.result  # type: ignore[union-attr]  # one or the other
    return found


def test_a_failing_change_stops_no_other(proc: FakeProc, procfs: Procfs) -> None:
    """Of sysctls and of processes."""
    proc.sysctl("vm.swappiness", 60)
    proc.sysctl("vm.page-cluster", 3)
    for pid in (10, 11, 12):
        proc.process(Process(Identity(pid, pid), b"worker"))
    policy = asking(swappiness=10)
    policy = policy._replace(sysctls=(*policy.sysctls, SysctlSetting("vm.page-cluster", 0, "p.yaml", 1)))
    reconciler = Reconciler(policy, Ledger(), procfs)
    with read_only(proc.root / "sys" / "vm" / "swappiness"), read_only(proc.root / "11" / "oom_score_adj"):
        assert results(reconciler.everything("policy", 0.0)) == {
            "vm.swappiness": "denied",
            "vm.page-cluster": "applied",
            10: "applied",
            11: "denied",
            12: "applied",
        }
    assert results(reconciler.everything("policy", 60.0)) == {"vm.swappiness": "applied", 11: "applied"}
    reconciler.adopt(Policy())
    list(reconciler.everything("restore", 0.0))
    assert proc.sysctls() == {"vm.swappiness": 60, "vm.page-cluster": 3}
    assert set(proc.oom_score_adjs().values()) == {0}


def test_a_ledger_that_is_read_only_is_not_taken_for_proc(proc: FakeProc, procfs: Procfs) -> None:
    """As its file system is after an error of the disk."""

    class ReadOnlyLedger(Ledger):
        def intend(self, process: Identity, entry: Entry) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for pid in (10, 11):
        proc.process(Process(Identity(pid, pid), b"worker"))
    policy = Policy(rules=(WORKER,))
    with read_only(proc.root / "11" / "oom_score_adj"):
        (of_ledger, _) = Reconciler(policy, ReadOnlyLedger(), procfs).everything("policy", 0.0)
        (_, of_proc) = Reconciler(policy, Ledger(), procfs).everything("policy", 0.0)
    assert (of_ledger.result, of_ledger.reason) == ("denied", "Read-only file system")
    assert (of_proc.result, of_proc.reason) == ("denied", "/proc is read-only here")


def test_an_error_about_one_process_keeps_no_other_waiting(
    proc: FakeProc, procfs: Procfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes from, also where none is expected."""
    for pid in (20, 21):
        proc.process(Process(Identity(pid, 1), b"worker"))
    reconciler = Reconciler(Policy(rules=(WORKER,)), Ledger(), procfs)

    def fail(handle: ProcessHandle, *, in_pass: bool) -> bool:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    monkeypatch.setattr(reconciler.inheritance, "may_have_floor", fail)
    proc.process(Process(Identity(19, 1), b"other"))
    assert results(reconciler.everything("start", 0.0)) == {20: "applied", 21: "applied"}
    assert [*reconciler.managed.unreadable] == ["File name too long"]


def test_a_fact_that_only_the_write_needs_may_be_unknown(
    proc: FakeProc, procfs: Procfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user may have spent the time for reading it meanwhile."""
    proc.process(Process(Identity(20, 1), b"worker"))
    reconciler = Reconciler(Policy(rules=(WORKER,)), Ledger(), procfs)

    def fail(*_: object, **__: object) -> None:
        raise UnknownFactError("reading other processes of this user took too much CPU time")

    monkeypatch.setattr(reconciler, "_apply", fail)
    assert reconciler.process(20, "exec", 0.0) is None
    (text,) = reconciler.managed.unreadable.values()
    assert "took too much CPU time" in text


def test_a_process_that_ends_between_plan_and_write_has_vanished(proc: FakeProc, procfs: Procfs) -> None:
    """It is no failure, and the ledger forgets it."""
    proc.process(Process(Identity(10, 10), b"worker"))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    (proc.root / "10" / "oom_score_adj").chmod(0o644)
    handle = procfs.open(10)
    assert handle is not None
    with handle:
        change = reconciler.next_change(handle, "policy")
        assert change is not None
        proc.end(10)
        outcome = reconciler._apply(change, handle, 0.0)
        assert outcome is not None
        assert outcome.result == "vanished"
    assert reconciler.ledger.processes == {}
    assert reconciler.process(10, "policy", 0.0) is None


def test_a_value_that_a_process_chooses_between_plan_and_restore_is_its_own(
    proc: FakeProc, procfs: Procfs
) -> None:
    """As the children of sshd and PostgreSQL do at that very moment."""
    proc.process(Process(Identity(10, 10), b"worker"))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    list(reconciler.everything("policy", 0.0))
    reconciler.adopt(Policy())
    handle = procfs.open(10)
    assert handle is not None
    with handle:
        change = reconciler.next_change(handle, "policy")
        assert change is not None
        proc.set_oom_score_adj(10, 555)
        outcome = reconciler._apply(change, handle, 0.0)
        assert outcome is not None
        assert outcome.result == "vanished"
    assert reconciler.process(10, "policy", 0.0) is None
    assert proc.oom_score_adj(10) == 555
    assert reconciler.ledger.processes == {}


def test_a_name_that_changes_between_plan_and_write_loses_no_original(proc: FakeProc, procfs: Procfs) -> None:
    """It has an event of its own, which finds the value that a rule set for the name before."""
    proc.process(Process(Identity(10, 10), b"worker", oom_score_adj=5))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    list(reconciler.everything("policy", 0.0))
    reconciler.adopt(Policy(rules=(WORKER._replace(terms=Terms(Value("exact", 200))),)))
    handle = procfs.open(10)
    assert handle is not None
    with handle:
        change = reconciler.next_change(handle, "policy")
        assert change is not None
        proc.rename(10, b"other")
        outcome = reconciler._apply(change, handle, 0.0)
        assert outcome is not None
    reconciler.process(10, "exec", 0.0)
    assert proc.oom_score_adj(10) == 5


@pytest.mark.parametrize("executor", [b"15", b"systemd-executo", b"(db)"])
@pytest.mark.parametrize("value", [Value("exact", -900), Value("at_most", -900), Value("exact", 300)])
def test_what_systemd_sets_for_a_service_is_its_original_value(
    proc: FakeProc, procfs: Procfs, executor: bytes, value: Value
) -> None:
    """Its executor runs in the cgroup of the service first, with another value."""
    unit = Terms(value, units=("db.service",))
    reconciler = Reconciler(Policy(rules=(Rule(0, (), unit, "p.yaml", 1),)), Ledger(), procfs)
    started = Process(Identity(20, 5), executor, cgroup="/system.slice/db.service")
    proc.process(started)
    assert reconciler.process(20, "exec", 0.0) is None
    proc.process(started._replace(comm=b"postgres", uid=33, oom_score_adj=-500))
    assert reconciler.process(20, "exec", 0.0)
    assert proc.oom_score_adj(20) == value.number
    reconciler.adopt(Policy())
    assert results(reconciler.everything("restore", 0.0)) == {20: "applied"}
    assert proc.oom_score_adj(20) == -500


def test_who_is_called_as_an_executor_escapes_no_rule(proc: FakeProc, procfs: Procfs) -> None:
    """Only root's processes are executors of the system's services."""
    terms = Terms(Value("exact", 300), units=("db.service",))
    reconciler = Reconciler(Policy(rules=(Rule(0, (), terms, "p.yaml", 1),)), Ledger(), procfs)
    for pid, name, parent, uid in ((20, b"15", 1, 33), (21, b"15", 7, 0), (22, b"15a", 1, 0)):
        service = Process(
            Identity(pid, 5), name, parent_pid=parent, uid=uid, cgroup="/system.slice/db.service"
        )
        proc.process(service)
        assert reconciler.process(pid, "exec", 0.0)
        assert proc.oom_score_adj(pid) == 300


def test_a_pid_that_is_used_again_has_no_part_in_the_entry_of_the_first(
    proc: FakeProc, procfs: Procfs
) -> None:
    """Its own value is its own, and it is restored to that."""
    proc.process(Process(Identity(10, 10), b"worker", oom_score_adj=5))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    list(reconciler.everything("policy", 0.0))
    proc.end(10)
    proc.process(Process(Identity(10, 99), b"worker", oom_score_adj=7))
    list(reconciler.everything("policy", 0.0))
    reconciler.adopt(Policy())
    list(reconciler.everything("restore", 0.0))
    assert proc.oom_score_adj(10) == 7


def test_a_child_that_had_the_value_already_keeps_it_after_a_restore(proc: FakeProc, procfs: Procfs) -> None:
    """A browser's tabs ask for 300 themselves; a rule gives the browser 300, and is taken back."""
    proc.process(Process(Identity(10, 10), b"worker"))
    proc.process(Process(Identity(11, 11), b"worker", parent_pid=10, oom_score_adj=300))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    list(reconciler.everything("start", 0.0))
    reconciler.adopt(Policy())
    list(reconciler.everything("restore", 0.0))
    assert proc.oom_score_adjs() == {10: 0, 11: 300}


def test_a_contended_value_is_left_alone_for_a_while_and_tried_again(proc: FakeProc, procfs: Procfs) -> None:
    """After more rewrites than are tolerated."""
    proc.sysctl("vm.swappiness", 60)
    reconciler = Reconciler(asking(swappiness=10), Ledger(), procfs)
    list(reconciler.everything("policy", 0.0))
    now = 0.0
    for _ in range(TOLERATED):
        now += 0.1
        proc.sysctl("vm.swappiness", 99)
        assert results(reconciler.everything("resync", now)) == {"vm.swappiness": "applied"}
    proc.sysctl("vm.swappiness", 99)
    assert results(reconciler.everything("resync", now)) == {"vm.swappiness": "contended"}
    assert proc.sysctls()["vm.swappiness"] == 99
    again = reconciler.backoff.next_wake()
    assert again == now + FIRST_PAUSE_SECONDS
    assert results(reconciler.everything("resync", again)) == {"vm.swappiness": "applied"}


class Rewriting:
    """A rule that raises processes to 300, and what each look of an event leads to."""

    def __init__(self, proc: FakeProc, procfs: Procfs, *, cgroup: str = SESSION) -> None:
        self.proc, self.cgroup = proc, cgroup
        self.reconciler = Reconciler(asking(), Ledger(), procfs)

    def start(self, pid: int) -> None:
        """Start a process, which is given its value."""
        self.proc.process(Process(Identity(pid, pid), b"worker", uid=1000, cgroup=self.cgroup))
        assert self.look(pid, 0.0, "exec") == "applied"

    def rewrite(self, pid: int, now: float, **options: bool) -> str:
        """Have a process rewrite its value, and look at it."""
        self.proc.set_oom_score_adj(pid, 7)
        return self.look(pid, now, "drift", **options)

    def look(self, pid: int, now: float, cause: Cause, **options: bool) -> str:
        """Look at a process, and return what came of it."""
        outcome = self.reconciler.process(pid, cause, now, **options)
        return "nothing to do" if outcome is None else outcome.result


@pytest.fixture
def rewriting(proc: FakeProc, procfs: Procfs) -> Rewriting:
    """Return processes of one user."""
    return Rewriting(proc, procfs)


def test_a_pass_corrects_a_contended_process_and_events_do_not(rewriting: Rewriting) -> None:
    """So its own value lasts no longer than to the next pass, and what it costs has a limit."""
    rewriting.start(10)
    for _ in range(TOLERATED):
        assert rewriting.rewrite(10, 1.0) == "applied"
    assert rewriting.rewrite(10, 1.5) == "contended"
    assert rewriting.look(10, 1.5, "resync", in_pass=True) == "applied"
    assert rewriting.rewrite(10, 1.5) == "contended"
    assert rewriting.reconciler.backoff.contended() == [Identity(10, 10)]


def test_a_process_that_is_contended_rests_and_is_watched_again(rewriting: Rewriting) -> None:
    """While it rests its watch would only wake the daemon."""
    backoff = rewriting.reconciler.backoff
    rewriting.start(10)
    for _ in range(TOLERATED + 1):
        rewriting.rewrite(10, 1.0)
    assert backoff.take_rested() == [Identity(10, 10)]
    assert backoff.take_rested() == []
    assert backoff.next_wake() == 1.0 + FIRST_PAUSE_SECONDS
    assert backoff.wake(1.5) == []
    assert backoff.wake(2.0) == [Identity(10, 10)]
    assert rewriting.rewrite(10, 2.0) == "applied"
    assert backoff.next_wake() == 2.0 + 2 * FIRST_PAUSE_SECONDS


def test_a_user_with_many_processes_causes_no_more_writes_than_with_one(rewriting: Rewriting) -> None:
    """Each is allowed five in a minute, and all of them together have an account that others do not share."""
    for pid in (10, 11):
        rewriting.start(pid)
    for number in range(USER_BURST - 1):
        rewriting.reconciler.backoff.looked(number, 1.0, "user-1000.slice")
    assert rewriting.rewrite(10, 1.0) == "applied"
    assert rewriting.rewrite(10, 1.0) == "contended"
    assert rewriting.rewrite(11, 1.0) == "contended"
    assert {Identity(10, 10), Identity(11, 11)} <= rewriting.reconciler.backoff.resting.keys()
    assert rewriting.look(11, 1.0, "resync", in_pass=True) == "applied"
    rewriting.start(12)  # what is new gets its value at once
    rewriting.cgroup = SESSION.replace("1000", "1001")
    rewriting.start(13)
    assert rewriting.rewrite(13, 1.0) == "applied"
    assert rewriting.rewrite(11, 3.0) == "applied", "it refills"


def test_a_pass_is_at_no_users_expense(rewriting: Rewriting) -> None:
    """No user can cause one."""
    rewriting.start(10)
    for number in range(USER_BURST - 1):
        rewriting.reconciler.backoff.looked(number, 1.0, "user-1000.slice")
    assert rewriting.rewrite(10, 1.0, in_pass=True) == "applied"
    assert not rewriting.reconciler.backoff.limits_users


def test_opening_the_file_without_a_change_is_noticed_for_a_while_only(rewriting: Rewriting) -> None:
    """O_TRUNC raises the same event as a write."""
    rewriting.start(10)
    for _ in range(TOLERATED_LOOKS):
        assert rewriting.look(10, 1.0, "drift", is_watched=True) == "nothing to do"
    assert not rewriting.reconciler.backoff.resting
    rewriting.look(10, 1.0, "drift", is_watched=True)
    assert rewriting.reconciler.backoff.take_rested() == [Identity(10, 10)]
    assert rewriting.reconciler.backoff.contended() == []


def test_another_value_of_a_policy_is_no_drift(proc: FakeProc, procfs: Procfs) -> None:
    """Nothing else wrote the one before."""
    proc.process(Process(Identity(10, 1), b"worker"))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    list(reconciler.everything("start", 0.0))
    other = WORKER._replace(terms=WORKER.terms._replace(value=Value("exact", 400)))
    reconciler.adopt(Policy(rules=(other,)))
    assert [one.change.cause for one in reconciler.everything("policy", 1.0)] == ["policy"]


def test_a_rule_that_matches_and_does_not_in_turn_is_contention(proc: FakeProc, procfs: Procfs) -> None:
    """A daemon of root's that changes its name back and forth: each time it is given and restored."""
    proc.process(Process(Identity(10, 10), b"worker", uid=0, cgroup=SESSION))
    reconciler = Reconciler(asking(), Ledger(), procfs)
    found = []
    for turn in range(100):
        proc.rename(10, b"other" if turn % 2 else b"worker")
        outcome = reconciler.process(10, "exec", turn / 100)
        found.append("" if outcome is None else outcome.result)
    assert found.count("applied") == 2 * TOLERATED
    assert reconciler.backoff.contended() == [Identity(10, 10)]


def test_protection_is_taken_from_who_must_not_keep_it_however_contended(
    proc: FakeProc, procfs: Procfs
) -> None:
    """A pause keeps it from being given, and never from being taken."""
    protecting = WORKER._replace(terms=Terms(Value("exact", -300), trust="name"))
    proc.process(Process(Identity(10, 10), b"worker", uid=1000, cgroup=SESSION))
    reconciler = Reconciler(Policy(rules=(protecting,)), Ledger(), procfs)
    reconciler.process(10, "exec", 0.0)
    for _ in range(TOLERATED + 2):
        proc.set_oom_score_adj(10, 7)
        reconciler.process(10, "drift", 0.0)
    proc.set_oom_score_adj(10, -300)
    proc.rename(10, b"other")
    outcome = reconciler.process(10, "exec", 0.0)
    assert outcome is not None
    assert outcome.result == "applied"
    assert proc.oom_score_adj(10) == 0


def test_a_denied_value_is_tried_less_and_less_whatever_wakes_the_daemon(
    proc: FakeProc, tmp_path: Path, folder: StateFolder
) -> None:
    """Neither events nor passes try it before the pause ends, and the ledger keeps nothing of it."""
    kernel = FlooredKernel(str(proc.root), FakePrivilege(is_permitted=False))
    proc.process(Process(Identity(10, 10), b"worker", cgroup=SESSION))
    lowering = WORKER._replace(terms=Terms(Value("exact", -100), trust="name"))
    ledger = open_ledger(folder, boot_id="b", is_alive=lambda _: True)
    reconciler = Reconciler(Policy(rules=(lowering,)), ledger, kernel)
    size = 0
    for tenth in range(3_000):
        reconciler.process(10, "exec", tenth / 10)
        reconciler.process(10, "drift", tenth / 10, is_watched=True)
        reconciler.process(10, "resync", tenth / 10, in_pass=True)
        size = max(size, os.stat(f"{folder.path}/ledger").st_size)
    assert len(kernel.refused) == len((0, 1, 3, 7, 15, 31, 63, 123, 183, 243))
    assert size < 8_000
    assert not reconciler.ledger.processes
    assert reconciler.backoff.contended() == []
    kernel.close()


def test_another_value_than_the_denied_one_is_tried_at_once(proc: FakeProc) -> None:
    """The process may run a program by now that another rule raises."""
    kernel = FlooredKernel(str(proc.root), FakePrivilege(is_permitted=False))
    proc.process(Process(Identity(10, 10), b"worker", cgroup=SESSION))
    lowering = WORKER._replace(terms=Terms(Value("exact", -100), trust="name"))
    raising = Rule(1, (b"other",), Terms(Value("exact", 300)), "p.yaml", 2)
    reconciler = Reconciler(Policy(rules=(lowering, raising)), Ledger(), kernel)
    outcome = reconciler.process(10, "exec", 0.0)
    assert outcome is not None
    assert outcome.result == "denied"
    proc.rename(10, b"other")
    outcome = reconciler.process(10, "exec", 0.0)
    assert outcome is not None
    assert outcome.result == "applied"
    kernel.close()


def test_a_process_whose_protection_the_kernel_denies_is_no_watched_parent(proc: FakeProc) -> None:
    """Its children inherit nothing."""
    kernel = FlooredKernel(str(proc.root), FakePrivilege(is_permitted=False))
    proc.process(Process(Identity(10, 10), b"worker"))
    lowering = WORKER._replace(terms=Terms(Value("exact", -100), scope="main"))
    reconciler = Reconciler(Policy(rules=(lowering,)), Ledger(), kernel)
    for now, result in ((0.0, "denied"), (0.1, None), (1.5, "denied"), (1.6, None)):
        outcome = reconciler.process(10, "exec", now)
        assert (None if outcome is None else outcome.result) == result
        assert not reconciler.managed.watched
    kernel.close()


def test_a_watch_on_what_cannot_be_changed_rests(proc: FakeProc, procfs: Procfs) -> None:
    """Refused or denied, a process that rewrites its own value has it looked at for a while only."""
    protecting = WORKER._replace(terms=Terms(Value("exact", -300)))
    proc.process(Process(Identity(10, 10), b"worker", uid=1000, cgroup=SESSION))
    reconciler = Reconciler(Policy(rules=(protecting,)), Ledger(), procfs)
    for _ in range(TOLERATED_LOOKS + 1):
        outcome = reconciler.process(10, "drift", 1.0, is_watched=True)
        assert outcome is not None
        assert outcome.result == "refused"
    assert reconciler.backoff.take_rested() == [Identity(10, 10)]


# Backoff by itself


def test_pauses_double_up_to_the_longest() -> None:
    """And end with the resync interval."""
    backoff = Backoff(longest_pause_seconds=10)
    now, pauses = 0.0, []
    for _ in range(TOLERATED):
        assert not backoff.must_wait("x", now)
        backoff.corrected("x", now)
    assert backoff.must_wait("x", now)
    for _ in range(7):
        until = backoff.next_wake()
        assert until is not None
        pauses.append(until - now)
        now = until
        assert backoff.wake(now) == ["x"]
        assert not backoff.must_wait("x", now)
        backoff.corrected("x", now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert backoff.contended() == ["x"]
    assert backoff.is_contended("x")


def test_rewrites_far_apart_are_tolerated_for_ever() -> None:
    """Nobody fights over a value once in a minute."""
    backoff = Backoff(longest_pause_seconds=10)
    for number in range(100):
        backoff.corrected("x", number * (WINDOW_SECONDS / TOLERATED + 1))
        backoff.looked("y", number * (WINDOW_SECONDS + 1), "user-1000.slice")
    assert backoff.contended() == []
    assert backoff.take_rested() == []
    assert not backoff.is_contended("x")


def test_what_stays_right_is_forgotten() -> None:
    """And named once, if it had been contended."""
    backoff = Backoff(longest_pause_seconds=10)
    for _ in range(TOLERATED):
        backoff.corrected("contended", 0.0)
    assert backoff.must_wait("contended", 0.0)
    backoff.corrected("corrected", 0.0)
    assert backoff.forget_rested(WINDOW_SECONDS + FIRST_PAUSE_SECONDS) == []
    assert backoff.forget_rested(WINDOW_SECONDS + FIRST_PAUSE_SECONDS + 1) == ["contended"]
    assert backoff.forget_rested(1000.0) == []
    assert not backoff.must_wait("contended", 1000.0)


def test_a_hostile_host_cannot_make_it_remember_without_end() -> None:
    """Every process may rewrite its own value."""
    backoff = Backoff(longest_pause_seconds=10)
    for number in range(30_000):
        for _ in range(TOLERATED):
            backoff.corrected(number, 0.0)
        backoff.must_wait(number, 0.0)
    assert len(backoff.contended()) <= 2_000
    assert len(backoff.resting) <= 10_000


def test_what_is_remembered_of_targets_takes_little_memory() -> None:
    """A user can have 10,000 processes rewrite their values between two passes, which correct them all."""
    backoff = Backoff(longest_pause_seconds=10)
    tracemalloc.start()
    try:
        for pid in range(100_000, 110_000):
            backoff.corrected(Identity(pid, pid), 0.0)
            backoff.denied(Identity(pid, pid), 300, 0.0)
        assert tracemalloc.get_traced_memory()[0] < 1.5 * 2**20
    finally:
        tracemalloc.stop()


NOT_NAMED = [
    (b"worker", ["sleep"]),
    (marked("^(node|npm)$"), ["sleep"]),
    (marked("^(node|npm)$"), ["a-name-of-twenty-byt"]),  # of which the kernel keeps 15
]


@pytest.mark.parametrize(("name", "command"), NOT_NAMED, ids=repr)
def test_nothing_but_the_name_is_read_of_a_process_that_no_rule_names(
    name: bytes, command: list[str], tmp_path: Path
) -> None:
    """Most programs that start are such ones, and each system call is paid for at each of them."""
    looks = 100
    program = tmp_path / command[0]
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen([program, "60"]) as process:
        try:
            policy = Policy(rules=(WORKER._replace(names=(name,)),))
            reconciler = Reconciler(policy, Ledger(), Procfs())
            reconciler.process(process.pid, "exec", 0.0)
            before = _reads()
            for _ in range(looks):
                assert reconciler.process(process.pid, "exec", 0.0) is None
            assert _reads() - before == 2 * looks + 1  # its cgroup, too, and the one that counts them
        finally:
            process.kill()


def _reads() -> int:
    """Return how many times this thread has called read(2) and the like."""
    fd = os.open("/proc/thread-self/io", os.O_RDONLY)
    try:
        return int(os.read(fd, 512).split(b"syscr: ")[1].split()[0])
    finally:
        os.close(fd)
