"""The subscription to process events, with a connector that a test fills."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSet

import pytest

from fakeproc import FakeProc
from oomguard.core.entry import Entry
from oomguard.core.process import INIT_PID, Identity
from oomguard.daemon.noise import LOOK_SECONDS, MUTE_SECONDS, PROCESS_LIMIT, TOTAL_LIMIT
from oomguard.daemon.process_events import DESCENDANTS_LIMIT
from oomguard.daemon.worker import NO_EVENTS
from oomguard.kernel.connector import Connector, ConnectorUnavailableError
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.state_folder import StateFolder
from workers import Work


class Wire(Connector):
    """What a connector has received, and what it was asked for."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self.changed: list[int] = []
        self.answer: bool | None = None
        self.requested = self.has_forks = False
        self._behind = 0
        self.muted: tuple[frozenset[int], bool] = (frozenset(), False)
        self.pids: list[int] = []
        self.is_silent = self.is_full = self.has_lost_forks = False
        self.forked: list[tuple[int, int]] = []
        self.parents: frozenset[int] = frozenset()

    def fileno(self) -> int:
        """Return what is readable after `wake`."""
        return self._reader

    def wake(self) -> None:
        """Be readable from now on."""
        os.write(self._writer, b"1")

    def next_exec(self) -> tuple[int, int] | None:
        """Take one of what the test put here."""
        return (self.pids.pop(0), 1) if self.pids else None

    def probe(self) -> None:
        """Answer at once."""
        self.answer = not self.is_silent

    def renew(self, count: int) -> None:
        """Do nothing."""

    def hear_requests(self) -> None:
        """Hear none."""

    def ignore_requests(self) -> None:
        """Hear none."""

    def receive(
        self, pids: MutableSet[int], executed: MutableMapping[int, int] | None = None, *, limit: int
    ) -> bool:
        """Take what the test put here."""
        for pid in self.pids:
            pids.add(pid)
        self.pids = []
        return self.is_full

    def forks(self, note: Callable[[int, int, int], object], *, until: int = 0) -> bool:
        """Have seen those that the test put here."""
        for parent, child in self.forked:
            note(parent, child, 0)
        self.has_forks, self.forked = False, []
        lost, self.has_lost_forks = self.has_lost_forks, False
        return lost

    def watch_parents(self, parents: frozenset[int]) -> bool:
        """Take note, and have seen more forks."""
        self.parents, before = parents, self.parents
        return parents != before

    def mute(self, pids: frozenset[int], *, all_renames: bool) -> None:
        """Take note."""
        self.muted = (pids, all_renames)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._reader)
        os.close(self._writer)


class Subscription:
    """A worker whose events come from a test."""

    def __init__(self, work: Work) -> None:
        self.wire = Wire()
        self.work = work
        self.events = work.worker.events
        self.queue = work.worker.queue
        assert self.events.open(lambda: self.wire) == ""

    def receive(self) -> None:
        """Let it be readable."""
        self.work.loop._readable[self.wire.fileno()]()

    def fire(self, timer: str, now: float) -> None:
        """Let a timer be due."""
        self.work.loop.set(timer, None)
        self.work.loop._timers[timer](now)


@pytest.fixture
def work(procfs: Procfs, folder: StateFolder) -> Iterator[Work]:
    """Return a worker that has an empty policy and an empty tree."""
    made = Work(procfs, folder)
    yield made
    made.worker.watching.drift.close()


@pytest.fixture
def subscription(work: Work) -> Iterator[Subscription]:
    """Return one that nobody silences."""
    made = Subscription(work)
    yield made
    made.events.close()


def test_without_a_connector_there_is_a_reason_and_nothing_to_do(work: Work) -> None:
    """Whatever is asked of it."""

    def connect() -> Connector:
        raise ConnectorUnavailableError("no connector here")

    events = work.worker.events
    assert events.open(connect) == "no connector here"
    events.prove()
    events.work()
    events.end_pass()
    assert (events.flow, events.have_stopped, events.is_busy) == (False,) * 3
    assert events.follow_children() == set()
    events.close()


def test_a_program_that_needs_nothing_is_passed_over(subscription: Subscription) -> None:
    """Its name is in no rule, or it has ended."""
    subscription.wire.pids = [7, 8]
    subscription.wire.wake()
    assert subscription.events.check_programs() == []
    assert (subscription.wire.pids, subscription.queue.urgent) == ([], set())


