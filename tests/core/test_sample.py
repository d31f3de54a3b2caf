"""What is left of memory, and how processes grew."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from oomguard.core.sample import Holder, Left, Sample, Trend, before, growth, is_recent, next_victim, redated

GIB = 1024 * 1024


def holder(pid: int, rss_kib: int, *, start: int = 0) -> Holder:
    """Return a process that holds so much."""
    return Holder(pid, start, f"p{pid}", "", rss_kib, 0, 0)


def sample(booted: float, *holders: Holder) -> Sample:
    """Return a sample of that moment."""
    return Sample(1_000_000 + booted, booted, Left(GIB, 2 * GIB), 0, None, holders)


@pytest.mark.parametrize(
    ("left", "percent"),
    [
        (Left(4 * GIB, 16 * GIB), 25),
        (Left(4 * GIB, 16 * GIB, swap_kib=8 * GIB, swap_total_kib=8 * GIB), 50),
        (Left(3 * GIB, 16 * GIB, swap_kib=0, swap_total_kib=8 * GIB), 12.5),
        (Left(0, 0), 0),
    ],
)
def test_what_is_left_includes_swap(left: Left, percent: float) -> None:
    """Free swap still takes what does not fit into RAM."""
    assert left.percent == percent


@pytest.mark.parametrize(
    ("before", "now", "gone"),
    [
        (10, 4, True),
        (8, 4, False),
        (7.9, 4, False),
        (16, 7, True),
        (16, 8, False),
        (4, 4, False),
        (3, 4, False),
    ],
)
def test_a_fall_that_leaves_nothing_the_next_time_shows(before: float, now: float, *, gone: bool) -> None:
    """If it goes on like this."""
    assert Left(int(now * GIB), 16 * GIB).would_be_gone(Left(int(before * GIB), 16 * GIB), 60, 60) == gone


@pytest.mark.parametrize(
    ("seconds", "falling"),
    [(9, None), (10, ["/a", "/b", "/new"]), (45, ["/a"]), (60, ["/a"]), (70, []), (600, [])],
)
def test_a_fall_counts_by_its_rate(seconds: float, falling: list[str] | None) -> None:
    """Of which less than ten seconds tell nothing; a slow one only counts if less than half is left."""
    trend = Trend()
    assert trend.falling(100, {"/a": Left(100, 100), "/b": Left(100, 100)}) == []
    now = 100 + seconds
    lefts = {"/a": Left(48, 100), "/b": Left(51, 100), "/new": Left(55, 100)}
    assert (trend.falling(now, lefts) if trend.is_due(now) else None) == falling


def test_a_new_cgroup_has_filled_up_since_it_began() -> None:
    """Unless all are new, as at the start."""
    trend = Trend()
    assert trend.falling(100, {"": Left(90, 100), "/a": Left(10, 100)}) == []
    assert trend.falling(160, {"": Left(90, 100), "/a": Left(10, 100), "/b": Left(40, 100)}) == ["/b"]


def test_what_stays_short_does_not_fall_again() -> None:
    """Only below the least that was left since it was not short; what is short of most comes first."""
    trend, found = Trend(), []
    for now, percent in enumerate((100, 1, 10, 4, 10, 2, 25, 8, 0)):
        found.append(trend.falling(60 * now, {"/a": Left(percent, 100), "": Left(2 * percent, 200)}))
    fell = ["/a", ""]
    assert found == [[], fell, [], [], [], [], [], fell, fell]


@pytest.mark.parametrize("set_by", [0.0, 3600.0, -3600.0])
def test_a_clock_that_was_set_moves_no_sample(set_by: float) -> None:
    """Those before the change have times of the old clock; of another boot, they keep them."""
    old = [sample(1000.0 + second)._replace(at=5000.0 + second) for second in (0, 60, 120)]
    new = [sample(1000.0 + second)._replace(at=5000.0 + second + set_by) for second in (180, 240)]
    found = redated([*old, *new], 5300.0 + set_by, 1300.0, has_slept=False)
    assert [one.at - set_by for one in found] == [5000.0, 5060.0, 5120.0, 5180.0, 5240.0]
    of_other_boot = sample(99_000.0)._replace(at=4000.0)
    assert redated([of_other_boot], 5300.0, 1300.0, has_slept=False) == [of_other_boot]


def test_a_suspended_host_was_away_between_samples() -> None:
    """Times stay as they were, unless the clock was set back to before what is known for sure."""
    slept = [sample(1000.0)._replace(at=5000.0), sample(1060.0)._replace(at=9000.0)]
    assert redated(slept, 9010.0, 1070.0, has_slept=True) == slept
    assert [one.at for one in redated(slept, 8010.0, 1070.0, has_slept=True)] == [5000.0, 8000.0]


def test_what_grew_most_comes_first_with_where_it_began() -> None:
    """From the first sample that has the process on."""
    samples = [
        sample(0, holder(1, 100), holder(2, 50)),
        sample(60, holder(1, 200), holder(2, 60), holder(3, 10)),
        sample(120, holder(2, 900), holder(1, 250), holder(3, 5)),
    ]
    assert [(one.holder.pid, one.before_kib, one.kib, one.seconds) for one in growth(reversed(samples))] == [
        (2, 50, 850, 120),
        (1, 100, 150, 120),
        (3, 10, -5, 60),
    ]


def test_samples_of_cgroups_hide_nobody_from_that_of_the_host() -> None:
    """They are recorded after it, with its moment, and have only their own processes."""
    samples = [sample(0, holder(1, 100), holder(2, 50)), sample(60, holder(1, 900), holder(2, 60))]
    samples += [sample(60, holder(2, 60))._replace(cgroup="/pod")]
    assert [(one.holder.pid, one.kib) for one in growth(reversed(samples))] == [(1, 800), (2, 10)]


def test_what_is_gone_has_grown_too_if_asked_for() -> None:
    """Up to its last sample: after a kill, what leaked is the answer."""
    samples = [sample(0, holder(1, 100), holder(2, 50)), sample(60, holder(1, 900), holder(2, 50))]
    samples += [sample(120, holder(2, 60))]
    assert [(one.holder.pid, one.kib) for one in growth(reversed(samples))] == [(2, 10)]
    found = [
        (one.holder.pid, one.before_kib, one.kib, one.seconds) for one in growth(reversed(samples), gone=True)
    ]
    assert found == [(1, 100, 800, 60), (2, 50, 10, 120)]


def test_a_new_process_grew_from_nothing_since_it_started() -> None:
    """Also one with the pid of another; one that is only new among the largest is left out."""
    samples = [sample(0, holder(1, 100)), sample(60, holder(1, 900, start=3500), holder(2, 800))]
    assert [(one.before_kib, one.kib, one.seconds) for one in growth(reversed(samples))] == [(0, 900, 25)]


def test_the_start_of_a_process_counts_the_time_that_the_host_was_suspended() -> None:
    """The kernel's times of start go on meanwhile, those of samples stop."""
    slept = [sample(1000, holder(1, 5000))._replace(suspended=3600.0)]
    new = holder(2, 6000, start=100 * (3600 + 1010))
    slept.append(sample(1060, new)._replace(suspended=3600.0))
    (grown,) = growth(reversed(slept))
    assert (grown.kib, grown.seconds) == (6000, 50)


