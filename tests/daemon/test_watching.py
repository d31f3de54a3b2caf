"""Which values get a watch and when, on a tree of files with real watches."""

import errno
import os
from collections.abc import Iterator

import pytest

from fakeproc import FakeProc
from oomguard.core.change import Outcome, SetOomScoreAdj
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.daemon.watching import WATCH_AGE_SECONDS, WATCH_AGE_TICKS, Watching
from oomguard.kernel.inotify import Inotify
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.state_folder import StateFolder
from workers import Work

POLICY = Policy(rules=(Rule(0, (b"a",), Terms(Value("exact", 300)), "/p.yaml", 1),))


@pytest.fixture
def work(proc: FakeProc, procfs: Procfs, folder: StateFolder) -> Iterator[Work]:
    """Return a worker that manages an old process, a new one, and one that has ended."""
    for pid, start in ((10, 1), (11, 2 + int(WATCH_AGE_TICKS)), (12, 1)):
        proc.process(Process(Identity(pid, start), b"a"))
    made = Work(procfs, folder, POLICY)
    made.worker.begin_pass("start")
    run(made)
    proc.end(12)
    yield made
    made.close()


def run(work: Work) -> None:
    """Do what there is to do."""
    while work.worker.is_busy:
        work.worker.work(is_throttled=False)


def watching_of(work: Work) -> Watching:
    """Watch every value, and do what there is to do."""
    fire(work, "watch")
    work.worker.watching.work(0.0)
    run(work)
    return work.worker.watching


def fire(work: Work, timer: str, now: float = 0.0) -> None:
    """Let a timer be due."""
    work.loop.set(timer, None)
    work.loop._timers[timer](now)


def test_a_process_is_watched_once_it_has_lived_for_a_while(work: Work) -> None:
    """The new one's turn comes; that one has ended is noted. What was written just before is checked."""
    assert work.due("watch") is not None
    fire(work, "watch")
    watching = work.worker.watching
    assert watching.is_busy
    watching.work(100.0)
    assert not watching.is_busy
    assert [watching.drift.watches(pid) for pid in (10, 11, 12)] == [True, False, False]
    assert work.worker.queue.urgent == {10}
    assert work.due("watch") == 100.0 + WATCH_AGE_SECONDS
    assert set(work.reconciler.managed.rule_of) == {10, 11}


def test_what_rests_takes_no_watch_from_others(work: Work) -> None:
    """A sysctl has its own, and one user can have any number of processes that rested and ended."""
    work.loop.set("watch", None)
    resting = [*(f"vm.{number}" for number in range(9)), *(Identity(pid, 1) for pid in range(100, 110))]
    work.reconciler.backoff.resting.update(dict.fromkeys(resting, 60.0))
    work.worker.watching.plan(5.0)
    assert work.due("watch") == 5.0 + WATCH_AGE_SECONDS
    watching_of(work)
    assert work.worker.watching.drift.watches(10)


def test_a_write_is_drift(work: Work, proc: FakeProc) -> None:
    """The process is checked, as one that a watch reported."""
    fire(work, "watch")
    work.worker.watching.work(0.0)
    proc.set_oom_score_adj(10, 0)
    work.loop.turn(busy=True)
    assert work.worker.queue.drifting == {10}
    run(work)
    assert proc.oom_score_adj(10) == 300
    assert [key for key in work.reporter.changes if key[1] == "drift"]


def test_who_has_the_pid_of_a_watched_process_can_be_watched(work: Work, proc: FakeProc) -> None:
    """The watch on the first would never report anything."""
    watching = watching_of(work)
    proc.process(Process(Identity(10, 2), b"a"))
    work.worker.check_exec(10)
    assert not watching.drift.watches(10)


def test_who_has_such_a_pid_and_its_value_is_watched_from_the_next_pass(work: Work, proc: FakeProc) -> None:
    """Nothing is written then, so nothing shows that the watch is another's."""
    watching_of(work)
    proc.end(10)
    proc.process(Process(Identity(10, 2), b"a", oom_score_adj=300))
    work.worker.check_exec(10)
    work.worker.begin_pass("resync")
    run(work)
    proc.set_oom_score_adj(10, 0)
    work.loop.turn(busy=True)
    run(work)
    assert proc.oom_score_adj(10) == 300


