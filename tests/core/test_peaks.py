"""The peaks of the last days: what lasted, what counts, and what a file may hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.peaks import (
    KEPT_DAYS,
    LASTING_SECONDS,
    ONCE_DAYS,
    Day,
    Lasting,
    decode,
    encode,
    highest,
    note,
)

TODAY = 20_783


def day(age: int, level: int) -> Day:
    """Return what lasted some days ago."""
    return Day(TODAY - age, f"day {TODAY - age:06}", level)


def counted(*days: Day) -> int | None:
    """Return the level that counts today."""
    found = highest(days, TODAY)
    return None if found is None else found.committed_kib


def lasted(*looks: tuple[float, int]) -> int | None:
    """Return what has lasted at the last of some looks."""
    lasting = Lasting()
    found = None
    for now, level in looks:
        found = lasting.look(level, now)
    return found


# What lasted


@pytest.mark.parametrize(
    ("looks", "level"),
    [
        ([(0, 9)], None),
        ([(0, 9), (LASTING_SECONDS - 1, 9)], None),
        ([(0, 9), (LASTING_SECONDS, 8)], 8),
        ([(60.0 * n, 100 if n == 3 else 5) for n in range(7)], 5),
        ([(60.0 * n, 5 if n < 3 else 100) for n in range(9)], 100),
        ([(60.0 * n, 5 if n < 4 else 100) for n in range(9)], 5),
        ([(1.0 * n, 7) for n in range(301)], 7),
        ([(0, 9), (3600, 8), (7200, 7)], 7),
    ],
)
def test_a_level_has_lasted_if_no_look_found_less(looks: list[tuple[float, int]], level: int | None) -> None:
    """For five minutes, or between two looks that are farther apart."""
    assert lasted(*looks) == level


@given(st.lists(st.tuples(st.floats(0.1, 1000), st.integers(0, 99)), min_size=1, max_size=50))
def test_no_level_lasts_that_the_last_looks_did_not_all_have(steps: list[tuple[float, int]]) -> None:
    """And it remembers no more than it needs."""
    lasting, now = Lasting(), 0.0
    looks: list[tuple[float, int]] = []
    for step, level in steps:
        now += step
        looks.append((now, level))
        found = lasting.look(level, now)
        recent = [one for at, one in looks if now - at <= LASTING_SECONDS]
        assert found is None or found <= min(recent)
        assert len(lasting._looks) <= len(recent) + 1


# What counts


def test_without_days_nothing_counts() -> None:
    """As on a new host."""
    assert counted() is None


def test_of_the_last_days_the_highest_counts() -> None:
    """Once is enough."""
    assert counted(day(ONCE_DAYS, 9), day(1, 3), day(0, 4)) == 9


def test_what_happened_once_counts_for_a_week_only() -> None:
    """A user's spike that lasted does not forbid strict accounting for a month."""
    assert counted(day(ONCE_DAYS + 1, 9), day(1, 3), day(0, 4)) == 4


def test_what_happened_twice_counts_for_a_month() -> None:
    """A load that comes back is one to be ready for: the lower of the two."""
    assert counted(day(KEPT_DAYS, 9), day(20, 8), day(0, 4)) == 8
    assert counted(day(KEPT_DAYS + 1, 9), day(20, 8), day(0, 4)) == 4
    assert counted(day(21, 9), day(20, 8), day(0, 4)) == 4, "one that lasted over midnight came once"
    assert counted(day(21, 9), day(20, 8), day(18, 7), day(0, 4)) == 7


def test_days_that_are_still_to_come_count_as_of_today() -> None:
    """The clock is not set yet, or was wrong then: what is promised does not depend on it."""
    assert counted(day(-5000, 9)) == 9
    assert highest((day(3, 9),), 0) == day(3, 9)


def test_a_wrong_clock_drops_nothing() -> None:
    """Days are dropped for newer ones only, whatever their number."""
    days: tuple[Day, ...] = (day(3, 9), day(2, 8))
    days = note(days, Day(TODAY + 9999, "2053-01-01", 1))
    days = note(days, Day(0, "1970-01-01", 1))
    assert counted(*days) == 9


# One day after another


def test_a_day_keeps_its_highest_level_and_notes_no_small_growth() -> None:
    """Each note is a write."""
    days = note((), day(0, 640))
    assert note(days, day(0, 630)) is days
    assert note(days, day(0, 650)) is days
    assert note(days, day(0, 651)) == (day(0, 651),)


def test_the_last_days_are_kept() -> None:
    """However many there were."""
    days: tuple[Day, ...] = ()
    for age in range(100, -1, -1):
        days = note(days, day(age, age))
    assert [one.number for one in days] == [TODAY - age for age in range(KEPT_DAYS - 1, -1, -1)]


# The file

levels = st.builds(Day, st.integers(-(2**40), 2**40), st.just("2026-11-20"), st.integers(0, 2**60))


@given(st.lists(levels, max_size=KEPT_DAYS).map(tuple))
def test_a_file_gives_back_what_was_written(days: tuple[Day, ...]) -> None:
    """For any days."""
    assert decode(encode(days)) == days


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_what_nobody_wrote_is_refused_in_one_way(raw: bytes) -> None:
    """A file that was cut short, for one."""
    with pytest.raises(ValueError, match="damaged"):
        decode(raw)


@pytest.mark.parametrize(
    "row",
    [
        {"number": "1", "date": "2026-11-20", "committed_kib": 1},
        {"number": 1, "date": "2026-11-20", "committed_kib": -1},
        {"number": 1, "date": "2026-11-20", "committed_kib": 1.5},
        {"number": True, "date": "2026-11-20", "committed_kib": 1},
        {"number": 1, "date": "\x1b[2J26-11", "committed_kib": 1},
        {"number": 1, "date": "2026-11-20" * 9, "committed_kib": 1},
        {"number": 1, "date": "2026-11-20"},
        {"number": 1, "date": "2026-11-20", "committed_kib": 1, "more": 1},
        [],
    ],
)
def test_a_day_of_another_kind_is_refused(row: object) -> None:
    """It goes into messages."""
    with pytest.raises(ValueError, match="damaged"):
        decode(json.dumps({"version": 1, "days": [row]}).encode())
