"""Who inherited what, from the forks alone, and then against a tree and a model of a family."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.core.diff import Entry
from oomguard.core.process import Identity
from oomguard.core.trust import Standing
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.lineage import CROSSING_NS, Lineage

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
    made.record_process(Identity(MANAGED, 1), ENTRY)
    return made


@pytest.fixture
def lineage(ledger: Ledger, clock: Clock) -> Lineage:
    """Return who descends from that one: nobody yet."""
    return Lineage(ledger, lambda _: True, clock)


def test_a_child_of_a_child_is_an_heir(lineage: Lineage) -> None:
    """Though the one between is gone by the time it matters: it forked twice to be nobody's child."""
    lineage.forked(MANAGED, CHILD, 1)
    lineage.forked(CHILD, GRANDCHILD, 2)
    lineage.keep_only({GRANDCHILD})
    assert lineage.entry(GRANDCHILD) == ENTRY
    assert lineage.entry(CHILD) is None


def test_the_fork_of_a_process_that_ended_counts_until_the_dead_are_forgotten(lineage: Lineage) -> None:
    """So forks are read after the processes are listed: between the two it may fork once more, and end."""
    lineage.forked(MANAGED, CHILD, 1)
    listed = {MANAGED, GRANDCHILD}
    lineage.forked(CHILD, GRANDCHILD, 2)
    lineage.keep_only(listed)
    assert lineage.entry(GRANDCHILD) == ENTRY


def test_a_strangers_child_is_none(lineage: Lineage) -> None:
    """Also when its pid was an heir's before."""
    lineage.forked(MANAGED, CHILD, 1)
    lineage.forked(999, CHILD, 2)
    lineage.forked(CHILD, GRANDCHILD, 3)
    assert lineage.entry(CHILD) is None
    assert lineage.entry(GRANDCHILD) is None


def test_what_is_forked_after_a_reset_inherits_what_that_gave(lineage: Lineage, clock: Clock) -> None:
    """What was forked just before is told of later and counts; what may have been, its value tells."""
    lineage.forked(MANAGED, CHILD, 1)
    clock.now = 5
    lineage.gave_up(CHILD, ENTRY)
    assert lineage.forked(CHILD, 20, 4)
    assert lineage.forked(CHILD, 21, 5 + CROSSING_NS)
    lineage.forked(CHILD, 22, 6 + CROSSING_NS)
    assert lineage.entry(CHILD) is None
    assert [lineage.entry(pid) for pid in (20, 21, 22)] == [ENTRY, ENTRY, None]
    assert [lineage.is_certain(pid) for pid in (20, 21)] == [True, False]
    lineage.has_own(20)
    lineage.has_own(21)
    assert [lineage.entry(pid) for pid in (20, 21)] == [ENTRY, None]
    assert lineage.former_entry(CHILD) == ENTRY


def test_the_forks_of_a_process_that_was_reset_and_of_its_parent_are_checked(
    lineage: Lineage, clock: Clock
) -> None:
    """For a second: with CLONE_PARENT its children are said to be its parent's."""
    second = 1_000_000_000
    assert not lineage.forked(99, CHILD, 1)
    lineage.gave_up(CHILD, ENTRY, 99)
    assert lineage.forked(CHILD, 20, second)
    assert lineage.forked(99, 21, second)
    assert not lineage.forked(99, 22, second + 1)
    clock.now = second + 1
    lineage.keep_only({99, CHILD})
    assert not lineage.forked(99, 22, second)


def test_the_forks_of_a_process_that_inherited_are_checked(lineage: Lineage) -> None:
    """It need not run a program to have a child that keeps the value."""
    assert not lineage.forked(MANAGED, CHILD, 1)
    assert lineage.forked(CHILD, GRANDCHILD, 2)


def test_forks_of_init_are_checked_while_there_is_something_to_inherit(
    lineage: Lineage, ledger: Ledger
) -> None:
    """An orphan's child is init's, with CLONE_PARENT; else only the service manager forks there."""
    assert not lineage.forked(1, CHILD, 1)
    ledger.record_protection(-900, "cron.service", 0, 1)
    assert lineage.forked(1, CHILD, 1)


