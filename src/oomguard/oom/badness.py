"""Which process the kernel would kill: its own formula, with its integer division, for each kernel version.

mm/oom_kill.c:oom_badness adds the pages a process uses in RAM, swap and page tables, and one thousandth
of all memory for each point of `oom_score_adj`. The kernel kills the process with the highest sum.
"""

import re

from oomguard.core.rule import OOM_SCORE_ADJ_MIN
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

IMMUNE = OOM_SCORE_ADJ_MIN
"""Never chosen, however much memory it uses."""

_PER_MILLE = 1000
_ROOT_BONUS = 30


class Usage(NamedTuple):
    """The pages of a process that the kernel counts. `rss` includes all shared memory."""

    rss: int
    swap: int = 0
    page_tables: int = 0


class Era(NamedTuple):
    """The formula of the kernels from version `since` to the next era."""

    since: tuple[int, int, int]
    is_per_mille: bool = False
    """Badness is in thousandths of all memory, 1000 at most: processes smaller than that are equal."""
    counts_page_tables: bool = True
    root_bonus: 'Literal["none", "points", "usage"]' = "none"
    """What CAP_SYS_ADMIN is worth: 30 points of `oom_score_adj`, or 3 % of its memory."""
    least: int | None = None
    """Badness is cut off here, and one of 0 is never chosen. None: it may be below zero."""
    last_wins_tie: bool = True
    """On a tie, the kernel kills the process it scans last, not first."""
    is_exact: bool = False
    """The kernel adds up what each CPU holds back of the counters of a process, up to some MiB on each."""


_OLDER = Era((0, 0, 0), least=1, last_wins_tie=False)

ERAS = (
    # 2.6.36 a63d83f427fb: proportional to memory; before, a different heuristic
    _OLDER._replace(
        since=(2, 6, 36), is_per_mille=True, counts_page_tables=False, root_bonus="points", least=0
    ),
    _OLDER._replace(
        since=(2, 6, 39), is_per_mille=True, counts_page_tables=False, root_bonus="points", least=1
    ),
    _OLDER._replace(since=(3, 0, 0), is_per_mille=True, root_bonus="points"),  # f755a042d82b
    _OLDER._replace(since=(3, 5, 0), root_bonus="points"),  # a7f638f999ff, 61eafb00d55d: in pages
    _OLDER._replace(since=(3, 14, 0), root_bonus="usage"),  # 778c14affaf9
    _OLDER._replace(since=(4, 17, 0)),  # d46078b28889: no bonus for root
    _OLDER._replace(since=(5, 1, 0)),  # bbbe48029720
    _OLDER._replace(since=(5, 3, 0), last_wins_tie=True),  # f168a9a54ec3
    Era(since=(5, 9, 0)),  # 9066e5cfb73c: below zero, too
    Era(since=(7, 0, 0), is_exact=True),  # exact counters in oom_badness and in the line of the kill
)
"""Oldest first. A distribution's backports do not show in the release number."""

CURRENT = ERAS[-1]


def era_of(release: str) -> Era | None:
    """Return the formula of a kernel, by its release (`6.1.0-18-amd64`); None before 2.6.36."""
    numbers = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", release)
    if numbers is None:
        return CURRENT
    version = tuple(int(number or 0) for number in numbers.groups())
    return next((era for era in reversed(ERAS) if version >= era.since), None)


def share(points: int, total_pages: int, era: Era = CURRENT) -> float:
    """Return a badness as a part of the memory that ran out; oom_score_adj can make it negative."""
    return points / (_PER_MILLE if era.is_per_mille else max(total_pages, 1))


def badness(
    usage: Usage, oom_score_adj: int, total_pages: int, *, era: Era = CURRENT, is_admin: bool = False
) -> int | None:
    """Return the badness of a process; None (LONG_MIN) if the kernel never chooses it.

    `total_pages` is the memory that ran out: RAM and swap, or a cgroup's limit. `is_admin` is whether it
    has CAP_SYS_ADMIN, which kernels before 4.17 rewarded. Init, kernel threads, processes in vfork
    and those already dying are exempt, too; the caller must check that.
    """
    if oom_score_adj == IMMUNE:
        return None
    points = usage.rss + usage.swap + (usage.page_tables if era.counts_page_tables else 0)
    adjustment = oom_score_adj
    if is_admin and era.root_bonus == "usage":
        points -= points * 3 // 100
    if is_admin and era.root_bonus == "points":
        adjustment -= _ROOT_BONUS
    if era.is_per_mille:
        points = min(points * _PER_MILLE // max(total_pages, 1) + adjustment, _PER_MILLE)
    else:
        points += adjustment * adj_pages(total_pages)
    return points if era.least is None else max(points, era.least)


def used_pages(score: int, oom_score_adj: int, total_pages: int, *, era: Era = CURRENT) -> int:
    """Return the pages of a process with this /proc/PID/oom_score, to a thousandth of all memory or two.

    The reverse of `badness`, without what root is worth (fs/proc/base.c:proc_oom_score).
    """
    points = score * 3 // 2 - _PER_MILLE if era.least is None else score
    return max(points - oom_score_adj, 0) * total_pages // _PER_MILLE


def adj_pages(total_pages: int) -> int:
    """Return the pages that one point of `oom_score_adj` adds; 0 if less than 1000 pages ran out."""
    return total_pages // _PER_MILLE


def kill_order(points: "Sequence[int | None]", *, era: Era = CURRENT) -> list[int]:
    """Return the places in `points`, first victim first; `points` are in the order of the scan.

    The scan follows the kernel's list of tasks, which is ordered by start time, or that of a cgroup.
    Processes that are never chosen are omitted.
    """
    eligible = [
        (value, place)
        for place, value in enumerate(points)
        if value is not None and (era.least is None or value > 0)
    ]
    later = 1 if era.last_wins_tie else -1
    eligible.sort(key=lambda one: (one[0], later * one[1]), reverse=True)
    return [place for _, place in eligible]


def global_pages(total_kib: int, swap_total_kib: int, *, page_kib: int = 4) -> int:
    """Return the pages of the whole host: MemTotal and SwapTotal of /proc/meminfo."""
    return total_kib // page_kib + swap_total_kib // page_kib


class CgroupLimits(NamedTuple):
    """The limits of a memory cgroup, in bytes; None is no limit.

    Version 2 has `swap` (`memory.swap.max`), version 1 `memory_and_swap` (`memory.memsw.limit_in_bytes`).
    """

    memory: int | None
    swap: int | None = None
    memory_and_swap: int | None = None
    swappiness: int = 60


def cgroup_pages(limits: CgroupLimits, *, swap_total_kib: int, page_kib: int = 4) -> int | None:
    """Return the limit of a memory cgroup in pages (mm/memcontrol.c:mem_cgroup_get_max).

    None if it has no limit: then it never runs out of memory by itself.
    """
    if limits.memory is None:
        return None
    page = page_kib * 1024
    pages = limits.memory // page
    swap = swap_total = swap_total_kib // page_kib
    if limits.swappiness == 0:
        swap = 0
    elif limits.swap is not None:
        swap = limits.swap // page
    elif limits.memory_and_swap is not None:
        swap = max(limits.memory_and_swap // page - pages, 0)
    return max(pages + min(swap, swap_total), 1)
