"""Which processes inherited what, from the forks alone, and then against a model of a family."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.core.entry import Entry
from oomguard.core.process import Identity
from oomguard.core.trust import ControlledBy
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.inheritance import CROSSING_NS, Inheritance
from oomguard.reconcile.ledger import Ledger

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
def inheritance(ledger: Ledger, procfs: Procfs, clock: Clock) -> Inheritance:
    """Return what descends from that one: nothing yet."""
    return Inheritance(ledger, procfs, clock)


def test_a_child_of_a_child_inherits(inheritance: Inheritance) -> None:
    """Even if the one between has ended by the time it matters: it forked twice."""
    inheritance.on_fork(MANAGED, CHILD, 1)
    inheritance.on_fork(CHILD, GRANDCHILD, 2)
    inheritance.keep_only({GRANDCHILD})
    assert inheritance.entry(GRANDCHILD) == ENTRY
    assert inheritance.entry(CHILD) is None


def test_the_fork_of_a_process_that_ended_counts_until_the_dead_are_forgotten(
    inheritance: Inheritance,
) -> None:
    """So forks are read after the processes are listed: between the two it may fork once more, and end."""
    inheritance.on_fork(MANAGED, CHILD, 1)
    listed = {MANAGED, GRANDCHILD}
    inheritance.on_fork(CHILD, GRANDCHILD, 2)
    inheritance.keep_only(listed)
    assert inheritance.entry(GRANDCHILD) == ENTRY


def test_the_child_of_an_unmanaged_process_inherits_nothing(inheritance: Inheritance) -> None:
    """Even if its pid was used by one that inherited."""
    inheritance.on_fork(MANAGED, CHILD, 1)
    inheritance.on_fork(999, CHILD, 2)
    inheritance.on_fork(CHILD, GRANDCHILD, 3)
    assert inheritance.entry(CHILD) is None
    assert inheritance.entry(GRANDCHILD) is None


def test_what_is_forked_after_a_reset_inherits_the_original(inheritance: Inheritance, clock: Clock) -> None:
    """A fork just before the reset counts, even if reported later; if unclear, the value decides."""
    inheritance.on_fork(MANAGED, CHILD, 1)
    clock.now = 5
    inheritance.on_reset(CHILD, ENTRY)
    assert inheritance.on_fork(CHILD, 20, 4)
    assert inheritance.on_fork(CHILD, 21, 5 + CROSSING_NS)
    inheritance.on_fork(CHILD, 22, 6 + CROSSING_NS)
    assert inheritance.entry(CHILD) is None
    assert [inheritance.entry(pid) for pid in (20, 21, 22)] == [ENTRY, ENTRY, None]
    assert [inheritance.is_certain(pid) for pid in (20, 21)] == [True, False]
    inheritance.on_other_value(20)
    inheritance.on_other_value(21)
    assert [inheritance.entry(pid) for pid in (20, 21)] == [ENTRY, None]
    assert inheritance.former_entry(CHILD) == ENTRY


def test_the_forks_of_a_process_that_was_reset_and_of_its_parent_are_checked(
    inheritance: Inheritance, clock: Clock
) -> None:
    """For a second: with CLONE_PARENT its children are said to be its parent's."""
    second = 1_000_000_000
    assert not inheritance.on_fork(99, CHILD, 1)
    inheritance.on_reset(CHILD, ENTRY, 99)
    assert inheritance.on_fork(CHILD, 20, second)
    assert inheritance.on_fork(99, 21, second)
    assert not inheritance.on_fork(99, 22, second + 1)
    clock.now = second + 1
    inheritance.keep_only({99, CHILD})
    assert not inheritance.on_fork(99, 22, second)


def test_the_forks_of_a_process_that_inherited_are_checked(inheritance: Inheritance) -> None:
    """It need not run a program to have a child that keeps the value."""
    assert not inheritance.on_fork(MANAGED, CHILD, 1)
    assert inheritance.on_fork(CHILD, GRANDCHILD, 2)


def test_forks_of_init_are_checked_while_there_is_something_to_inherit(
    inheritance: Inheritance, ledger: Ledger
) -> None:
    """An orphan's child is init's, with CLONE_PARENT; else only the service manager forks there."""
    assert not inheritance.on_fork(1, CHILD, 1)
    ledger.record_protection(-900, "cron.service", 0, 1)
    assert inheritance.on_fork(1, CHILD, 1)


