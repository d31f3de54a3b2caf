"""Overcommit arithmetic and the interlock."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.decide import Refusal
from oomguard.core.overcommit import (
    ADMIN_RESERVE,
    HUGE_PAGES,
    KBYTES,
    MODE,
    RATIO,
    SURPLUS_PAGES,
    USER_RESERVE,
    Memory,
    Peak,
    commit_limit_kib,
    demand_kib,
    interlock,
    usable_limit_kib,
    write_order,
)

GIB = 1024 * 1024


def memory(**fields: int) -> Memory:
    """Return a host of 8 GiB with 2 GiB of swap, half of it promised."""
    return Memory(8 * GIB, 2 * GIB, 0, 6 * GIB, 4 * GIB)._replace(**fields)


def with_limit_of(knobs: dict[str, int], host: Memory) -> Memory:
    """Return the host as a kernel with these settings reports it."""
    return host._replace(commit_limit_kib=commit_limit_kib(host, knobs))


@pytest.mark.parametrize(
    ("host", "knobs", "limit"),
    [
        (memory(), {RATIO: 50}, 6 * GIB),
        (memory(), {}, 6 * GIB),
        (memory(), {RATIO: 0}, 2 * GIB),
        (memory(), {RATIO: 100}, 10 * GIB),
        (memory(), {RATIO: 250}, 22 * GIB),
        (memory(), {RATIO: 50, KBYTES: 0}, 6 * GIB),
        (memory(), {RATIO: 0, KBYTES: GIB}, 3 * GIB),
        (memory(hugetlb_kib=4 * GIB), {RATIO: 50}, 4 * GIB),
        (memory(hugetlb_kib=4 * GIB), {RATIO: 0, KBYTES: GIB}, 3 * GIB),
        (memory(swap_total_kib=0), {RATIO: 50}, 4 * GIB),
    ],
)
def test_the_limit_is_the_kernels(host: Memory, knobs: dict[str, int], limit: int) -> None:
    """A share of what is no huge page, or an absolute amount; swap on top of either."""
    assert commit_limit_kib(host, knobs) == limit


def test_the_reserves_are_not_usable() -> None:
    """An ordinary process finds the limit less what is kept for root and for recovery."""
    assert usable_limit_kib(memory(), {RATIO: 50, ADMIN_RESERVE: GIB, USER_RESERVE: 2 * GIB}) == 3 * GIB


def why_not(host: Memory, actual: dict[str, int], final: dict[str, int], headroom: int = 10) -> str:
    """Return the reason of a refusal, "" where there is none."""
    host = with_limit_of(actual, host)
    refusal = interlock(host, actual=actual, final=final, headroom_percent=headroom)
    return "" if refusal is None else refusal.reason


def test_a_refusal_tells_the_exact_numbers() -> None:
    """What would be, what is promised, and with which headroom."""
    reason = why_not(
        memory(committed_kib=5 * GIB),
        {MODE: 0, RATIO: 50},
        {MODE: 2, RATIO: 50, USER_RESERVE: GIB},
    )
    assert reason == (
        "CommitLimit would be 6.0 GiB (5.0 GiB of it usable), but Committed_AS is 5.0 GiB, "
        "5.5 GiB with 10 % headroom: every later allocation on this host would fail"
    )


def test_reserves_beyond_the_limit_leave_nothing_usable() -> None:
    """Never less than nothing."""
    reason = why_not(memory(), {MODE: 0}, {MODE: 2, RATIO: 0, USER_RESERVE: 9 * GIB})
    assert "(0 KiB of it usable)" in reason


@pytest.mark.parametrize(
    ("actual", "final", "committed", "refused"),
    [
        ({MODE: 0, RATIO: 50}, {MODE: 1, RATIO: 0}, 9 * GIB, False),
        ({MODE: 2, RATIO: 50}, {MODE: 0, RATIO: 0}, 9 * GIB, False),
        ({MODE: 0, RATIO: 50}, {MODE: 2, RATIO: 50}, 6 * GIB, True),
        ({MODE: 0, RATIO: 50}, {MODE: 2, RATIO: 50}, 5 * GIB, False),
        ({MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 50}, 9 * GIB, False),
        ({MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 60}, 9 * GIB, False),
        ({MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 40}, 9 * GIB, True),
        ({MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 40}, 1 * GIB, False),
        ({MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 50, USER_RESERVE: GIB}, 9 * GIB, True),
        ({MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 0, KBYTES: 9 * GIB}, 9 * GIB, False),
    ],
)
def test_only_tightening_is_refused(
    actual: dict[str, int], final: dict[str, int], committed: int, *, refused: bool
) -> None:
    """To strict accounting, or under it to less."""
    assert bool(why_not(memory(committed_kib=committed), actual, final)) is refused


@pytest.mark.parametrize(("off_by", "refused"), [(-257, True), (-256, False), (256, False), (257, True)])
def test_a_limit_is_not_predicted_where_todays_is_not_the_kernels(off_by: int, *, refused: bool) -> None:
    """Beyond what comes of rounding to pages, with both numbers."""
    host = memory(commit_limit_kib=6 * GIB + off_by, committed_kib=0)
    refusal = interlock(host, actual={MODE: 0, RATIO: 50}, final={MODE: 2, RATIO: 90}, headroom_percent=10)
    assert (refusal is not None) is refused
    if refusal is not None:
        assert f"CommitLimit is {6 * GIB + off_by} KiB, but" in refusal.reason
        assert f"give {6 * GIB} KiB" in refusal.reason
        assert "force: true" in refusal.hint


def test_a_limit_may_be_raised_where_it_cannot_be_predicted() -> None:
    """Under strict accounting that repairs a host."""
    host = memory(commit_limit_kib=1)
    assert (
        interlock(host, actual={MODE: 2, RATIO: 50}, final={MODE: 2, RATIO: 51}, headroom_percent=0) is None
    )
    assert interlock(host, actual={MODE: 2, RATIO: 50}, final={MODE: 0, RATIO: 1}, headroom_percent=0) is None


def test_headroom_counts_to_the_last_kib() -> None:
    """At the limit is allowed, one beyond is not."""
    final = {MODE: 2, RATIO: 50}
    assert not why_not(memory(committed_kib=6 * GIB), {MODE: 0}, final, headroom=0)
    assert why_not(memory(committed_kib=6 * GIB + 1), {MODE: 0}, final, headroom=0)


@given(
    st.builds(Memory, *[st.integers(0, 2**40)] * 5),
    st.fixed_dictionaries({MODE: st.integers(0, 2), RATIO: st.integers(0, 200)}),
    st.fixed_dictionaries({MODE: st.just(2), RATIO: st.integers(0, 200), KBYTES: st.integers(0, 2**40)}),
    st.integers(0, 1000),
)
def test_what_is_allowed_leaves_room_or_was_worse_before(
    host: Memory, actual: dict[str, int], final: dict[str, int], headroom: int
) -> None:
    """The law of the interlock, for any host and settings."""
    if not why_not(host, actual, final, headroom):
        room = usable_limit_kib(host, final)
        was = usable_limit_kib(host, actual) if actual[MODE] == 2 else None
        assert host.committed_kib * (100 + headroom) // 100 <= room or (was is not None and room >= was)


def test_tightening_writes_the_mode_last_and_loosening_first() -> None:
    """All else keeps its order."""
    names = ["vm.swappiness", MODE, RATIO]
    loose, strict = {MODE: 0, RATIO: 50}, {MODE: 2, RATIO: 80}
    assert write_order(names, actual=loose, final=strict) == ["vm.swappiness", RATIO, MODE]
    assert write_order(names, actual=strict, final=loose) == [MODE, "vm.swappiness", RATIO]


def test_under_strict_accounting_what_raises_the_limit_is_written_first() -> None:
    """So that between two writes there never is a limit below both the old and the new one."""
    host = memory(huge_pages=1000, huge_page_kib=2048, hugetlb_kib=1000 * 2048)
    many_pages, high_ratio = {MODE: 2, HUGE_PAGES: 1000, RATIO: 80}, {MODE: 2, HUGE_PAGES: 0, RATIO: 70}
    names = [RATIO, HUGE_PAGES]
    assert write_order(names, actual=many_pages, final=high_ratio, memory=host) == [HUGE_PAGES, RATIO]
    host = memory(huge_page_kib=2048)
    assert write_order(names, actual=high_ratio, final=many_pages, memory=host) == [RATIO, HUGE_PAGES]


def test_huge_pages_that_are_wanted_lower_the_limit_of_a_ratio_only() -> None:
    """As if all of them were granted, and beside those of other sizes."""
    host = memory(huge_pages=10, huge_page_kib=2048, hugetlb_kib=10 * 2048 + GIB)
    assert commit_limit_kib(host, {RATIO: 50}) == 2 * GIB + (7 * GIB - 20480) // 2
    assert commit_limit_kib(host, {RATIO: 50, HUGE_PAGES: 1034}) == 2 * GIB + 5 * GIB // 2 - 10240
    assert commit_limit_kib(host, {RATIO: 50, HUGE_PAGES: 0}) == 2 * GIB + 7 * GIB // 2
    assert commit_limit_kib(host, {RATIO: 50, HUGE_PAGES: 10**9}) == 2 * GIB
    assert commit_limit_kib(host, {KBYTES: GIB, HUGE_PAGES: 10**9}) == 3 * GIB


@pytest.mark.parametrize(("pages", "refused"), [(1000, False), (4000, True)])
def test_huge_pages_under_strict_accounting_are_a_lower_limit(pages: int, *, refused: bool) -> None:
    """Though neither the mode nor the ratio changes."""
    host = memory(huge_page_kib=2048, committed_kib=4 * GIB)
    actual = {MODE: 2, RATIO: 50, HUGE_PAGES: 0}
    assert bool(why_not(host, actual, actual | {HUGE_PAGES: pages})) is refused


def test_huge_pages_that_any_program_may_get_are_no_part_of_what_is_usable() -> None:
    """Beyond the pool, and unless they are in use already: then they count as they are."""
    host = memory(huge_page_kib=2048)
    knobs = {MODE: 2, RATIO: 50, SURPLUS_PAGES: 1024}
    assert usable_limit_kib(host, knobs) == 2 * GIB + 6 * GIB // 2
    in_use = host._replace(surplus_pages=1024, hugetlb_kib=2 * GIB)
    assert usable_limit_kib(in_use, knobs) == usable_limit_kib(host, knobs)
    assert commit_limit_kib(host, knobs) == 6 * GIB
    assert why_not(memory(huge_page_kib=2048, committed_kib=5 * GIB), knobs | {SURPLUS_PAGES: 0}, knobs)


# The peak of earlier days

PEAK = Peak(9 * GIB, "2026-11-20", "/var/lib/oomguard/committed.json")


def why_not_after(host: Memory, peak: Peak, final: dict[str, int]) -> Refusal | None:
    """Return why a host that is not strict yet must not become so."""
    actual = {MODE: 0, RATIO: 50}
    return interlock(with_limit_of(actual, host), actual=actual, final=final, headroom_percent=10, peak=peak)


def test_a_host_that_has_just_booted_is_judged_by_the_peak_of_earlier_days() -> None:
    """The refusal names the day, and how to forget it."""
    refusal = why_not_after(memory(committed_kib=GIB // 8), PEAK, {MODE: 2, RATIO: 50})
    assert refusal is not None
    assert "Committed_AS peaked at 9.0 GiB on 2026-11-20, 9.9 GiB with 10 % headroom" in refusal.reason
    assert "rm /var/lib/oomguard/committed.json" in refusal.hint
    assert "raise overcommit_ratio to " in refusal.hint
    assert why_not_after(memory(committed_kib=GIB // 8), PEAK, {MODE: 2, RATIO: 100}) is None


def test_of_now_and_the_peak_the_larger_counts() -> None:
    """What is promised now needs no day."""
    refusal = why_not_after(memory(committed_kib=9 * GIB + 1), PEAK, {MODE: 2, RATIO: 50})
    assert refusal is not None
    assert "Committed_AS is 9.0 GiB" in refusal.reason


def test_forgetting_a_peak_is_no_fix_if_what_is_promised_now_is_too_much() -> None:
    """The limit would be refused all the same."""
    refusal = why_not_after(memory(committed_kib=8 * GIB), PEAK, {MODE: 2, RATIO: 50})
    assert refusal is not None
    assert "peaked at 9.0 GiB" in refusal.reason
    assert "rm " not in refusal.hint


@pytest.mark.parametrize("final", [{MODE: 2, RATIO: 50}, {MODE: 2, RATIO: 0, KBYTES: 4 * GIB}])
def test_the_hint_names_the_lowest_limit_that_is_accepted(final: dict[str, int]) -> None:
    """Of the knob that is in use."""
    host = memory(committed_kib=GIB // 8)
    refusal = why_not_after(host, PEAK, final)
    assert refusal is not None
    found = re.match(r"raise overcommit_(ratio|kbytes) to (\d+) or more", refusal.hint)
    assert found is not None
    knob, least = KBYTES if final.get(KBYTES) else RATIO, int(found[2])
    assert why_not_after(host, PEAK, final | {knob: least}) is None
    assert why_not_after(host, PEAK, final | {knob: least - 1}) is not None


# What later limits must allow


def test_what_is_promised_without_a_limit_is_what_a_limit_must_allow() -> None:
    """However much it is."""
    assert demand_kib(memory(committed_kib=99 * GIB), {MODE: 1, RATIO: 50}, headroom_percent=10) == 99 * GIB


@given(st.integers(0, 200), st.integers(0, 100), st.integers(-GIB // 50, GIB // 50))
def test_what_lasted_under_a_limit_never_forbids_that_limit_after_a_reboot(
    ratio: int, headroom: int, ram_differs_kib: int
) -> None:
    """Though all of it was promised, and the next kernel leaves a little less of RAM."""
    knobs = {MODE: 2, RATIO: ratio}
    host = memory(swap_total_kib=0)
    full = host._replace(committed_kib=commit_limit_kib(host, knobs))
    peak = Peak(demand_kib(full, knobs, headroom_percent=headroom), "2026-11-20", "x")
    booted = host._replace(total_kib=host.total_kib + ram_differs_kib, committed_kib=0)
    booted = with_limit_of({MODE: 0, RATIO: 50}, booted)
    assert (
        interlock(booted, actual={MODE: 0, RATIO: 50}, final=knobs, headroom_percent=headroom, peak=peak)
        is None
    )


def test_what_lasted_under_a_limit_forbids_a_much_lower_one_after_a_reboot() -> None:
    """As it would have been refused before."""
    knobs = {MODE: 2, RATIO: 100}
    full = memory(committed_kib=10 * GIB)
    peak = Peak(demand_kib(full, knobs, headroom_percent=10), "2026-11-20", "x")
    refusal = why_not_after(memory(committed_kib=0), peak, {MODE: 2, RATIO: 60})
    assert refusal is not None
    assert "peaked at 8.6 GiB on 2026-11-20" in refusal.reason


def test_surplus_pages_in_use_count_even_if_no_more_are_allowed() -> None:
    """Or the computed limit would be too generous once `nr_overcommit_hugepages` was lowered."""
    host = memory(hugetlb_kib=4 * 2048, surplus_pages=4, huge_page_kib=2048)
    none, four = ({MODE: 2, RATIO: 50, SURPLUS_PAGES: pages} for pages in (0, 4))
    assert usable_limit_kib(host, none) == usable_limit_kib(host, four)