def test_a_correction_wakes_nobody(work: Work, proc: FakeProc) -> None:
    """Our own write is reported, too: checking the process again would double the cost of a correction."""
    fire(work, "watch")
    work.worker.watching.work(0.0)
    proc.set_oom_score_adj(10, 0)
    work.loop.turn(busy=True)
    run(work)
    work.loop.turn(busy=True)
    assert not work.worker.is_busy
    assert proc.oom_score_adj(10) == 300


def test_a_write_that_crosses_a_correction_is_corrected(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may report both writes as one. One right after the value is read is reported later."""
    watching = watching_of(work)
    change = SetOomScoreAdj(Identity(10, 1), b"a", 0, 300, 0, "drift")
    for value in (300, 0):  # ours, and another on top of it
        proc.set_oom_score_adj(10, value)
    watching.discount([Outcome(change, "applied")])
    assert work.worker.queue.drifting == {10}
    run(work)
    assert proc.oom_score_adj(10) == 300
    read = work.procfs.read

    def read_before_a_write(path: str, limit: int) -> bytes:
        value = read(path, limit)
        proc.set_oom_score_adj(10, 0)
        return value

    monkeypatch.setattr(work.procfs, "read", read_before_a_write)
    watching.discount([Outcome(change, "applied")])
    monkeypatch.undo()
    assert not work.worker.is_busy
    work.loop.turn(busy=True)
    run(work)
    assert proc.oom_score_adj(10) == 300


def test_a_correction_that_cannot_be_read_is_checked_again(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a free descriptor, say: nothing is known of the value then."""
    watching = watching_of(work)
    proc.set_oom_score_adj(10, 300)

    def no_descriptor(path: str, limit: int) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(work.procfs, "read", no_descriptor)
    watching.discount([Outcome(SetOomScoreAdj(Identity(10, 1), b"a", 0, 300, 0, "drift"), "applied")])
    assert work.worker.queue.drifting == {10}


def test_what_is_contended_rests_without_a_watch_and_is_watched_again(work: Work, proc: FakeProc) -> None:
    """Its corrections cost nothing meanwhile but those of passes."""
    fire(work, "watch")
    watching = work.worker.watching
    watching.work(0.0)
    identity = Identity(10, 1)
    while not work.reconciler.backoff.resting:
        work.reconciler.backoff.corrected(identity, 1.0)
        work.reconciler.backoff.must_wait(identity, 1.0)
    watching.rest()
    assert not watching.drift.watches(10)
    wake = work.due("wake")
    assert wake is not None
    fire(work, "wake", wake)
    assert watching.is_busy
    watching.work(wake)
    assert watching.drift.watches(10)
    assert work.due("wake") is None


def test_without_room_for_watches_a_limit_is_reported_once(work: Work) -> None:
    """The values are checked in passes."""
    for _ in range(2):
        work.worker.watching.drift.full = "no room"
        work.worker.watching._unwatched = [10]
        work.worker.watching.work(0.0)
    assert not work.worker.watching.is_busy
    assert [text for text in work.said.messages if "not all managed values are watched" in text] == [
        *work.degradations.texts
    ]


def test_a_sysctl_without_room_for_a_watch_is_reported_while_there_is_none(
    work: Work, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if all processes are watched, or none is managed."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    proc.sysctl("vm.swappiness", 60)
    work.reconciler.adopt(Policy(sysctls=(SysctlSetting("vm.swappiness", 10, "/p.yaml", 1),)))

    def texts_after_a_pass() -> list[str]:
        work.worker.begin_pass("resync")
        run(work)
        return work.degradations.texts

    with monkeypatch.context() as broken:
        broken.setattr(Inotify, "add_descriptor", full)
        for _ in range(2):
            [text] = texts_after_a_pass()
            assert "fs.inotify.max_user_watches" in text
    assert texts_after_a_pass() == []
    assert len(work.worker.watching.drift) == 1


def test_shedding_drops_watches(work: Work) -> None:
    """They are set again when a pass has ended. What is known of names goes, too."""
    fire(work, "watch")
    work.worker.watching.work(0.0)
    matcher = work.reconciler.matching.matcher
    assert matcher._memo
    work.worker.clear()
    assert not matcher._memo
    assert not work.worker.watching.drift.processes
    work.loop.set("watch", None)
    work.worker.watching.end_pass(7.0)
    assert work.due("watch") == 7.0 + WATCH_AGE_SECONDS
