"""The state of memory in a report of the OOM killer, in words: what ran out, and what held the memory."""

from collections.abc import Iterator

from oomguard.core.text import kib, printable, some_of
from oomguard.oom.postmortem import Finding
from oomguard.oom.report import Invoker, Memory, Report, Zone

_CONTIGUOUS_ORDER = 2
"""From this order on, an allocation may fail although much memory is free: it must be contiguous."""
_LEAST_PARTS = 20
"""A smaller share of free memory needs no explanation."""
_HOLDER_PARTS = 4
"""What uses a larger share of all memory and is not a process is named."""
_DMA, _HIGHMEM, _DMA32, _MOVABLE = 1, 2, 4, 8
"""The zones in a gfp_mask, the same in all kernels (include/linux/gfp_types.h)."""
_ZONES_SHOWN = 3


def memory_of(finding: Finding) -> Iterator[str]:
    """Yield what was asked for, what ran out, and why although memory is free."""
    report, page = finding.report, finding.report.memory.page_kib
    invoker, memory = report.invoker, report.memory
    if invoker is not None and not report.is_sysrq:
        who = printable(invoker.comm) or "A process"
        who = f"{who}[{invoker.pid}]" if invoker.pid is not None else who
        order = invoker.order
        yield f"{who} asked for {'memory' if order is None else kib(page << min(max(order, 0), 20))}."
    if finding.constraint == "memcg":
        yield from _cgroup(report)
        limit = report.memory.cgroup.get("memory")
        if limit is not None:
            yield from _holders(finding, limit.usage_kib // page)
    elif memory.total_pages is not None:
        free = memory.pages.get("free")
        parts = [f"{kib(memory.total_pages * page)} of RAM"]
        parts += [] if free is None else [f"{kib(free * page)} of it free"]
        yield f"The host has {', '.join([*parts, *_swap(report)])}."
        if invoker is not None:
            yield from _why_with_free_memory(invoker, memory, memory.total_pages, finding)
        yield from _holders(finding, memory.total_pages)


def _cgroup(report: Report) -> Iterator[str]:
    used = report.memory.cgroup.get("memory")
    if used is not None:
        limit = "" if used.limit_kib is None else f" of {kib(used.limit_kib)}"
        yield f"The cgroup used {kib(used.usage_kib)}{limit}."
        if used.limit_kib is None:
            yield "It has no memory limit, so it reached another one."
    both = report.memory.cgroup.get("memory+swap")
    if both is not None and both.limit_kib is not None and report.memory.reached == "memory+swap":
        yield f"With swap, it used {kib(both.usage_kib)} of {kib(both.limit_kib)}."
    yield "The kernel considers only processes in the cgroup, however much memory the host has."


def _swap(report: Report) -> Iterator[str]:
    total, free = report.memory.swap_total_kib, report.memory.swap_free_kib
    if total:
        yield f"{kib(total)} of swap"
        if free is not None:
            yield f"{kib(free) if free else 'none'} of it free"
    elif total == 0:
        yield "no swap"


def _why_with_free_memory(invoker: Invoker, memory: Memory, total: int, finding: Finding) -> Iterator[str]:
    """Yield why free memory was of no use."""
    free, page = memory.pages.get("free", 0), memory.page_kib
    if free * _LEAST_PARTS < total or finding.constraint != "none" or finding.report.is_sysrq:
        return
    mask = int(invoker.gfp_mask.partition("(")[0], 16)
    if mask == 0:
        yield (
            "Its gfp_mask is 0: not an allocation, but a page fault that could not be served, for example"
            " because a cgroup reached its limit or a driver failed."
        )
        return
    if (invoker.order or 0) >= _CONTIGUOUS_ORDER:
        yield "The memory must be contiguous, which can fail although much memory is free."
    usable = [zone for zone in memory.zones if _can_use(mask, zone.name)]
    unusable = [zone for zone in memory.zones if zone not in usable]
    if usable and sum(zone.free_kib for zone in unusable) > sum(zone.free_kib for zone in usable):
        names = " and ".join(sorted({zone.name for zone in unusable}))
        yield f"Its gfp_mask excludes zone {names}, which has most of the free memory."
    low = [zone for zone in usable if zone.free_kib < zone.min_kib]
    if low and len(low) * 2 >= len(usable):
        shown = some_of([*map(_zone, low)], _ZONES_SHOWN)
        yield f"Zones that it could use were below their minimum: {shown}."
    cma = memory.pages.get("free_cma", 0)
    if cma * 2 > free and not mask & _MOVABLE:
        yield f"{kib(cma * page)} of the free memory is CMA, for movable pages only."


def _can_use(mask: int, zone: str) -> bool:
    """Return whether an allocation with that gfp_mask may take pages of a zone (gfp_zone)."""
    if mask & _DMA:
        return zone == "DMA"
    if mask & _DMA32:
        return zone in ("DMA", "DMA32")
    if zone == "HighMem":
        return bool(mask & _HIGHMEM)
    return zone != "Movable" or mask & (_HIGHMEM | _MOVABLE) == _HIGHMEM | _MOVABLE


def _zone(zone: Zone) -> str:
    return f"{zone.name} of node {zone.node} ({kib(zone.free_kib)} free, minimum {kib(zone.min_kib)})"


def _holders(finding: Finding, total: int) -> Iterator[str]:
    """Yield what held much memory and is no process, the largest first."""
    memory = finding.report.memory
    pages, page = memory.pages, memory.page_kib
    tasks = finding.report.tasks
    if tasks and not (finding.report.rows_left_out or finding.report.rows_unread):
        rss = sum(task.rss for task in tasks)
        if rss * 2 < total:
            yield f"All processes together used {kib(rss * page)} of RAM."
    amounts = memory.held_kib or {
        name: pages.get(name, 0) * page for name in ("slab_unreclaimable", "shmem", "pagetables")
    }
    found = [
        (amounts.get("slab_unreclaimable", 0), "the kernel's own objects (slab)", "`slabtop` shows which"),
        (amounts.get("shmem", 0), "shared memory and tmpfs", "killing a process does not free it"),
        (amounts.get("pagetables", 0), "page tables", "many processes share large mappings"),
        (memory.huge_kib, "huge pages", "vm.nr_hugepages reserves them"),
    ]
    for held_kib, what, hint in sorted(found, reverse=True):
        if held_kib * _HOLDER_PARTS >= total * page:
            yield f"{kib(held_kib)} are {what}: {hint}."
