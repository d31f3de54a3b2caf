"""Values that a host cannot spare, and those that are unwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.choices import SysctlKind
from oomguard.core.guard import BOUNDS, guard, unwise
from oomguard.core.overcommit import Memory
from oomguard.core.policy import SysctlSetting
from oomguard.core.sysctl import SYSCTLS

GIB = 1024 * 1024


def setting(name: str, value: int, kind: SysctlKind = "exact") -> SysctlSetting:
    """Return what a policy says of a sysctl."""
    return SysctlSetting(name, value, "p.yaml", 1, kind)


HOST = Memory(16 * GIB, 0, 0, 8 * GIB, 4 * GIB, 0, 2048, 10 * GIB)


@pytest.mark.parametrize(
    ("name", "now", "most"),
    [
        ("vm.min_free_kbytes", 65536, 16 * GIB // 5),
        ("vm.nr_hugepages", 100, 100 + 10 * GIB * 9 // 10 // 2048),
        ("vm.admin_reserve_kbytes", 8192, 4 * GIB),
        ("vm.user_reserve_kbytes", 131072, 4 * GIB),
        ("vm.mmap_min_addr", 65536, 0x400000),
    ],
)
def test_the_most_that_a_host_can_spare_is_allowed_and_one_more_is_not(
    name: str, now: int, most: int
) -> None:
    """With both numbers in the reason."""
    assert guard(name, most, now, HOST) is None
    refusal = guard(name, most + 1, now, HOST)
    assert refusal is not None
    assert str(most + 1) in refusal.reason
    assert str(most) in refusal.reason
    assert "force: true" in refusal.hint


@pytest.mark.parametrize(("value", "refused"), [(0, True), (1023, True), (1024, False)])
def test_a_host_needs_some_mappings(value: int, *, refused: bool) -> None:
    """Without, nothing can be started."""
    assert (guard("vm.max_map_count", value, 65530, HOST) is not None) is refused


@pytest.mark.parametrize(
    ("value", "now", "refused"),
    [
        (1, 0, True),
        (65535, 0, True),
        (65536, 0, False),
        (0, 0, False),
        (0, 1, True),
        (0, 9 * GIB, True),
        (2, 1, False),
        (1, 2, True),
    ],
)
def test_a_commit_limit_of_next_to_nothing_is_refused_in_any_mode(
    value: int, now: int, *, refused: bool
) -> None:
    """Somebody may set the mode later. Writing 0 zeroes the ratio, too, so no limit would be left."""
    assert (guard("vm.overcommit_kbytes", value, now, HOST) is not None) is refused


@pytest.mark.parametrize(
    ("ratio", "now", "memory", "refused"),
    [
        (0, 50, HOST, True),
        (1, 50, HOST, False),
        (1, 50, HOST._replace(hugetlb_kib=12 * GIB), True),
        (2, 50, HOST._replace(hugetlb_kib=12 * GIB), False),
        (1, 0, HOST._replace(hugetlb_kib=12 * GIB), True),
        (0, 50, HOST._replace(swap_total_kib=65536), False),
        (0, 50, HOST._replace(swap_total_kib=65535), True),
        (1, 50, HOST._replace(total_kib=0), True),
    ],
)
def test_a_ratio_of_next_to_nothing_is_refused_in_any_mode(
    ratio: int, now: int, memory: Memory, *, refused: bool
) -> None:
    """As a limit is: of RAM without huge pages, and with swap. A ratio of 0 now is none to improve on."""
    assert (guard("vm.overcommit_ratio", ratio, now, memory) is not None) is refused


def test_a_ratio_that_leaves_a_host_hardly_anything_is_unwise() -> None:
    """Whatever the host, and whether or not the policy sets the mode."""
    assert unwise(setting("vm.overcommit_ratio", 9)) is not None
    assert unwise(setting("vm.overcommit_ratio", 10)) is None


def test_a_busy_host_can_spare_less_free_memory() -> None:
    """What is available would have to be reclaimed for it."""
    busy = HOST._replace(available_kib=GIB)
    assert guard("vm.min_free_kbytes", 65536 + GIB // 2, 65536, busy) is None
    assert guard("vm.min_free_kbytes", 65536 + GIB // 2 + 1, 65536, busy) is not None


def test_huge_pages_leave_a_small_host_half_a_gigabyte() -> None:
    """None are allowed where there is not even that."""
    small = HOST._replace(available_kib=GIB)
    assert guard("vm.nr_hugepages", 256, 0, small) is None
    assert guard("vm.nr_hugepages", 257, 0, small) is not None
    assert guard("vm.nr_hugepages", 1, 0, HOST._replace(available_kib=GIB // 2)) is not None


def test_what_is_better_than_now_is_allowed() -> None:
    """Somebody else made it worse."""
    assert guard("vm.min_free_kbytes", 8 * GIB, 9 * GIB, HOST) is None
    assert guard("vm.max_map_count", 500, 400, HOST) is None
    assert guard("vm.max_map_count", 300, 400, HOST) is not None


@given(st.sampled_from(sorted(SYSCTLS)), st.integers(0, 2**64), st.integers(0, 2**64))
def test_a_value_that_stays_is_never_refused_and_never_is_one_of_a_huge_host(
    name: str, value: int, now: int
) -> None:
    """Only a bound of its own, and of any host, keeps a value from a host that has memory without end."""
    endless = Memory(2**80, 0, 0, 0, 0, 0, 2048, 2**80)
    assert guard(name, now, now, HOST) is None
    of_any = any(bound.name == name and bound.of_any is not None and bound.fatal for bound in BOUNDS)
    of_any |= (name, value) == ("vm.overcommit_ratio", 0)
    assert of_any or guard(name, value, now, endless) is None


def test_every_bound_is_of_a_sysctl_that_there_is_and_can_be_computed() -> None:
    """Of any host or of this one, and only one of both."""
    for bound in BOUNDS:
        assert bound.name in SYSCTLS
        assert (bound.of_any is None) != (bound.of_host is None)
        assert bound.limit(HOST) is not None


def test_of_a_host_that_is_not_known_only_what_holds_for_any_is_unwise() -> None:
    """And of one that is, only what depends on its memory."""
    assert unwise(setting("vm.min_free_kbytes", 2 * GIB)) is None
    assert unwise(setting("vm.min_free_kbytes", 2 * GIB), HOST) is not None
    assert unwise(setting("vm.vfs_cache_pressure", 0)) is not None
    assert unwise(setting("vm.vfs_cache_pressure", 0), HOST) is None
    assert unwise(setting("vm.min_free_kbytes", GIB // 2), HOST) is None


def test_a_bound_is_unwise_only_where_it_moves_a_value_beyond_the_safe_one() -> None:
    """To raise a low value is never too low, and to lower a high one never too high."""
    assert unwise(setting("vm.max_map_count", 2000, "at_least")) is None
    assert unwise(setting("vm.max_map_count", 2000, "at_most")) is not None
    assert unwise(setting("vm.min_free_kbytes", 2 * GIB, "at_most"), HOST) is None
    assert unwise(setting("vm.min_free_kbytes", 2 * GIB, "at_least"), HOST) is not None
