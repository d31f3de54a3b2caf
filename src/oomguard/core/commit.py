"""Overcommit arithmetic and the interlock that keeps a strict limit from taking the host down.

Once `overcommit_memory` is 2 and more is promised than the limit allows, nothing is killed, but
every later fork, mmap and brk on the host fails, those of the shell that would repair it too
(mm/util.c:__vm_enough_memory). So the limit is worked out before it is put in force.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MODE = "vm.overcommit_memory"
RATIO = "vm.overcommit_ratio"
KBYTES = "vm.overcommit_kbytes"
ADMIN_RESERVE = "vm.admin_reserve_kbytes"
USER_RESERVE = "vm.user_reserve_kbytes"

KNOBS = (MODE, RATIO, KBYTES, ADMIN_RESERVE, USER_RESERVE)
"""Every sysctl that decides how much may be promised."""

STRICT = 2

_ROUNDING_KIB = 256
"""How far the computed limit may be from the kernel's, which counts in pages: four of 64 KiB."""


class Memory(NamedTuple):
    """What overcommit is reckoned from, as /proc/meminfo has it, in KiB."""

    total_kib: int
    swap_total_kib: int
    hugetlb_kib: int
    commit_limit_kib: int
    committed_kib: int


class Refusal(NamedTuple):
    """Why a change must not be attempted, and the way out."""

    reason: str
    hint: str = ""


def commit_limit_kib(memory: Memory, knobs: "Mapping[str, int]") -> int:
    """Return the limit these settings give, as mm/util.c:vm_commit_limit computes it.

    Huge pages count against the ratio, never against the absolute value.
    """
    kbytes = knobs.get(KBYTES, 0)
    if kbytes:
        return kbytes + memory.swap_total_kib
    share = (memory.total_kib - memory.hugetlb_kib) * knobs.get(RATIO, 50) // 100
    return share + memory.swap_total_kib


def usable_limit_kib(memory: Memory, knobs: "Mapping[str, int]") -> int:
    """Return what an ordinary process finds of the limit: less what is kept for root and recovery."""
    reserves = knobs.get(ADMIN_RESERVE, 0) + knobs.get(USER_RESERVE, 0)
    return commit_limit_kib(memory, knobs) - reserves


def mismatch(memory: Memory, actual: "Mapping[str, int]") -> Refusal | None:
    """Return a refusal if the `actual` knobs do not give the CommitLimit that the kernel reports.

    Something else counts then, such as huge pages of a size that an old kernel does not report, memory
    that comes or goes, or a meminfo that is a container's. What other knobs would give is unknown, too.
    """
    computed = commit_limit_kib(memory, actual)
    if abs(computed - memory.commit_limit_kib) <= _ROUNDING_KIB:
        return None
    return Refusal(
        f"the kernel's CommitLimit is {memory.commit_limit_kib} KiB, but {computed} KiB computed from "
        "MemTotal, SwapTotal, Hugetlb and the overcommit sysctls of now: a new limit cannot be predicted",
        "find out what else counts, such as huge pages of several sizes or a /proc/meminfo that is not the "
        "host's (`force: true` overrides)",
    )


def interlock(
    memory: Memory,
    *,
    actual: "Mapping[str, int]",
    final: "Mapping[str, int]",
    headroom_percent: int,
) -> Refusal | None:
    """Return why going from the `actual` knobs to the `final` ones would be fatal, or None.

    Only tightening is refused: a change to strict accounting, or, under it, to a lower limit. So is one
    whose limit cannot be computed.
    """
    if final.get(MODE) != STRICT:
        return None
    usable = usable_limit_kib(memory, final)
    if actual.get(MODE) == STRICT and usable >= usable_limit_kib(memory, actual):
        return None
    unpredictable = mismatch(memory, actual)
    if unpredictable is not None:
        return unpredictable
    needed = memory.committed_kib * (100 + headroom_percent) // 100
    if needed <= usable:
        return None
    return Refusal(
        f"CommitLimit would be {kib(commit_limit_kib(memory, final))} ({kib(max(usable, 0))} of it usable), "
        f"but Committed_AS is {kib(memory.committed_kib)}, {kib(needed)} with {headroom_percent} % headroom: "
        "every later allocation on this host would fail",
        "raise overcommit_ratio, add swap or stop programs; it is tried again when Committed_AS has fallen "
        "(`force: true` overrides)",
    )


def write_order(names: "list[str]", *, tightening: bool) -> list[str]:
    """Return `names` in the order to write them.

    Tightening to strict accounting sets the limits first and the mode last, loosening the other
    way round: at no moment is a limit in force that neither the old nor the new settings ask for.
    """

    def rank(name: str) -> int:
        if name == MODE:
            return 2 if tightening else 0
        return 1

    return sorted(names, key=rank)


def kib(amount: int) -> str:
    """Write an amount of KiB as people read it: `8.0 GiB`."""
    size = float(amount)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "KiB" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
