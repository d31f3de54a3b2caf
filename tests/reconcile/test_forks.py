"""Which processes inherited what, from the forks alone, and then against a model of a family."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.core.entry import Entry
from oomguard.core.process import Identity
from oomguard.core.trust import ControlledBy
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.known import UNRELATED
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.managed import CROSSING_NS, ManagedProcesses

MANAGED, CHILD, GRANDCHILD = 10, 11, 12
ENTRY = Entry(0, -900)


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        """Return it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 0."""
    return Clock()


@pytest.fixture
def ledger() -> Ledger:
    """Return a ledger with one process in it."""
    made = Ledger()
    made.record(Identity(MANAGED, 1), ENTRY)
    return made


@pytest.fixture
def managed(ledger: Ledger, procfs: Procfs, clock: Clock) -> ManagedProcesses:
    """Return what is known about processes: nothing descends from that one yet."""
    return ManagedProcesses(ledger, procfs, clock)


def origin(managed: ManagedProcesses, pid: int) -> Entry | None:
    """Return the entry of the process that this one has its value from."""
    return managed.descents.get(pid, UNRELATED).origin


def test_a_child_of_a_child_inherits(managed: ManagedProcesses) -> None:
    """Even if the one between has ended by the time it matters: it forked twice."""
    managed.on_fork(MANAGED, CHILD, 1)
    managed.on_fork(CHILD, GRANDCHILD, 2)
    managed.keep_only({GRANDCHILD})
    assert origin(managed, GRANDCHILD) == ENTRY
    assert origin(managed, CHILD) is None


def test_the_fork_of_a_process_that_ended_counts_until_the_dead_are_forgotten(
    managed: ManagedProcesses,
) -> None:
    """So forks are read after the processes are listed: between the two it may fork once more, and end."""
    managed.on_fork(MANAGED, CHILD, 1)
    listed = {MANAGED, GRANDCHILD}
    managed.on_fork(CHILD, GRANDCHILD, 2)
    managed.keep_only(listed)
    assert origin(managed, GRANDCHILD) == ENTRY


def test_the_child_of_an_unmanaged_process_inherits_nothing(managed: ManagedProcesses) -> None:
    """Even if its pid was used by one that inherited."""
    managed.on_fork(MANAGED, CHILD, 1)
    managed.on_fork(999, CHILD, 2)
    managed.on_fork(CHILD, GRANDCHILD, 3)
    assert origin(managed, CHILD) is None
    assert origin(managed, GRANDCHILD) is None


def test_what_is_forked_after_a_reset_inherits_the_original(managed: ManagedProcesses, clock: Clock) -> None:
    """A fork just before the reset counts, even if reported later; if unclear, the value decides."""
    managed.on_fork(MANAGED, CHILD, 1)
    clock.now = 5
    managed.on_reset(CHILD, ENTRY)
    assert managed.on_fork(CHILD, 20, 4)
    assert managed.on_fork(CHILD, 21, 5 + CROSSING_NS)
    managed.on_fork(CHILD, 22, 6 + CROSSING_NS)
    assert origin(managed, CHILD) is None
    assert [origin(managed, pid) for pid in (20, 21, 22)] == [ENTRY, ENTRY, None]
    assert [managed.descents[pid].is_certain for pid in (20, 21)] == [True, False]
    for pid in (20, 21):
        managed.on_other_value(pid)
    assert [origin(managed, pid) for pid in (20, 21)] == [ENTRY, None]
    assert managed.descents[CHILD].former == ENTRY


def test_the_forks_of_a_process_that_was_reset_and_of_its_parent_are_checked(
    managed: ManagedProcesses, clock: Clock
) -> None:
    """For a second: with CLONE_PARENT its children are said to be its parent's."""
    second = 1_000_000_000
    assert not managed.on_fork(99, CHILD, 1)
    managed.on_reset(CHILD, ENTRY, 99)
    assert managed.on_fork(CHILD, 20, second)
    assert managed.on_fork(99, 21, second)
    assert not managed.on_fork(99, 22, second + 1)
    clock.now = second + 1
    managed.keep_only({99, CHILD})
    assert not managed.on_fork(99, 22, second)


def test_the_forks_of_a_process_that_inherited_are_checked(managed: ManagedProcesses) -> None:
    """It need not run a program to have a child that keeps the value."""
    assert not managed.on_fork(MANAGED, CHILD, 1)
    assert managed.on_fork(CHILD, GRANDCHILD, 2)


def test_forks_of_init_are_checked_while_there_is_something_to_inherit(
    managed: ManagedProcesses, ledger: Ledger
) -> None:
    """An orphan's child is init's, with CLONE_PARENT; else only the service manager forks there."""
    assert not managed.on_fork(1, CHILD, 1)
    ledger.record_protection(-900, "cron.service", 0, 1)
    assert managed.on_fork(1, CHILD, 1)