def test_a_program_of_any_name_may_have_inherited_a_value_while_forks_were_lost(
    subscription: Subscription,
) -> None:
    """Nobody knows whose child it is, so it is checked at once."""
    managed = subscription.work.reconciler.managed
    managed.ledger.record(Identity(8, 1), Entry(0, -900))
    managed.forget_forks()
    assert not subscription.work.reconciler.needs_nothing(7)


def test_a_program_that_may_need_something_is_checked_at_once(subscription: Subscription) -> None:
    """Here it has ended, so that it is forgotten; and the children it forked before are known first."""
    managed = subscription.work.reconciler.managed
    managed.ledger.known_of(Identity(8, 1)).raised_by = 0
    subscription.wire.pids = [7, 8]
    subscription.wire.forked = [(8, 9)]
    subscription.wire.wake()
    assert subscription.events.check_programs() == []
    assert (managed.known[8].raised_by, managed.executed, subscription.wire.forked) == (None, {}, [])
    assert not subscription.queue


def test_what_events_are_about_waits_to_be_checked(subscription: Subscription) -> None:
    """Before everything else."""
    subscription.wire.pids = [7, 8]
    subscription.receive()
    assert subscription.queue.urgent == {7, 8}


def test_events_that_stop_are_told_once_and_polled_for(subscription: Subscription) -> None:
    """What started meanwhile is found by a pass, and who forked it is asked of living parents."""
    assert (subscription.events.flow, subscription.events.have_stopped) == (True, False)
    subscription.wire.is_silent = True
    for _ in range(2):
        subscription.events.prove()
    assert (subscription.events.flow, subscription.events.have_stopped) == (False, True)
    assert subscription.events.is_busy
    assert subscription.work.said.messages == [NO_EVENTS]
    assert subscription.queue.sweep.is_running
    subscription.events.end_pass()
    assert subscription.work.reconciler.managed.asks_parents


def test_lost_events_are_a_reason_for_a_pass(subscription: Subscription) -> None:
    """And those of forks, which are forgotten: the children of what is not known are not, either."""
    subscription.wire.is_full = True
    subscription.receive()
    assert subscription.work.status.losses == 1
    subscription.wire.is_full = False
    subscription.wire.has_lost_forks = True
    subscription.events.follow_forks()
    assert subscription.work.status.losses == 2
    assert subscription.queue.sweep.is_running


def test_forks_lost_in_a_pass_are_made_up_for_by_the_next(subscription: Subscription) -> None:
    """It has listed its processes already: their parents are asked by the pass that follows."""
    work = subscription.work
    work.worker.begin_pass("start")
    subscription.wire.has_lost_forks = True
    subscription.events.follow_forks()
    subscription.events.end_pass()
    assert work.reconciler.managed.asks_parents
    work.worker.begin_pass("resync")
    subscription.events.end_pass()
    assert not work.reconciler.managed.asks_parents


def test_forks_are_followed_where_something_may_be_inherited(subscription: Subscription) -> None:
    """Otherwise nobody reads them, which would cost a system call for each event."""
    subscription.wire.forked = [(5, 6)]
    subscription.receive()
    assert subscription.wire.forked
    subscription.wire.has_forks = True
    subscription.receive()
    assert not subscription.wire.forked


def test_what_a_fork_bomb_has_ended_is_forgotten_before_the_next_pass(
    subscription: Subscription, proc: FakeProc
) -> None:
    """Any user can start and end so many processes in a minute that they would take all memory."""
    bomb, lives, forks = 5, 6, 5_000
    for pid in (bomb, lives):
        (proc.root / str(pid)).mkdir()
    managed = subscription.work.reconciler.managed
    managed.ledger.record(Identity(bomb, 1), Entry(0, 300))
    subscription.wire.forked = [(bomb, lives)]
    for first in range(100, 4 * DESCENDANTS_LIMIT, forks):
        subscription.wire.forked += [(bomb, child) for child in range(first, first + forks)]
        subscription.receive()
        assert len(managed.descents) <= DESCENDANTS_LIMIT + forks
    assert managed.descents[lives].origin == Entry(0, 300)


def test_programs_that_ended_before_they_were_checked_are_forgotten_before_the_next_pass(
    subscription: Subscription, proc: FakeProc
) -> None:
    """If too many start, the queue drops them; the pass that makes up for it can take long."""
    (proc.root / "6").mkdir()
    executed = subscription.work.reconciler.managed.executed
    executed[6] = 1
    for first in range(100, 4 * DESCENDANTS_LIMIT, 5_000):
        executed.update(dict.fromkeys(range(first, first + 5_000), 1))
        subscription.receive()
        assert len(subscription.work.reconciler.managed.executed) <= DESCENDANTS_LIMIT + 5_000
        executed = subscription.work.reconciler.managed.executed
    assert executed[6] == 1


