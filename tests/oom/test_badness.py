"""The kernel's own formula: each number here was calculated by hand from mm/oom_kill.c."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oom_score import oom_score
from oomguard.oom.badness import (
    CURRENT,
    ERAS,
    CgroupLimits,
    Era,
    Usage,
    adj_pages,
    badness,
    cgroup_pages,
    era_of,
    global_pages,
    kill_order,
)

GIB = 1 << 30
MIB = 1 << 20
TOTAL = 1_000_999  # pages: one point of oom_score_adj weighs 1000 of them, not 1000.999


def test_everything_a_process_holds_counts_in_pages() -> None:
    """RAM, swap and page tables, and a thousandth of all memory for each point."""
    usage = Usage(rss=700, swap=200, page_tables=10)
    assert badness(usage, 0, TOTAL) == 910
    assert badness(usage, 5, TOTAL) == 910 + 5 * 1000
    assert badness(usage, -5, TOTAL) == 910 - 5 * 1000


def test_a_thousandth_is_cut_to_whole_pages_before_it_is_multiplied() -> None:
    """In a domain of less than 1000 pages `oom_score_adj` weighs nothing; -1000 still exempts."""
    assert adj_pages(16384) == 16
    assert badness(Usage(10), 1000, 16384) == 10 + 16_000
    assert badness(Usage(10), 1000, 999) == 10
    assert badness(Usage(10), -999, 999) == 10
    assert badness(Usage(10), -1000, 999) is None


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("2.6.36", (2, 6, 36)),
        ("2.6.38.8", (2, 6, 36)),
        ("3.2.0-4-amd64", (3, 0, 0)),
        ("3.10.0-1160.el7.x86_64", (3, 5, 0)),
        ("3.16.0", (3, 14, 0)),
        ("4.4.0-210-generic", (3, 14, 0)),
        ("4.19.0-27-amd64", (4, 17, 0)),
        ("5.2.21", (5, 1, 0)),
        ("5.4.0-216-generic", (5, 3, 0)),
        ("5.10.0", (5, 9, 0)),
        ("6.18.44-fc", (5, 9, 0)),
        ("7.0-rc1", (7, 0, 0)),
    ],
)
def test_a_release_belongs_to_the_last_era_that_began(release: str, version: tuple[int, ...]) -> None:
    """Distribution suffixes do not matter, and a missing patch level is 0."""
    era = era_of(release)
    assert era is not None
    assert era.since == version


def test_before_2_6_36_it_was_another_heuristic() -> None:
    """Nothing is claimed about those; and a release that is no number is taken for a new one."""
    assert era_of("2.6.32-754.el6.x86_64") is None
    assert era_of("next") is CURRENT


@pytest.mark.parametrize(
    ("release", "adj", "expected"),
    [
        ("2.6.36", 0, (100_000 + 20_000) * 1000 // TOTAL - 30),
        ("3.2", 0, (100_000 + 20_000 + 5_000) * 1000 // TOTAL - 30),
        ("3.2", 950, 1000),  # cut off at 1000
        ("3.10", 0, 125_000 - 30 * 1000),
        ("3.16", 0, 125_000 - 3_750),
        ("4.19", 0, 125_000),
        ("5.4", -900, 1),
        ("5.10", -900, 125_000 - 900_000),
        ("2.6.36", -900, 0),
        ("2.6.39", -900, 1),
    ],
)
def test_each_era_has_its_own_formula_for_a_process_of_root(release: str, adj: int, expected: int) -> None:
    """What a report from a kernel of that age has to be explained with."""
    era = era_of(release)
    assert era is not None
    usage = Usage(100_000, 20_000, 5_000)
    assert badness(usage, adj, TOTAL, era=era, is_admin=True) == expected


def test_the_first_of_equals_died_until_5_3() -> None:
    """The eras differ in whom they kill, not only in how they count."""
    assert {era.since for era in ERAS if era.last_wins_tie} == {(5, 3, 0), (5, 9, 0), (7, 0, 0)}


def test_counters_are_exact_since_7_0() -> None:
    """Before, each CPU held some pages back."""
    assert [era.since for era in ERAS if era.is_exact] == [(7, 0, 0)]
    for release, is_exact in (("6.18.44", False), ("7.0.0-rc1", True), ("7.2.4-amd64", True)):
        era = era_of(release)
        assert era is not None
        assert era.is_exact == is_exact


def test_of_equals_the_last_scanned_dies_and_before_5_3_the_first() -> None:
    """`points < chosen` is skipped, equal is not; it was `points > chosen` once."""
    points = [5, 9, None, 9, -3]
    assert kill_order(points) == [3, 1, 0, 4]
    era = era_of("4.19")
    assert era is not None
    assert kill_order([5, 9, None, 9, 1], era=era) == [1, 3, 0, 4]


def test_a_badness_of_zero_was_never_chosen_where_there_is_nothing_below() -> None:
    """`if (!points || ...) goto next`; since 5.9 zero is a value like others."""
    era = era_of("2.6.36")
    assert era is not None
    assert kill_order([0, 3], era=era) == [1]
    assert kill_order([0, 3]) == [1, 0]


def test_oom_score_of_today_begins_at_two_thirds_of_a_thousand() -> None:
    """666 for a process that holds next to nothing; 1333 for one of those at 1000; 0 for the immune."""
    total = 6_171_021
    assert oom_score(badness(Usage(10), 0, total), total) == 666
    assert oom_score(badness(Usage(10), 1000, total), total) == 1332
    assert oom_score(badness(Usage(100), 1000, total), total) == 1333
    assert oom_score(None, total) == 0


def test_oom_score_divides_towards_zero() -> None:
    """C does; Python's `//` would give one less for every protected process."""
    assert oom_score(-1, 1_000_000) == 666
    assert oom_score(-1000, 1_000_000) == 999 * 2 // 3
    assert oom_score(-1999, 1_000_000) == 999 * 2 // 3