def test_the_last_children_of_ended_processes_inherit(managed: ManagedProcesses, ledger: Ledger) -> None:
    """It ended before its fork was reported."""
    managed.on_exit(MANAGED)
    managed.on_fork(MANAGED, CHILD, 1)
    assert origin(managed, CHILD) == ENTRY


def test_children_may_inherit_on_purpose(managed: ManagedProcesses, ledger: Ledger) -> None:
    """With `children: inherit` nothing is recorded of them, nor of their children, nor of one that ended."""
    managed.known[MANAGED].is_sharing = True
    managed.on_fork(MANAGED, CHILD, 1)
    managed.on_fork(CHILD, GRANDCHILD, 2)
    assert origin(managed, CHILD) is None
    assert origin(managed, GRANDCHILD) is None
    managed.on_exit(MANAGED)
    managed.on_fork(MANAGED, CHILD, 3)
    assert origin(managed, CHILD) is None
    assert not managed.is_needed


def test_the_children_of_few_parents_are_watched(managed: ManagedProcesses) -> None:
    """The filter in the kernel names each parent; the children of more are found in passes."""
    for pid in range(100, 300):
        managed.watch(pid, ControlledBy.ROOTS)
    assert managed.watched == set(range(100, 164))
    managed.watch(100, None)
    assert 100 not in managed.watched


def test_what_a_user_can_multiply_takes_no_place_from_what_matters(managed: ManagedProcesses) -> None:
    """Whichever comes first; among equals who has a place keeps it."""
    for pid in range(100, 164):
        managed.watch(pid, ControlledBy.ANYBODYS)
    managed.watch(200, ControlledBy.A_SERVICES)
    managed.watch(201, ControlledBy.ANYBODYS)
    for pid in range(300, 363):
        managed.watch(pid, ControlledBy.ROOTS)
    assert managed.watched == {200, *range(300, 363)}
    managed.watch(400, ControlledBy.ROOTS)
    assert managed.watched == {*range(300, 363), 400}


def test_parents_watched_for_a_match_take_no_place_from_protected_ones(
    managed: ManagedProcesses,
) -> None:
    """Their children lose nothing but time: a pass finds them."""
    for pid in range(100, 164):
        managed.watch(pid, ControlledBy.ROOTS, for_match=True)
    assert managed.watched == set(range(100, 164))
    for pid in range(300, 360):
        managed.watch(pid, ControlledBy.ANYBODYS)
    assert managed.watched == {*range(300, 360), *range(100, 104)}
    managed.watch(100, None, for_match=True)
    managed.has_new_watched = False
    managed.watch(101, ControlledBy.ROOTS, for_match=True)
    assert not managed.has_new_watched
    assert managed.watched == {*range(300, 360), *range(101, 105)}, "the next has the free place at once"


def test_a_parent_that_is_no_longer_protected_is_still_watched_for_a_match(
    managed: ManagedProcesses,
) -> None:
    """Else its children could rewrite their command lines unseen until the next pass."""
    managed.watch(100, ControlledBy.ROOTS, for_match=True)
    managed.watch(100, ControlledBy.ROOTS)
    managed.watch(100, None)
    assert managed.watched == {100}
    assert managed.on_fork(100, CHILD, 1)
    managed.watch(100, None, for_match=True)
    assert not managed.watched


def test_a_parent_that_becomes_a_users_has_the_place_of_a_user(managed: ManagedProcesses) -> None:
    """Each login begins as root's: 64 users would keep all places from what is root's."""
    for pid in range(100, 164):
        managed.watch(pid, ControlledBy.ROOTS)
        managed.watch(pid, ControlledBy.ANYBODYS)
    managed.watch(200, ControlledBy.ROOTS)
    assert managed.watched == {200, *range(100, 163)}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["fork", "reset", "die"])), max_size=60))
def test_what_inherited_is_what_has_the_value_of_the_managed_one(acts: list[tuple[int, str]]) -> None:
    """For any family, reported in order: by a model that copies the value as the kernel does."""
    ledger, clock = Ledger(), Clock()
    ledger.record(Identity(1, 1), ENTRY)
    managed = ManagedProcesses(ledger, Procfs(), clock)
    values: dict[int, int] = {1: -900, 2: 0}
    alive, next_pid = [1, 2], 3
    for which, act in acts:
        if not alive:
            break
        pid = alive[which % len(alive)]
        clock.now += 2 * CROSSING_NS
        if act == "fork":
            values[next_pid] = values[pid]
            managed.on_fork(pid, next_pid, clock.now)
            alive.append(next_pid)
            next_pid += 1
        elif act == "reset" and pid != 1 and values[pid] == -900:
            values[pid] = 0
            managed.on_reset(pid, ENTRY)
        elif act == "die" and pid != 1:
            alive.remove(pid)
    for pid in alive:
        if pid != 1:
            assert (origin(managed, pid) is not None) == (values[pid] == -900)