def crowd(subscription: Subscription, proc: FakeProc) -> Iterator[Iterable[int]]:
    """Yield the pids of ever more processes, of which only 6 lives; receive events after each lot."""
    (proc.root / "6").mkdir()
    for first in range(100, 4 * DESCENDANTS_LIMIT, 5_000):
        yield (6, *range(first, first + 5_000))
        subscription.receive()


def test_what_was_known_of_ended_processes_is_forgotten_before_the_next_pass(
    subscription: Subscription, proc: FakeProc
) -> None:
    """A rule may keep any number of short programs as they are, so that nothing is inherited from them."""
    managed = subscription.work.reconciler.managed
    for pids in crowd(subscription, proc):
        assert len(managed.known) <= DESCENDANTS_LIMIT / 2 + 5_000
        for pid in pids:
            managed.ledger.known_of(Identity(pid, 1)).rule = 0
    assert len(managed.known) <= DESCENDANTS_LIMIT / 2 + 5_000
    assert managed.known[6].rule == 0


def test_whose_floor_was_checked_is_forgotten_before_the_next_pass(
    subscription: Subscription, proc: FakeProc
) -> None:
    """While a rule protects, the children of orphans are checked, of which any user can have any number."""
    inheritance = subscription.work.reconciler.inheritance
    for pids in crowd(subscription, proc):
        assert len(inheritance._floor_checked) <= DESCENDANTS_LIMIT + 5_000
        inheritance._floor_checked.update(dict.fromkeys(pids, 1))
    assert len(inheritance._floor_checked) <= DESCENDANTS_LIMIT + 5_000
    assert inheritance._floor_checked[6] == 1


def test_resets_of_more_than_a_second_ago_are_forgotten_before_the_next_pass(
    subscription: Subscription,
) -> None:
    """It may be a day away, and any user can have 200 processes a second reset."""
    managed = subscription.work.reconciler.managed
    ticks = itertools.count(1, 5_000_000)
    managed._clock = lambda: next(ticks)
    for pid in range(100, 10_000):
        managed.on_reset(pid, Entry(0, 300))
        if pid % 100 == 0:
            subscription.receive()
            assert len(managed._reset_until) <= DESCENDANTS_LIMIT / 4 + 100


def test_the_children_of_init_are_checked_soon_while_protection_may_be_inherited(
    subscription: Subscription,
) -> None:
    """An orphan's child can be made to look like one of its own."""
    subscription.work.reconciler.ledger.record_protection(-900, "a.service", 0, 1)
    subscription.events.watch_parents()
    assert subscription.wire.parents == {INIT_PID}
    subscription.wire.forked = [(INIT_PID, 6)]
    assert subscription.events.follow_children() == {6}
    assert subscription.work.due("child") is not None


def test_a_noisy_process_is_muted_and_checked_until_it_is_heard_again(subscription: Subscription) -> None:
    """Once a second, as its events are dropped."""
    begun = time.monotonic()
    wire, queue = subscription.wire, subscription.queue
    wire.changed = [7] * (PROCESS_LIMIT + 1)
    subscription.receive()
    assert (wire.muted, wire.changed) == ((frozenset({7}), False), [])
    due = subscription.work.due("noise")
    assert due is not None
    subscription.fire("noise", due)
    assert (queue.urgent, subscription.work.due("noise")) == ({7}, due + LOOK_SECONDS)
    queue.urgent.clear()
    subscription.fire("noise", begun + 2 * MUTE_SECONDS)
    assert queue.urgent == {7}, "its last changes were dropped"
    assert (wire.muted, subscription.work.due("noise")) == ((frozenset(), False), None)
    assert not queue.sweep.is_running


def test_everything_is_checked_once_all_renames_are_heard_again(subscription: Subscription) -> None:
    """Whose they were is not known."""
    begun = time.monotonic()
    subscription.wire.changed = list(range(TOTAL_LIMIT + 1))
    subscription.receive()
    assert subscription.wire.muted == (frozenset(), True)
    subscription.fire("noise", begun + 1)
    assert not subscription.queue.sweep.is_running
    subscription.fire("noise", begun + 2 * MUTE_SECONDS)
    assert subscription.queue.sweep.is_running