def test_oom_score_of_older_kernels_is_a_share_of_a_thousand() -> None:
    """From 3.5 to 5.8 calculated from pages, before that the badness itself."""
    pages, per_mille = era_of("5.4"), era_of("3.2")
    assert pages is not None
    assert per_mille is not None
    assert oom_score(250_000, 1_000_000, era=pages) == 250
    assert oom_score(250, 1_000_000, era=per_mille) == 250


def test_the_whole_host_is_ram_and_swap() -> None:
    """MemTotal is totalram_pages, SwapTotal total_swap_pages; also with pages of 64 KiB."""
    assert global_pages(24684084, 1024) == 6171021 + 256
    assert global_pages(640, 128, page_kib=64) == 12


@pytest.mark.parametrize(
    ("limits", "pages"),
    [
        (CgroupLimits(64 * MIB), 16384 + 262144),  # swap.max is max: all there is, 1 GiB
        (CgroupLimits(64 * MIB, swap=0), 16384),
        (CgroupLimits(64 * MIB, swap=4 * MIB), 16384 + 1024),
        (CgroupLimits(64 * MIB, swap=9 * GIB), 16384 + 262144),
        (CgroupLimits(64 * MIB, swap=4 * MIB, swappiness=0), 16384),
        (CgroupLimits(64 * MIB, memory_and_swap=96 * MIB), 16384 + 8192),
        (CgroupLimits(64 * MIB, memory_and_swap=64 * MIB), 16384),
        (CgroupLimits(64 * MIB, memory_and_swap=32 * MIB), 16384),  # one changed between the two reads
        (CgroupLimits(0, swap=0), 1),
        (CgroupLimits(None, swap=4096), None),
    ],
)
def test_a_cgroups_pages_are_its_limit_and_the_swap_it_may_use(
    limits: CgroupLimits, pages: int | None
) -> None:
    """Version 1 limits RAM and swap together, version 2 swap alone; without swappiness neither counts."""
    assert cgroup_pages(limits, swap_total_kib=1024 * 1024) == pages


@given(
    st.lists(st.tuples(st.integers(0, 2**24), st.integers(-1000, 1000)), max_size=30),
    st.integers(0, 2**26),
    st.sampled_from(ERAS),
)
def test_nobody_ahead_in_the_order_has_less_badness(
    population: list[tuple[int, int]], total: int, era: Era
) -> None:
    """In every era the order is one of falling badness, and holds all but the exempt."""
    points = [badness(Usage(pages), adj, total, era=era) for pages, adj in population]
    order = kill_order(points, era=era)
    values = [value for place in order if (value := points[place]) is not None]
    assert values == sorted(values, reverse=True)
    exempt = [value for value in points if value is None or (era.least is not None and value == 0)]
    assert len(order) + len(exempt) == len(points)
