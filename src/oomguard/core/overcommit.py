"""Computes commit limits, and refuses strict limits that would take the host down.

If `overcommit_memory` is 2 and more memory is promised than the limit allows, the kernel kills nothing,
but every later fork, mmap and brk fails, even in the shell that could repair it
(mm/util.c:__vm_enough_memory). So the limit is computed before it is set.
"""

from collections.abc import Iterable, Mapping

from oomguard.core.decide import Refusal
from oomguard.core.sysctl import COMMIT, SYSCTLS, after_writing
from oomguard.core.text import kib
from oomguard.core.typed import NamedTuple

MODE = "vm.overcommit_memory"
RATIO = "vm.overcommit_ratio"
KBYTES = "vm.overcommit_kbytes"
ADMIN_RESERVE = "vm.admin_reserve_kbytes"
USER_RESERVE = "vm.user_reserve_kbytes"
HUGE_PAGES = "vm.nr_hugepages"
SURPLUS_PAGES = "vm.nr_overcommit_hugepages"

KNOBS = tuple(row.name for row in SYSCTLS.values() if row.group == COMMIT)
"""Every sysctl that affects how much memory may be promised."""

STRICT = 2

_ROUNDING_KIB = 256
"""Allowed difference to the kernel's limit, which counts in pages: four of 64 KiB."""


class Memory(NamedTuple):
    """The figures of /proc/meminfo that the commit limit depends on.

    `hugetlb_kib` is the size of huge pages of all sizes. `huge_pages` is the number in `vm.nr_hugepages`, of
    `huge_page_kib` each, and `surplus_pages` the number that programs got in addition. `available_kib` is the
    memory available without swapping (MemAvailable).
    """

    total_kib: int
    swap_total_kib: int
    hugetlb_kib: int
    commit_limit_kib: int
    committed_kib: int
    huge_pages: int = 0
    huge_page_kib: int = 0
    available_kib: int = 0
    surplus_pages: int = 0
    swap_free_kib: int = 0


class Peak(NamedTuple):
    """The highest lasting Committed_AS of the last days, its day (`YYYY-MM-DD`), and the file with it."""

    committed_kib: int
    day: str
    file: str


def commit_limit_kib(memory: Memory, knobs: Mapping[str, int]) -> int:
    """Return the limit these settings give, as mm/util.c:vm_commit_limit computes it.

    Huge pages reduce the ratio's limit, but not an absolute one; those in `knobs` count as granted.
    """
    kbytes = knobs.get(KBYTES, 0)
    if kbytes:
        return kbytes + memory.swap_total_kib
    more_pages = knobs.get(HUGE_PAGES, memory.huge_pages) - memory.huge_pages
    hugetlb = memory.hugetlb_kib + more_pages * memory.huge_page_kib
    share = max(0, memory.total_kib - hugetlb) * knobs.get(RATIO, 50) // 100
    return share + memory.swap_total_kib


def usable_limit_kib(memory: Memory, knobs: Mapping[str, int]) -> int:
    """Return how much of the limit an unprivileged process can use, at least.

    This subtracts the reserves for root and recovery, and all surplus huge pages that programs may get.
    """
    reserves = knobs.get(ADMIN_RESERVE, 0) + knobs.get(USER_RESERVE, 0)
    more_pages = max(0, knobs.get(SURPLUS_PAGES, 0) - memory.surplus_pages)
    pages = knobs.get(HUGE_PAGES, memory.huge_pages) + more_pages
    return commit_limit_kib(memory, {**knobs, HUGE_PAGES: pages}) - reserves


