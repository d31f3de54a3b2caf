"""Sysctls that take a host down by themselves where their value does not fit its memory.

A row a bound. Beyond a bound that is `fatal` a host cannot work: the change is refused. Beyond the others it
is only unwise: `oomguard check` warns.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.core.commit import HUGE_PAGES, Memory, Refusal, kib

if TYPE_CHECKING:
    from collections.abc import Callable


class Bound(NamedTuple):
    """The highest or lowest sound value of a sysctl: of any host, or computed from its memory.

    `of_host` takes the memory and the present value; `of_any` holds where the host is not known.
    `why` completes "…, which is more than N: ".
    """

    name: str
    side: Literal["least", "most"]
    why: str
    hint: str
    fatal: bool = False
    of_any: int | None = None
    of_host: "Callable[[Memory, int], int] | None" = None

    def limit(self, memory: Memory | None, now: int = 0) -> int | None:
        """Return the bound's value, None if it takes a host to tell."""
        if self.of_host is None or memory is None:
            return self.of_any
        return self.of_host(memory, now)

    def is_beyond(self, value: int, limit: int) -> bool:
        """Tell whether a value is on the wrong side."""
        return value > limit if self.side == "most" else value < limit

    def message(self, value: int, limit: int) -> str:
        """Return what is wrong with a value, with the numbers."""
        than = "more" if self.side == "most" else "less"
        return f"{_amount(self.name, value)} is {than} than {_amount(self.name, limit)}: {self.why}"


_QUARTER = "a quarter of RAM"

_LEFT_KIB = 512 * 1024
"""What must stay available beside huge pages: with less, a host that runs an ordinary system stalls."""


def _spare_kib(memory: Memory) -> int:
    return max(0, min(memory.available_kib * 9 // 10, memory.available_kib - _LEFT_KIB))


BOUNDS = (
    Bound(
        "vm.min_free_kbytes",
        "most",
        "the kernel would reclaim, swap and kill to keep that much free",
        "the kernel's own choice is some 64 MiB; 1 to 3 % of RAM is much (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, now: min(memory.total_kib // 5, now + memory.available_kib // 2),
    ),
    Bound(
        HUGE_PAGES,
        "most",
        "the rest of this host would be out of memory; huge pages serve only programs that ask for them",
        "ask for fewer, or stop programs first; it is tried again at each pass (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, now: now + _spare_kib(memory) // max(1, memory.huge_page_kib),
    ),
    Bound(
        "vm.admin_reserve_kbytes",
        "most",
        f"that is {_QUARTER}, and in mode 2 only root could use it",
        "131072 is plenty (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, _: memory.total_kib // 4,
    ),
    Bound(
        "vm.user_reserve_kbytes",
        "most",
        f"that is {_QUARTER}, and in mode 2 no program could use it",
        "131072 is the kernel's own choice (`force: true` overrides)",
        fatal=True,
        of_host=lambda memory, _: memory.total_kib // 4,
    ),
    Bound(
        "vm.max_map_count",
        "least",
        "programs could not map their libraries, and none could be started",
        "the kernel's default is 65530 (`force: true` overrides)",
        fatal=True,
        of_any=1024,
    ),
    Bound(
        "vm.mmap_min_addr",
        "most",
        "programs that are linked to a fixed address could not be started",
        "65536 keeps null pointers from being mapped (`force: true` overrides)",
        fatal=True,
        of_any=0x400000,
    ),
    Bound(
        "vm.min_free_kbytes",
        "least",
        "the kernel itself may fail to allocate under load",
        "leave it out: the kernel computes a value that fits the host",
        of_any=1024,
    ),
    Bound(
        "vm.min_free_kbytes",
        "most",
        "memory that no program can use, and reclaim begins that much earlier",
        "1 to 3 % of RAM is much",
        of_host=lambda memory, _: max(65536, memory.total_kib // 20),
    ),
    Bound(
        "vm.max_map_count",
        "least",
        "the kernel's default, which databases and Java already find too low",
        "leave it out, or raise it",
        of_any=65530,
    ),
    Bound(
        "vm.mmap_min_addr",
        "least",
        "a bug of the kernel that follows a null pointer could be exploited",
        "65536 is the default of most distributions",
        of_any=4096,
    ),
    Bound(
        "vm.mmap_min_addr",
        "most",
        "emulators and programs of 32 bits may need lower addresses",
        "65536 is the default of most distributions",
        of_any=65536,
    ),
    Bound(
        "vm.watermark_scale_factor",
        "most",
        "more than 10 % of memory between the watermarks: the kernel reclaims what nobody lacks",
        "10 is the default, 200 is much",
        of_any=1000,
    ),
    Bound(
        "vm.dirty_ratio",
        "least",
        "with 0 every program that writes waits for the disk",
        "10 to 40 is usual; for a small amount write dirty_bytes",
        of_any=1,
    ),
    Bound(
        "vm.vfs_cache_pressure",
        "least",
        "0 never reclaims dentries and inodes, which can use up all memory",
        "100 is the default",
        of_any=1,
    ),
)


def guard(name: str, value: int, now: int, memory: Memory) -> Refusal | None:
    """Return why a sysctl that is `now` must not get a value on this host, or None.

    What brings it nearer to the bound than it is now is never refused.
    """
    for bound in BOUNDS:
        if bound.name == name and bound.fatal:
            limit = bound.limit(memory, now)
            if limit is not None and bound.is_beyond(value, limit) and bound.is_beyond(value, now):
                return Refusal(bound.message(value, limit), bound.hint)
    return None


def unwise(name: str, value: int, memory: Memory | None = None) -> Refusal | None:
    """Return why a value is unwise on a host with this memory, or on any host if it is None; or None.

    Of a host that is only what depends on its memory and would not be refused.
    """
    for bound in BOUNDS:
        if bound.name != name or (memory is not None and (bound.fatal or bound.of_host is None)):
            continue
        limit = bound.limit(memory, value)
        if limit is not None and bound.is_beyond(value, limit):
            return Refusal(bound.message(value, limit), bound.hint)
    return None


def _amount(name: str, value: int) -> str:
    if not name.endswith("_kbytes"):
        return str(value)
    return f"{value} KiB" if value < 1024 else f"{value} KiB ({kib(value)})"
