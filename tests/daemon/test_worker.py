"""What is checked when, on the real /proc and on a tree of files, without the daemon's loop."""

import errno
import itertools
import os
import time
from collections.abc import Iterator

import pytest

from fakeproc import FakeProc
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import INIT_PID, Identity, Process, UnknownFactError
from oomguard.core.rule import Rule, Terms, Value
from oomguard.daemon.process_events import ProcessEvents
from oomguard.daemon.work_queue import CHILD_SECONDS, SLICE_PROCESSES, UNDECIDED_SECONDS, URGENT_LIMIT, Batch
from oomguard.daemon.worker import POLL_SECONDS
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.reconcile.backoff import TOLERATED_LOOKS
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.state_folder import StateFolder
from running import needs_events
from workers import Work

POLICY = Policy(rules=(Rule(0, (b"a",), Terms(Value("exact", 300)), "/p.yaml", 1),))


@pytest.fixture
def host() -> Iterator[Procfs]:
    """Open the real /proc."""
    procfs = Procfs()
    yield procfs
    procfs.close()


@pytest.fixture
def work(procfs: Procfs, folder: StateFolder) -> Iterator[Work]:
    """Return a worker with a policy and an empty tree."""
    made = Work(procfs, folder, POLICY)
    yield made
    made.close()


def run(work: Work) -> None:
    """Do what there is to do."""
    while work.worker.is_busy:
        work.worker.work(is_throttled=False)


def test_forks_in_inits_name_do_not_fill_the_memory(procfs: Procfs, folder: StateFolder) -> None:
    """An orphan makes thousands a second (CLONE_PARENT), and a daemon at its ceiling does not keep up."""
    ledger = Ledger()
    ledger.record_protection(-900, "a.service", 0, 1)
    work, waiting = Work(procfs, folder, ledger=ledger), 0
    for turn in range(50):
        for child in range(1000):
            assert work.reconciler.managed.on_fork(INIT_PID, 100_000 + 1000 * turn + child, 0)
            work.worker.queue.put_off("child", (100_000 + 1000 * turn + child,))
        work.loop._timers["child"](0.0)
        batches = work.worker.queue.batches(is_throttled=False)
        waiting = max([waiting, *(len(batch.pids) for batch in batches)])
    assert URGENT_LIMIT / 2 < waiting <= URGENT_LIMIT
    assert work.worker.queue.sweep.is_running, "a pass checks them"
    assert [said for said in work.said.messages if "oomguard checks every process again" in said]
    work.close()


@pytest.mark.parametrize(("seconds", "checked"), [(-1.0, 1), (60.0, 8)])
def test_a_slice_ends_on_time_whatever_one_process_takes(work: Work, seconds: float, checked: int) -> None:
    """Its user makes a process that takes 20 ms to read. What is left is the next slice's."""
    for pids in (set(range(1, 21)), [*range(1, 21)]):
        work.worker.check(Batch(pids), time.monotonic() + seconds)
        assert len(pids) == 20 - checked


@needs_events
@pytest.mark.parametrize(("flow", "seconds"), [(True, 60.0), (False, POLL_SECONDS)])
def test_passes_follow_each_other_closely_while_no_events_flow(
    host: Procfs, folder: StateFolder, *, flow: bool, seconds: float
) -> None:
    """For as long as that is, also until a reboot."""
    work = Work(host, folder)
    if flow:
        assert work.worker.events.open() == ""
    work.worker.begin_pass("start")
    run(work)
    (ended,) = work.ended
    due = work.due("pass")
    assert due is not None
    assert ended + seconds <= due <= ended + max(seconds, 30.0), "it depends on how many there are"
    work.close()


def test_a_pass_applies_the_policy_and_ends_once(work: Work, proc: FakeProc) -> None:
    """What was changed is in the status and in the log soon, and the next pass is planned."""
    for pid in range(1, 40):
        proc.process(Process(Identity(pid, 1), b"a" if pid > 1 else b"init"))
    work.worker.begin_pass("start")
    run(work)
    assert [proc.oom_score_adj(pid) for pid in (1, 2, 39)] == [0, 300, 300]
    assert work.reporter.counts.applied == 38
    assert len(work.worker.matched.rule_of) == 38
    assert len(work.ended) == 1
    assert None not in [work.due(timer) for timer in ("status", "fold", "watch", "pass")]