def demand_kib(memory: Memory, actual: Mapping[str, int], *, headroom_percent: int) -> int:
    """Return how much of the memory promised now a later limit must allow.

    Under a strict limit, count at most 95 % of what that limit would be accepted for: RAM differs a little
    after each boot.
    """
    if actual.get(MODE) != STRICT:
        return memory.committed_kib
    return min(memory.committed_kib, usable_limit_kib(memory, actual) * 95 // (100 + headroom_percent))


def mismatch(memory: Memory, actual: Mapping[str, int]) -> Refusal | None:
    """Return a refusal if the `actual` knobs do not give the CommitLimit that the kernel reports.

    Then something else counts, such as huge pages of a size that an old kernel does not report, hotplugged
    memory, or a container's meminfo. The limit under other knobs is unknown, too.
    """
    computed = commit_limit_kib(memory, actual)
    if abs(computed - memory.commit_limit_kib) <= _ROUNDING_KIB:
        return None
    return Refusal(
        f"the kernel's CommitLimit is {memory.commit_limit_kib} KiB, but MemTotal, SwapTotal, "
        f"Hugetlb and the current overcommit sysctls give {computed} KiB: a new limit cannot be predicted",
        "find what else counts, such as huge pages of several sizes or a container's /proc/meminfo "
        "(`force: true` overrides)",
    )


def interlock(
    memory: Memory,
    *,
    actual: Mapping[str, int],
    final: Mapping[str, int],
    headroom_percent: int,
    peak: Peak | None = None,
) -> Refusal | None:
    """Return why a change from the `actual` knobs to the `final` ones would be fatal, or None.

    Only tightening is refused: a change to strict accounting, or, under it, to a lower limit. So is one
    whose limit cannot be computed. What is promised now counts, or the `peak` of earlier days if it is more:
    a host that has just booted has promised little yet.
    """
    if final.get(MODE) != STRICT:
        return None
    usable = usable_limit_kib(memory, final)
    if actual.get(MODE) == STRICT and usable >= usable_limit_kib(memory, actual):
        return None
    unpredictable = mismatch(memory, actual)
    if unpredictable is not None:
        return unpredictable
    if peak is not None and peak.committed_kib <= memory.committed_kib:
        peak = None
    promised = memory.committed_kib if peak is None else peak.committed_kib
    needed = promised * (100 + headroom_percent) // 100
    if needed <= usable:
        return None
    higher = _higher(memory, final, needed)
    limit = kib(commit_limit_kib(memory, final))
    would_be = f"CommitLimit would be {limit} ({kib(max(usable, 0))} of it usable), but"
    with_headroom = f"{kib(needed)} with {headroom_percent} % headroom"
    if peak is not None:
        forget = f"; if it will not be that high again, run rm {peak.file}"
        if memory.committed_kib * (100 + headroom_percent) // 100 > usable:
            forget = ""  # what is promised now would be refused as well
        return Refusal(
            f"{would_be} Committed_AS peaked at {kib(promised)} on {peak.day}, {with_headroom}: "
            "allocations would fail when it is that high again",
            f"{higher} or add swap{forget} (`force: true` overrides)",
        )
    return Refusal(
        f"{would_be} Committed_AS is {kib(promised)}, {with_headroom}: "
        "every later allocation on this host would fail",
        f"{higher}, add swap or stop programs; the daemon tries again when Committed_AS falls "
        "(`force: true` overrides)",
    )


def _higher(memory: Memory, final: Mapping[str, int], needed_kib: int) -> str:
    """Return which knob to raise, and how far, for a usable limit of `needed_kib`."""
    kbytes = final.get(KBYTES, 0)
    if kbytes:
        kbytes += needed_kib - usable_limit_kib(memory, final)
        return f"raise overcommit_kbytes to {kbytes} or more (commit_limit: {-(-kbytes // 1024)}MiB)"
    for ratio in range(final.get(RATIO, 50) + 1, 1001):
        if usable_limit_kib(memory, {**final, RATIO: ratio}) >= needed_kib:
            return f"raise overcommit_ratio to {ratio} or more"
    return "raise overcommit_ratio"


def write_order(
    names: Iterable[str],
    *,
    actual: Mapping[str, int],
    final: Mapping[str, int],
    memory: Memory | None = None,
) -> list[str]:
    """Return `names` in the order to write them.

    A change to strict accounting writes the limits first and the mode last, a change from it the mode first.
    Under strict accounting, what lowers the limit comes last. So no limit below both the old and the new
    one is ever in force.
    """
    was_strict, is_strict = actual.get(MODE) == STRICT, final.get(MODE) == STRICT

    def rank(name: str) -> int:
        if name == MODE:
            return 2 if is_strict and not was_strict else -2
        if not was_strict or memory is None:
            return 0
        after = after_writing(actual, {name: final[name]})
        return int(usable_limit_kib(memory, after) < usable_limit_kib(memory, actual))

    return sorted(names, key=rank)