def test_the_last_children_of_ended_processes_inherit(inheritance: Inheritance, ledger: Ledger) -> None:
    """It ended before its fork was reported."""
    inheritance.on_exit(MANAGED)
    ledger.forget_process(MANAGED)
    inheritance.on_fork(MANAGED, CHILD, 1)
    assert inheritance.entry(CHILD) == ENTRY


def test_children_may_inherit_on_purpose(inheritance: Inheritance, ledger: Ledger) -> None:
    """With `children: inherit` nothing is recorded of them, nor of their children, nor of one that ended."""
    inheritance.on_set(MANAGED, shares=True)
    inheritance.on_fork(MANAGED, CHILD, 1)
    inheritance.on_fork(CHILD, GRANDCHILD, 2)
    assert inheritance.entry(CHILD) is None
    assert inheritance.entry(GRANDCHILD) is None
    inheritance.on_exit(MANAGED)
    ledger.forget_process(MANAGED)
    inheritance.on_fork(MANAGED, CHILD, 3)
    assert inheritance.entry(CHILD) is None
    assert not inheritance.is_needed


def test_the_children_of_few_parents_are_watched(inheritance: Inheritance) -> None:
    """The filter in the kernel names each parent; the children of more are found in passes."""
    for pid in range(100, 300):
        inheritance.on_set(pid, watch=ControlledBy.ROOTS)
    assert inheritance.watched_parents == frozenset(range(100, 164))
    inheritance.on_set(100)
    assert 100 not in inheritance.watched_parents


def test_what_a_user_can_multiply_takes_no_place_from_what_matters(inheritance: Inheritance) -> None:
    """Whichever comes first; among equals who has a place keeps it."""
    for pid in range(100, 164):
        inheritance.on_set(pid, watch=ControlledBy.ANYBODYS)
    inheritance.on_set(200, watch=ControlledBy.A_SERVICES)
    inheritance.on_set(201, watch=ControlledBy.ANYBODYS)
    for pid in range(300, 363):
        inheritance.on_set(pid, watch=ControlledBy.ROOTS)
    assert inheritance.watched_parents == {200, *range(300, 363)}
    inheritance.on_set(400, watch=ControlledBy.ROOTS)
    assert inheritance.watched_parents == {*range(300, 363), 400}


def test_parents_watched_for_a_match_take_no_place_from_protected_ones(
    inheritance: Inheritance,
) -> None:
    """Their children lose nothing but time: a pass finds them."""
    for pid in range(100, 164):
        inheritance.watch_for_match(pid, ControlledBy.ROOTS)
    assert inheritance.watched_parents == set(range(100, 164))
    for pid in range(300, 360):
        inheritance.on_set(pid, watch=ControlledBy.ANYBODYS)
    assert inheritance.watched_parents == {*range(300, 360), *range(100, 104)}
    inheritance.watch_for_match(100, None)
    inheritance.has_new_watched = False
    inheritance.watch_for_match(101, ControlledBy.ROOTS)
    assert not inheritance.has_new_watched
    assert 100 not in inheritance.watched_parents


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["fork", "reset", "die"])), max_size=60))
def test_what_inherited_is_what_has_the_value_of_the_managed_one(acts: list[tuple[int, str]]) -> None:
    """For any family, reported in order: by a model that copies the value as the kernel does."""
    ledger, clock = Ledger(), Clock()
    ledger.record(Identity(1, 1), ENTRY)
    inheritance = Inheritance(ledger, Procfs(), clock)
    values: dict[int, int] = {1: -900, 2: 0}
    alive, next_pid = [1, 2], 3
    for which, act in acts:
        if not alive:
            break
        pid = alive[which % len(alive)]
        clock.now += 2 * CROSSING_NS
        if act == "fork":
            values[next_pid] = values[pid]
            inheritance.on_fork(pid, next_pid, clock.now)
            alive.append(next_pid)
            next_pid += 1
        elif act == "reset" and pid != 1 and values[pid] == -900:
            values[pid] = 0
            inheritance.on_reset(pid, ENTRY)
        elif act == "die" and pid != 1:
            alive.remove(pid)
    for pid in alive:
        if pid != 1:
            assert (inheritance.entry(pid) is not None) == (values[pid] == -900)