def test_samples_of_another_boot_do_not_count() -> None:
    """Their time since boot is ahead of now, or long past."""
    samples = [sample(9000), sample(10), sample(700)]
    assert [one.booted for one in samples if is_recent(one, 700)] == [700]
    assert [one.booted for one in samples if is_recent(one, 600)] == [10]


def test_clocks_may_drift_apart_over_weeks() -> None:
    """Nothing corrects the clock of the kernel's log, but a minute more is another boot."""
    weeks = 2_000_000.0
    samples = [sample(weeks), sample(weeks + 60)]
    at = 1_000_000 + weeks + 61
    assert before(samples, at, weeks + 61) == before(samples, at, None) == samples
    assert before(samples, at, weeks + 300) == samples
    assert before(samples, at, weeks + 900) == []


@given(some.lists(some.tuples(some.integers(1, 5), some.integers(0, 100)), max_size=40))
def test_growth_is_the_difference_of_two_samples(sizes: list[tuple[int, int]]) -> None:
    """Whatever comes and goes in between."""
    samples = [sample(number, holder(pid, kib)) for number, (pid, kib) in enumerate(sizes)]
    for one in growth(reversed(samples)):
        first = next(kib for pid, kib in sizes if pid == one.holder.pid)
        assert (one.before_kib, one.kib) == (first, one.holder.held_kib - first)


def adjusted(pid: int, mib: int, value: int = 0) -> Holder:
    """Return a process that holds so much, with that value."""
    return holder(pid, mib * 1024)._replace(oom_score_adj=value)


@pytest.mark.parametrize(
    ("then", "now", "left_mib", "pid"),
    [
        # Nothing grew: who is the first now.
        ([adjusted(1, 22, 500), adjusted(2, 400)], [adjusted(1, 22, 500), adjusted(2, 400)], 96, 1),
        # The second grows, but not past the first before nothing is left; or past it.
        ([adjusted(1, 22, 500), adjusted(2, 300)], [adjusted(1, 22, 500), adjusted(2, 400)], 96, 1),
        ([adjusted(1, 22, 500), adjusted(2, 300)], [adjusted(1, 22, 500), adjusted(2, 450)], 96, 2),
        # Both grow, and share what is left.
        ([adjusted(1, 10, 500), adjusted(2, 300)], [adjusted(1, 60, 500), adjusted(2, 460)], 96, 1),
        ([adjusted(1, 10, 500), adjusted(2, 100)], [adjusted(1, 20, 500), adjusted(2, 460)], 96, 2),
        # One that is new, and two of which nothing is known before.
        ([adjusted(1, 22, 500)], [adjusted(1, 22, 500), holder(2, 450 * 1024, start=2000)], 96, 2),
        ([], [adjusted(1, 22, 500), adjusted(2, 450)], 96, 1),
    ],
)
def test_the_next_victim_is_the_first_once_nothing_is_left(
    then: list[Holder], now: list[Holder], left_mib: int, pid: int
) -> None:
    """A leak with a low value passes an idle process with a high one only as it grows."""
    left = Left(left_mib * 1024, GIB)
    earlier, last = sample(10, *then), sample(70, *now)._replace(left=left)
    found = next_victim(last, earlier)
    assert found is not None
    assert found.pid == pid
    assert next_victim(last, None) == now[0]
    assert next_victim(last._replace(holders=()), earlier) is None