def test_the_last_children_of_the_dead_are_heirs(lineage: Lineage, ledger: Ledger) -> None:
    """It ended before its fork was told of."""
    lineage.died(MANAGED)
    ledger.forget_process(MANAGED)
    lineage.forked(MANAGED, CHILD, 1)
    assert lineage.entry(CHILD) == ENTRY


def test_children_may_inherit_on_purpose(lineage: Lineage, ledger: Ledger) -> None:
    """With `children: inherit` they are no heirs, nor are theirs; nor those of one that ended."""
    lineage.bequeath(MANAGED, inherit=True)
    lineage.forked(MANAGED, CHILD, 1)
    lineage.forked(CHILD, GRANDCHILD, 2)
    assert lineage.entry(CHILD) is None
    assert lineage.entry(GRANDCHILD) is None
    lineage.died(MANAGED)
    ledger.forget_process(MANAGED)
    lineage.forked(MANAGED, CHILD, 3)
    assert lineage.entry(CHILD) is None
    assert not lineage.is_needed


def test_the_children_of_few_are_attended(lineage: Lineage) -> None:
    """The filter in the kernel names each parent; the children of more are found in passes."""
    for pid in range(100, 300):
        lineage.bequeath(pid, inherit=False, attend=Standing.ROOTS)
    assert lineage.attended == frozenset(range(100, 164))
    lineage.disregard(100)
    assert 100 not in lineage.attended


def test_what_a_user_can_multiply_takes_no_place_from_what_matters(lineage: Lineage) -> None:
    """Whichever comes first; among equals who has a place keeps it."""
    for pid in range(100, 164):
        lineage.bequeath(pid, inherit=False, attend=Standing.ANYBODYS)
    lineage.bequeath(200, inherit=False, attend=Standing.A_SERVICES)
    lineage.bequeath(201, inherit=False, attend=Standing.ANYBODYS)
    for pid in range(300, 363):
        lineage.bequeath(pid, inherit=False, attend=Standing.ROOTS)
    assert lineage.attended == {200, *range(300, 363)}
    lineage.bequeath(400, inherit=False, attend=Standing.ROOTS)
    assert lineage.attended == {*range(300, 363), 400}


def test_parents_of_what_may_come_to_match_take_no_place_from_protected_ones(lineage: Lineage) -> None:
    """Their children lose nothing but time: a pass finds them."""
    for pid in range(100, 164):
        lineage.expect(pid, Standing.ROOTS)
    assert lineage.attended == set(range(100, 164))
    for pid in range(300, 360):
        lineage.bequeath(pid, inherit=False, attend=Standing.ANYBODYS)
    assert lineage.attended == {*range(300, 360), *range(100, 104)}
    lineage.expect(100, None)
    lineage.has_new_places = False
    lineage.expect(101, Standing.ROOTS)
    assert not lineage.has_new_places
    assert 100 not in lineage.attended


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["fork", "give up", "die"])), max_size=60))
def test_an_heir_is_whose_value_came_down_from_the_managed_one(acts: list[tuple[int, str]]) -> None:
    """For any family, told of in order: by a model that copies the value as the kernel does."""
    ledger, clock = Ledger(), Clock()
    ledger.record_process(Identity(1, 1), ENTRY)
    lineage = Lineage(ledger, lambda _: True, clock)
    values: dict[int, int] = {1: -900, 2: 0}
    alive, next_pid = [1, 2], 3
    for which, act in acts:
        if not alive:
            break
        pid = alive[which % len(alive)]
        clock.now += 2 * CROSSING_NS
        if act == "fork":
            values[next_pid] = values[pid]
            lineage.forked(pid, next_pid, clock.now)
            alive.append(next_pid)
            next_pid += 1
        elif act == "give up" and pid != 1 and values[pid] == -900:
            values[pid] = 0
            lineage.gave_up(pid, ENTRY)
        elif act == "die" and pid != 1:
            alive.remove(pid)
    for pid in alive:
        if pid != 1:
            assert (lineage.entry(pid) is not None) == (values[pid] == -900)