@pytest.mark.parametrize("why", ["Permission denied", "it is no number"])
def test_a_sysctl_that_cannot_be_read_ends_no_pass(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Rules are enforced, and the status says that sysctls are not. A sandbox may show an empty file."""
    work.reconciler.adopt(POLICY._replace(sysctls=(SysctlSetting("vm.swappiness", 10, "/p.yaml", 1),)))
    proc.sysctl("vm.swappiness", 60)
    proc.process(Process(Identity(2, 1), b"a"))
    real = work.procfs.read

    def read(path: str, limit: int = 65536) -> bytes:
        if not path.endswith("swappiness"):
            return real(path, limit)
        if why == "Permission denied":
            raise PermissionError(errno.EACCES, why)
        return b""

    monkeypatch.setattr(work.procfs, "read", read)
    work.worker.begin_pass("start")
    run(work)
    assert proc.oom_score_adj(2) == 300
    (limit,) = work.degradations.texts
    assert limit == f"sysctls are left alone, because one cannot be read: {why}"
    monkeypatch.undo()
    work.worker.begin_pass("resync")
    run(work)
    assert proc.sysctls()["vm.swappiness"] == 10
    assert not work.degradations.texts


@pytest.mark.parametrize("why", ["no file", "no huge pages", "no watch"])
def test_a_sysctl_that_the_kernel_lacks_is_said_to_be_skipped(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Also if it has a file, as where there are no huge pages, and if no more files can be watched."""
    work.reconciler.adopt(POLICY._replace(sysctls=(SysctlSetting("vm.nr_hugepages", 9, "/p.yaml", 1),)))
    real = work.procfs.read

    def read(path: str, limit: int = 65536) -> bytes:
        if path.endswith("nr_hugepages"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, limit)

    if why == "no huge pages":
        proc.sysctl("vm.nr_hugepages", 0)
        monkeypatch.setattr(work.procfs, "read", read)
    elif why == "no watch":
        work.worker.watching.drift.full = "no inotify watch is left"
    work.worker.begin_pass("start")
    assert work.degradations.texts == ["vm.nr_hugepages is skipped: this kernel has no such sysctl"]


def test_what_starts_in_a_long_pass_without_events_does_not_wait_for_its_end(
    work: Work, proc: FakeProc
) -> None:
    """It is looked for each second, and once more when it may have run a program."""
    for pid in range(2, 40):
        proc.process(Process(Identity(pid, 1), b"b"))
    work.worker.begin_pass("start")

    def look() -> list[int]:
        due = work.due("poll")
        assert due is not None
        assert due <= time.monotonic() + POLL_SECONDS
        work.loop._timers["poll"](time.monotonic())
        batch = next(work.worker.queue.batches(is_throttled=False))
        found = sorted(batch.pids)
        if batch.cause == "exec":
            work.worker.check(batch, due + 60)
        return found if batch.cause == "exec" else []

    proc.process(Process(Identity(50, 1), b"sh"))
    proc.process(Process(Identity(51, 1), b"a"))
    assert look() == [50, 51]
    assert proc.oom_score_adj(51) == 300
    proc.process(Process(Identity(50, 1), b"a"))
    assert look() == [50, 51]
    assert proc.oom_score_adj(50) == 300
    assert look() == []
    proc.end(50)
    look()
    proc.process(Process(Identity(50, 2), b"a"))
    assert look() == [50], "another process with that pid"
    assert work.worker.queue.sweep.is_running
    run(work)
    proc.process(Process(Identity(52, 1), b"a"))
    work.worker.begin_pass("resync")
    assert look() == [52], "the pass would check it last"


def test_passes_without_events_take_little_of_a_cpu(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many processes they are further apart, and new processes are looked for in between."""
    proc.process(Process(Identity(2, 1), b"b"))
    for took, interval in ((0.01, POLL_SECONDS), (0.3, 6.0), (30.0, 60.0)):
        clock = iter((0.0, took))
        monkeypatch.setattr("time.process_time", lambda clock=clock: next(clock))
        work.worker.begin_pass("resync")
        run(work)
        due, poll = work.due("pass"), work.due("poll")
        assert due == pytest.approx(work.ended[-1] + interval)
        assert poll == (None if interval == POLL_SECONDS else work.ended[-1] + POLL_SECONDS)


def test_what_took_too_long_to_read_is_read_again_in_a_second(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have inherited something, and with a long interval no pass would come. But not everything."""

    def never(_handle: ProcessHandle, _path: str) -> bytes:
        raise UnknownFactError("reading it took too long")

    for pid in range(2, 202):
        proc.process(Process(Identity(pid, 1), b"a"))
    work.worker.queue.put_off("undecided", range(300, 400))  # young ones, which are checked anyway
    read = ProcessHandle._read_pinning
    monkeypatch.setattr(ProcessHandle, "_read_pinning", never)
    work.worker.begin_pass("start")
    run(work)
    assert proc.oom_score_adj(2) == 0
    due = work.due("unread")
    assert due is not None
    assert due <= time.monotonic() + UNDECIDED_SECONDS
    monkeypatch.setattr(ProcessHandle, "_read_pinning", read)
    work.loop._timers["unread"](0.0)
    run(work)
    assert 64 <= sum(proc.oom_score_adj(pid) == 300 for pid in range(2, 202)) < 80


def test_what_takes_too_long_to_read_is_not_corrected_each_second(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a pass corrects whatever that costs: else nobody could be contended who delays a rule."""
    slow = Rule(0, (b"a",), Terms(Value("exact", 800), cmdlines=("x",)), "/p.yaml", 1)
    other = Rule(1, (b"a",), Terms(Value("exact", 300)), "/p.yaml", 2)
    work.reconciler.adopt(Policy(rules=(slow, other)))

    def never(_handle: ProcessHandle) -> None:
        raise UnknownFactError("reading it took too long")

    monkeypatch.setattr(ProcessHandle, "arguments", property(never))
    proc.process(Process(Identity(2, 1), b"a", uid=1000))
    proc.process(Process(Identity(3, 1000), b"much younger"))
    work.worker.begin_pass("start")
    run(work)
    for value in (300, 0):
        assert proc.oom_score_adj(2) == 300
        proc.set_oom_score_adj(2, 0)
        work.loop._timers["unread"](0.0)
        run(work)
        assert proc.oom_score_adj(2) == value, "its watch or a pass causes the second correction"


def test_what_was_written_before_a_shortage_is_in_the_log(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next pass finds nothing to do there, and would not tell."""
    proc.process(Process(Identity(3, 1), b"a"))
    real = work.procfs.open

    def scarce(pid: int) -> ProcessHandle | None:
        if pid == 2:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return real(pid)

    monkeypatch.setattr(work.procfs, "open", scarce)
    with pytest.raises(OSError, match="Too many open files in system"):
        work.worker.check(Batch([2, 3], in_pass=True), time.monotonic() + 60)
    assert proc.oom_score_adj(3) == 300
    assert work.reporter.counts.applied == 1


def test_a_pass_ends_when_what_the_host_was_too_busy_to_read_is_checked(work: Work, proc: FakeProc) -> None:
    """Or after some seconds: what is counted and reported then is complete, as far as it can be."""
    proc.process(Process(Identity(2, 1), b"a"))
    queue = work.worker.queue
    for is_patient in (True, False):
        work.worker.begin_pass("resync")
        queue.put_off("postponed", (2,))
        run(work)
        assert queue.sweep.is_running
        assert not work.worker.is_busy, "the daemon sleeps until it is due"
        if is_patient:
            work.loop._timers["postponed"](0.0)
            assert work.worker.is_busy
        else:
            queue.sweep.patient_until = time.monotonic() - 1
        run(work)
        assert not queue.sweep.is_running
    assert len(work.ended) == 2


def test_what_could_not_be_read_once_is_not_a_limit_for_good(work: Work, proc: FakeProc) -> None:
    """As on a host that thrashed; until a whole pass could read everything."""
    proc.process(Process(Identity(2, 1), b"a"))
    value = proc.root / "2" / "oom_score_adj"
    value.unlink()
    value.mkdir()  # a read fails
    limits = []
    for is_readable in (False, True):
        if is_readable:
            value.rmdir()
            value.write_text("0\n")
        work.worker.begin_pass("resync")
        run(work)
        limits.append(len(work.degradations.texts))
    assert limits == [1, 0]
    assert [said for said in work.said.messages if "cannot be read: Is a directory" in said]


def test_what_is_lost_while_a_pass_runs_is_checked_after_it(work: Work, proc: FakeProc) -> None:
    """It is not begun again, or none would ever end; two losses are one more pass."""
    proc.process(Process(Identity(2, 1), b"a"))
    work.worker.begin_pass("start")
    for _ in range(2):
        work.worker.queue.urgent |= set(range(1000, 1001 + URGENT_LIMIT))
        work.worker.queue.check_size()
    run(work)
    assert len(work.ended) == 2
    assert work.status.losses == 2
    assert len(work.said.messages) == 2, "one loss and one change: the second loss is said a minute later"


def test_the_time_for_a_pass_interrupts_none(work: Work, proc: FakeProc) -> None:
    """It would begin again, and call what an edit changed a resync."""
    for pid in (2, 3):
        proc.process(Process(Identity(pid, 1), b"a"))
    work.worker.begin_pass("policy")
    work.worker.queue.sweep.pids.pop()
    work.loop._timers["pass"](0.0)
    assert (work.worker.queue.sweep.cause, len(work.worker.queue.sweep.pids)) == ("policy", 1)
    run(work)
    work.loop._timers["pass"](0.0)
    assert work.worker.queue.sweep.cause == "resync"


def test_a_watch_on_what_no_rule_matches_any_more_rests(work: Work, proc: FakeProc) -> None:
    """Until the next pass drops it: its process may rewrite the value flat out."""
    proc.process(Process(Identity(2, 1), b"renamed"))
    for _ in range(TOLERATED_LOOKS + 1):
        work.worker.queue.drifting.add(2)
        run(work)
    assert [*work.reconciler.backoff.resting] == [Identity(2, 1)]


def test_a_throttled_daemon_watches_what_it_manages(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although events never end: what is rewritten meanwhile would wait for a pass."""
    monkeypatch.setattr(work.procfs, "now_ticks", lambda: 10_000)  # it has lived for long enough
    proc.process(Process(Identity(2, 1), b"a"))
    work.worker.begin_pass("start")
    run(work)
    work.loop._timers["watch"](0.0)
    work.loop.set("status", None)
    work.worker.queue.urgent |= set(range(1000, 1000 + URGENT_LIMIT))
    work.worker.work(is_throttled=True)
    assert work.worker.queue.urgent, "a slice is short"
    assert work.due("status") is not None
    assert work.worker.watching.drift.watches(2)


def test_a_throttled_daemon_checks_several_processes_a_turn_on_a_slow_host(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check takes longer than a slice, and after a turn comes a pause."""
    work.worker.queue.sweep.begin("start", [*range(1000, 1020)], chases_ended=False)
    seconds = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    work.worker.work(is_throttled=True)
    assert len(work.worker.queue.sweep.pids) == 20 - SLICE_PROCESSES


def test_a_throttled_daemon_makes_events_flow_again(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although looking for new processes instead takes all that it may take."""
    attempts: list[None] = []
    monkeypatch.setattr(ProcessEvents, "is_busy", property(lambda _: True))
    monkeypatch.setattr(ProcessEvents, "work", lambda _: attempts.append(None))
    work.worker.queue.urgent |= set(range(1000, 1000 + URGENT_LIMIT))
    work.worker.work(is_throttled=True)
    assert work.worker.queue.urgent, "a slice is short"
    assert attempts


def test_what_inherited_is_chased_soon(work: Work) -> None:
    """A fork may have crossed the reset; forks are followed then, though none was reported."""
    begun = time.monotonic()
    work.worker.queue.put_off("child", ())
    due = work.due("child")
    assert due is not None
    assert begun <= due - CHILD_SECONDS <= time.monotonic()


@pytest.mark.parametrize("why", ["postponed", "undecided"])
def test_what_was_put_off_is_not_put_off_again(work: Work, why: str) -> None:
    """An idle host would check it for good."""
    getattr(work.reconciler.managed, why).add(2)
    for is_put_off in (True, False):
        work.worker.check(Batch([]), 0.0)
        assert (work.due(why) is not None) is is_put_off
        work.loop.set(why, None)


def test_short_of_memory_everything_is_dropped_and_a_pass_follows_soon(work: Work, proc: FakeProc) -> None:
    """When there may be some again."""
    proc.process(Process(Identity(2, 1), b"a"))
    work.worker.begin_pass("start")
    begun = time.monotonic()
    work.worker.clear()
    assert not work.worker.is_busy
    assert work.reconciler.managed.asks_parents
    assert (work.status.losses, work.ended) == (1, [])
    due = work.due("pass")
    assert due is not None
    assert begun <= due - POLL_SECONDS <= time.monotonic()
