"""Limits for sysctls that can take a host down.

Beyond a `fatal` bound a host cannot work, so oomguard refuses the change. For other bounds,
`oomguard check` warns.
"""

from collections.abc import Callable

from oomguard.core.decide import Refusal
from oomguard.core.overcommit import ADMIN_RESERVE, HUGE_PAGES, KBYTES, RATIO, USER_RESERVE, Memory
from oomguard.core.policy import SysctlSetting
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.text import kib
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal


class SafeLimit(NamedTuple):
    """The highest or lowest safe value of a sysctl, for any host or computed from its memory.

    `of_host` takes the memory and the current value; `of_any` applies if the host is not known. `why`
    completes "… is more than N: ".
    """

    name: str
    side: 'Literal["least", "most"]'
    why: str
    hint: str
    fatal: bool = False
    of_any: int | None = None
    of_host: Callable[[Memory, int], int] | None = None

    def limit(self, memory: Memory | None, now: int = 0) -> int | None:
        """Return the bound's value, None if it depends on the host."""
        if self.of_host is None or memory is None:
            return self.of_any
        return self.of_host(memory, now)

    def is_beyond(self, value: int, limit: int) -> bool:
        """Return whether a value is beyond the limit, or beyond another value."""
        return value > limit if self.side == "most" else value < limit

    def message(self, value: int, limit: int) -> str:
        """Return why a value is wrong, with the numbers."""
        than = "more" if self.side == "most" else "less"
        return f"{_amount(self.name, value)} is {than} than {_amount(self.name, limit)}: {self.why}"


_QUARTER = "a quarter of RAM"

_LEFT_KIB = 512 * 1024
"""Memory to leave available beside huge pages: with less, a host with an ordinary system stalls."""

_LARGEST_HOST_KIB = 2**34 - 1
"""No host has 16 TiB to promise; 16 GiB in bytes is that number."""

_NO_PROGRAM = "in mode 2 no program could start, whoever sets that mode"
_LEAST_LIMIT_KIB = 64 * 1024


