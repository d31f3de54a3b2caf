"""Which processes wait to be checked, and in which order their turn comes."""

import time
import tracemalloc
from collections.abc import Iterable

import pytest

from oomguard.core.choices import Cause
from oomguard.daemon.loop import Loop
from oomguard.daemon.work_queue import (
    CHASES,
    CHILD_SECONDS,
    FIRST_CHASES,
    UNDECIDED_SECONDS,
    URGENT_LIMIT,
    Sweep,
    WorkQueue,
)


class Waiting(WorkQueue):
    """A queue, what it reported as lost, and how often forks were followed."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.followed = 0
        self.loop = Loop()
        super().__init__(self.loop, follow_forks=self._follow, lost=self.lost.append)

    def _follow(self) -> None:
        self.followed += 1

    def fire(self, timer: str) -> None:
        """Let a timer be due."""
        self.loop.set(timer, None)
        self.loop._timers[timer](0.0)

    def seconds(self, timer: str) -> float:
        """Return after what time a timer is due."""
        return self.loop._due[timer] - time.monotonic()


@pytest.fixture
def queue() -> Waiting:
    """Return one in which nothing waits."""
    return Waiting()


def causes(queue: WorkQueue, *, is_throttled: bool = False) -> list[Cause]:
    """Check one process of each batch that is due, and return why."""
    found: list[Cause] = []
    for batch in queue.batches(is_throttled=is_throttled):
        found.append(batch.cause or queue.sweep.cause_of(batch.pids.pop()))
        if batch.cause:
            batch.pids.pop()
    return found


def begun(pids: Iterable[int] = (1, 2, 3), cause: Cause = "resync", *, chases_ended: bool = False) -> Sweep:
    """Return a pass that has these processes to check."""
    sweep = Sweep()
    sweep.begin(cause, [*pids], chases_ended=chases_ended)
    return sweep


def test_events_come_before_writes_and_those_before_the_pass(queue: Waiting) -> None:
    """One batch at a time: what comes meanwhile is not kept waiting."""
    queue.sweep.begin("policy", [7], chases_ended=False)
    queue.drifting.add(8)
    queue.urgent.add(9)
    assert [causes(queue) for _ in range(3)] == [["exec"], ["drift"], ["policy"]]
    assert causes(queue) == []


def test_half_of_the_time_is_the_passes_at_the_ceiling(queue: Waiting) -> None:
    """Events come faster than there is time for; below it they do not."""
    queue.sweep.begin("policy", [1, 2, 3], chases_ended=False)
    queue.urgent |= {7, 8, 9, 10}
    found = [causes(queue, is_throttled=True) for _ in range(4)]
    assert found == [["policy"], ["exec"], ["policy"], ["exec"]]
    assert [causes(queue) for _ in range(2)] == [["exec"], ["exec"]]


def test_a_throttled_daemon_leaves_no_written_value_for_good(queue: Waiting) -> None:
    """Where programs start all the time, a tool or a user could keep a value of its own choice."""
    queue.sweep.begin("policy", [1, 2, 3, 4], chases_ended=False)
    queue.urgent |= {5, 6, 7, 8}
    queue.drifting |= {9, 10}
    found = [causes(queue, is_throttled=True) for _ in range(8)]
    assert found == [["policy"], ["exec"], ["policy"], ["drift"]] * 2
    assert [causes(queue, is_throttled=True) for _ in range(2)] == [["exec"]] * 2


def test_what_is_put_off_comes_first_once_it_is_due(queue: Waiting) -> None:
    """As part of a pass would, and in addition to what else is next; forks are followed before."""
    queue.urgent.add(9)
    queue.put_off("child", {7})
    queue.put_off("undecided", {8})
    assert 0 < queue.seconds("child") <= CHILD_SECONDS < queue.seconds("undecided") <= UNDECIDED_SECONDS
    assert causes(queue) == ["exec"]
    assert queue.followed == 0
    queue.fire("child")
    assert queue.followed == 1
    queue.urgent.add(9)
    due, urgent = queue.batches(is_throttled=False)
    assert (due.pids, due.in_pass, urgent.pids, urgent.in_pass) == ([7], True, {9}, False)
    due.pids.clear()
    urgent.pids.clear()
    assert not queue
    queue.fire("undecided")
    assert queue


def test_a_busy_host_is_asked_again_the_later_the_more_there_is(queue: Waiting) -> None:
    """At least 5 ms later; one process is one, however often it is put off."""
    until = set()
    for pids, seconds in (({1}, 0.005), ({1}, 0.005), (range(2000), 2.0)):
        queue.loop.set("postponed", None)
        queue.put_off("postponed", pids)
        assert seconds / 2 < queue.seconds("postponed") <= seconds
        until.add(queue.sweep.patient_until)
    assert len(until) == 1, "a pass does not wait for good"


@pytest.mark.parametrize("is_urgent", [True, False])
def test_more_than_a_pass_takes_is_dropped(queue: Waiting, *, is_urgent: bool) -> None:
    """It is told, so that a pass follows; the rest still waits."""
    queue.check_size()
    queue.urgent |= set(range(URGENT_LIMIT + 1 if is_urgent else 1))
    queue.put_off("child", range(1 if is_urgent else URGENT_LIMIT + 1))
    queue.fire("child")
    assert queue.lost == ["more processes start than oomguard can check one by one"]
    assert causes(queue) == ["exec"]
    queue.check_size()
    assert len(queue.lost) == 1


def test_shedding_drops_everything(queue: Waiting) -> None:
    """Short of memory, also what is put off, and a pass in progress."""
    queue.sweep.begin("resync", [1], chases_ended=False)
    queue.urgent.add(2)
    queue.drifting.add(3)
    queue.put_off("child", {4})
    queue.clear()
    queue.fire("child")
    assert not queue


def test_a_pass_checks_the_oldest_first() -> None:
    """They are listed in that order."""
    sweep = begun()
    assert [sweep.pids.pop() for _ in range(3)] == [1, 2, 3]


def test_what_the_pass_before_did_not_see_has_started() -> None:
    """Where no event tells; under another policy, every process is changed because of that."""
    sweep = begun([1, 2])
    sweep.begin("resync", [1, 2, 3], chases_ended=False)
    assert [sweep.cause_of(pid) for pid in (1, 2, 3)] == ["resync", "resync", "exec"]
    sweep.begin("policy", [1, 2, 3, 4], chases_ended=False)
    assert sweep.cause_of(4) == "policy"


def test_between_passes_what_was_listed_takes_little_memory() -> None:
    """Any user can have 10,000 processes: two sets of them took 1.5 MiB. What is new is still known."""
    sweep = Sweep()
    tracemalloc.start()
    try:
        for _ in range(2):
            sweep.begin("resync", [*range(100_000, 110_000)], chases_ended=True)
            sweep.end()
            sweep.end()
        assert tracemalloc.get_traced_memory()[0] < 2**18
    finally:
        tracemalloc.stop()
    assert sweep.newcomers([100_000, 5]) == {5}
    sweep.begin("resync", [100_000, 5], chases_ended=False)
    assert [sweep.cause_of(pid) for pid in (100_000, 5)] == ["resync", "exec"]


def test_a_pass_that_found_nothing_inherited_is_over() -> None:
    """What ended or started meanwhile is another's business: its event's."""
    sweep = begun()
    assert not sweep.chase(lambda: [1, 2, 4])


def test_children_of_what_inherited_are_chased() -> None:
    """Only those forked meanwhile, the latest first, as often as the pass finds more, within a limit."""
    sweep = begun()
    for chase in range(CHASES):
        sweep.found_inherited = True
        listed = [1, 2, 3, *range(10, 12 + chase)]
        assert sweep.chase(listed.copy)
        assert sweep.pids == ([10, 11] if chase == 0 else [11 + chase])
    sweep.found_inherited = True
    assert not sweep.chase(lambda: [1, 2, 3, *range(10, 100)])


def test_what_ended_before_it_was_reached_may_have_forked() -> None:
    """Where a protected value may be inherited; twice, unless something is found."""
    sweep = begun(chases_ended=True)
    for young in range(FIRST_CHASES):
        assert sweep.chase([1, 2, 4 + young].copy)
    assert not sweep.chase(lambda: [1, 2, 9])
    assert not begun(chases_ended=True).chase(lambda: [1, 2, 3, 4])


def test_a_pass_that_found_something_once_is_chased_to_the_end() -> None:
    """Though it found no other since: each of them forked, and ended before it was reached."""
    sweep = begun(chases_ended=True)
    sweep.found_inherited = True
    for young in range(CHASES):
        assert sweep.chase([1, 2, 3, 4 + young].copy)
    assert not sweep.chase(lambda: [1, 2, 3, 99])