def _least_ratio(memory: Memory) -> int:
    """Return the ratio with which the limit is just enough for a program."""
    ram_kib = max(1, memory.total_kib - memory.hugetlb_kib)
    return max(0, -(-100 * (_LEAST_LIMIT_KIB - memory.swap_total_kib) // ram_kib))


def _spare_kib(memory: Memory) -> int:
    return max(0, min(memory.available_kib * 9 // 10, memory.available_kib - _LEFT_KIB))


BOUNDS = (
    SafeLimit(
        "vm.min_free_kbytes",
        "most",
        "the kernel would reclaim, swap and kill to keep that much free",
        "the kernel chooses about 64 MiB; 1 to 3 % of RAM is much (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, now: min(memory.total_kib // 5, now + memory.available_kib // 2),
    ),
    SafeLimit(
        HUGE_PAGES,
        "most",
        "the rest of this host would run out of memory; only programs that ask for huge pages can use them",
        "write fewer, or stop programs first; oomguard tries again at each pass (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, now: now + _spare_kib(memory) // max(1, memory.huge_page_kib),
    ),
    SafeLimit(
        ADMIN_RESERVE,
        "most",
        f"that is {_QUARTER}, and in mode 2 only root could use it",
        "131072 is enough (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, _: memory.total_kib // 4,
    ),
    SafeLimit(
        USER_RESERVE,
        "most",
        f"that is {_QUARTER}, and in mode 2 no program could use it",
        "the kernel's default is at most 131072 (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, _: memory.total_kib // 4,
    ),
    SafeLimit(
        "vm.max_map_count",
        "least",
        "programs could not map their libraries, and no program could start",
        "the kernel's default is 65530 (`force: true` overrides)",
        fatal=True,
        of_any=1024,
    ),
    *(
        SafeLimit(
            name,
            "least",
            "nearly every write would wait for the disk, unless this is not in bytes",
            "write a size such as 256MiB",
            of_any=1 << 20,
        )
        for name in ("vm.dirty_bytes", "vm.dirty_background_bytes")
    ),
    SafeLimit(
        KBYTES,
        "least",
        _NO_PROGRAM,
        "leave less RAM, write a larger limit, or set overcommit_ratio (`force: true` overrides)",
        fatal=True,
        of_any=_LEAST_LIMIT_KIB,
    ),
    SafeLimit(
        RATIO,
        "least",
        _NO_PROGRAM,
        "the kernel's default is 50 (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, _: _least_ratio(memory),
    ),
    SafeLimit(
        RATIO,
        "least",
        "in mode 2 most programs could not start, whoever sets that mode, unless there is much swap",
        "the kernel's default is 50",
        of_any=10,
    ),
    SafeLimit(
        "vm.mmap_min_addr",
        "most",
        "programs linked to a fixed address could not start",
        "65536 prevents the mapping of null pointers (`force: true` overrides)",
        fatal=True,
        of_any=0x400000,
    ),
    SafeLimit(
        "vm.min_free_kbytes",
        "least",
        "the kernel itself may fail to allocate under load",
        "remove it: the kernel computes a value that fits the host",
        of_any=1024,
    ),
    SafeLimit(
        "vm.min_free_kbytes",
        "most",
        "no program can use this memory, and reclaim starts that much earlier",
        "1 to 3 % of RAM is much",
        of_host=lambda memory, _: max(65536, memory.total_kib // 20),
    ),
    SafeLimit(
        "vm.max_map_count",
        "least",
        "that is the kernel's default, which is too low even for databases and Java",
        "remove it, or raise it",
        of_any=65530,
    ),
    SafeLimit(
        "vm.mmap_min_addr",
        "least",
        "an attacker could exploit null pointer bugs of the kernel",
        "65536 is the default of most distributions",
        of_any=4096,
    ),
    SafeLimit(
        "vm.mmap_min_addr",
        "most",
        "emulators and 32-bit programs may need lower addresses",
        "65536 is the default of most distributions",
        of_any=65536,
    ),
    SafeLimit(
        KBYTES,
        "most",
        "that looks like a number of bytes",
        "the unit is KiB: divide by 1024",
        of_any=_LARGEST_HOST_KIB,
    ),
    SafeLimit(
        KBYTES,
        "most",
        "that looks like a number of bytes",
        "the unit is KiB: divide by 1024",
        of_host=lambda memory, _: 16 * (memory.total_kib + memory.swap_total_kib),
    ),
    SafeLimit(
        KBYTES,
        "most",
        "that is all RAM, and the kernel adds swap by itself",
        "write a commit_limit of 90%, or one that leaves some RAM",
        of_host=lambda memory, _: memory.total_kib,
    ),
    SafeLimit(
        "vm.watermark_scale_factor",
        "most",
        "more than 10 % of memory is between the watermarks: the kernel reclaims without need",
        "10 is the default, 200 is much",
        of_any=1000,
    ),
    SafeLimit(
        "vm.dirty_ratio",
        "least",
        "with 0 every write waits for the disk",
        "10 to 40 is usual; for a smaller amount use dirty_bytes",
        of_any=1,
    ),
    SafeLimit(
        "vm.vfs_cache_pressure",
        "least",
        "with 0 the kernel never reclaims dentries and inodes, which can use all memory",
        "100 is the default",
        of_any=1,
    ),
)


def guard(name: str, value: int, now: int, memory: Memory | None) -> Refusal | None:
    """Return why oomguard must not set a sysctl to a value on this host, None if it may.

    A value that is closer to the bound than `now` is always allowed, if `now` is in force: of a pair, the
    one that is 0 is not.
    """
    found = fatal_bound(name, value, now, memory)
    return None if found is None else Refusal(found[0].message(value, found[1]), found[0].hint)


def fatal_bound(name: str, value: int, now: int, memory: Memory | None) -> tuple[SafeLimit, int] | None:
    """Return the bound that makes `guard` refuse a value, and what it is on this host."""
    for bound in BOUNDS:
        if bound.name == name and bound.fatal:
            limit = bound.limit(memory, now)
            is_off = now == 0 != value and SYSCTLS[name].partner != ""
            is_worse = bound.is_beyond(value, now) or is_off
            if limit is not None and bound.is_beyond(value, limit) and is_worse:
                return bound, limit
    return None


def is_bound_by_host(name: str) -> bool:
    """Return whether a value of a sysctl can be fatal on one host and not on another."""
    return any(bound.name == name and bound.fatal and bound.of_host is not None for bound in BOUNDS)


def unwise(setting: SysctlSetting, memory: Memory | None = None) -> Refusal | None:
    """Return why a value of the policy is unwise on a host with this memory, None if it is not.

    A value that is a bound is not beyond one of the same kind. With `memory` only bounds that depend on it
    and are not fatal count; without, all bounds of any host.
    """
    for bound in BOUNDS:
        if bound.name != setting.name or setting.kind == f"at_{bound.side}":
            continue
        if memory is not None and (bound.fatal or bound.of_host is None):
            continue
        limit = bound.limit(memory, setting.value)
        if limit is not None and bound.is_beyond(setting.value, limit):
            return Refusal(bound.message(setting.value, limit), bound.hint)
    return None


def _amount(name: str, value: int) -> str:
    if not name.endswith("_kbytes"):
        return str(value)
    return f"{value} KiB" if value < 1024 else f"{value} KiB ({kib(value)})"
