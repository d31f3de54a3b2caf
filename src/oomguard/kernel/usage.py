"""Reads what the OOM killer counts for a process, or estimates it from the kernel's score.

Before Linux 7.0, the resident set is field 24 of stat, because that and oom_badness both use get_mm_rss,
whose counters lag behind by what each CPU has not added yet. From 7.0 on, oom_badness uses the exact sum, as
`VmRSS:` does.
"""

import os
from collections.abc import Iterator
from contextlib import suppress

from oomguard.core.process import INIT_PID, Identity, UnknownFactError
from oomguard.core.trust import NOBODY
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.kernel.capability import CAP_SYS_ADMIN, has, parse_effective
from oomguard.kernel.proc_files import GONE, HIDDEN, Stat, status_line
from oomguard.kernel.procfs import ProcessHandle
from oomguard.kernel.sysctl_files import observe_memory
from oomguard.oom.badness import CURRENT, Era, Usage, global_pages, used_pages
from oomguard.oom.ranking import Candidate

if TYPE_CHECKING:
    from oomguard.oom.ranking import Exemption

_TELLING_FLOOR = -998
"""Below this value, the formula itself can give a score of 0."""

_THREADS_LIMIT = 64
"""Threads read of a process whose main thread has ended: a tracer can keep thousands that have, too."""

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Held(NamedTuple):
    """The memory of a process: what counts, what a kill frees, and whether it has CAP_SYS_ADMIN.

    `is_partial`: only the resident set is known, or an estimate of all.
    """

    usage: Usage
    freed_kib: int
    is_admin: bool
    is_partial: bool = False


def parse_held(stat: Stat, status: bytes, *, page_kib: int = PAGE_KIB, is_exact: bool = False) -> Held | None:
    """Return what a task's `stat` and `status` show; None for one without memory, such as a kernel thread.

    `is_exact` is whether the kernel decides by exact counters (`Era.is_exact`).
    """
    resident_kib = _kib(status, b"VmRSS")
    if resident_kib is None:
        return None
    rss = resident_kib // page_kib if is_exact else stat.resident_pages
    swap_kib = _kib(status, b"VmSwap") or 0
    # Linux before 4.15 lists the upper levels separately.
    tables_kib = (_kib(status, b"VmPTE") or 0) + (_kib(status, b"VmPMD") or 0)
    anonymous_kib = _kib(status, b"RssAnon")
    if anonymous_kib is None:
        anonymous_kib = resident_kib
    return Held(
        Usage(rss, swap_kib // page_kib, tables_kib // page_kib),
        anonymous_kib + swap_kib + tables_kib,
        has(parse_effective(status), CAP_SYS_ADMIN),
    )


def _resident(stat: Stat) -> Held | None:
    """Return what `stat` alone shows; None for a thread that has ended."""
    if stat.thread_ends:
        return None
    pages = stat.resident_pages
    return Held(Usage(pages, 0, 0), pages * PAGE_KIB, is_admin=False, is_partial=True)


def _estimate(handle: ProcessHandle, score: int, value: int, era: Era) -> Held | None:
    """Return what the kernel's score tells, in thousandths of the host's memory; None if it has none.

    Neither score nor value pins the process's memory: nobody can delay them (fs/proc/base.c:proc_oom_score).
    """
    memory = observe_memory(handle.procfs)
    if memory is None or not score:
        return None
    pages = global_pages(memory.total_kib, memory.swap_total_kib, page_kib=PAGE_KIB)
    used = used_pages(score, value, pages, era=era)
    return Held(Usage(used), used * PAGE_KIB, is_admin=False, is_partial=True)


def _kib(status: bytes, key: bytes) -> int | None:
    value = status_line(status, key)
    return int(value.removesuffix(b" kB")) if value else None


def read_held(handle: ProcessHandle, era: Era = CURRENT) -> Held | None:
    """Return the memory of a process, None if it has none. Raises one of GONE."""
    for folder in _folders(handle):
        stat = None
        try:
            stat = handle.read_stat(folder) if folder else handle.stat
            status = handle.read_status(folder) if folder else handle.status
            found = parse_held(stat, status, is_exact=era.is_exact)
        except GONE:
            if not folder:
                raise
            continue
        except UnknownFactError:
            if stat is None:
                continue
            found = _resident(stat)
        if found is not None:
            return found
    return None


def _folders(handle: ProcessHandle) -> Iterator[str]:
    """Yield the folders of a process and of its threads.

    A main thread can end before its process, and then has no memory (mm/oom_kill.c:find_lock_task_mm).
    """
    yield ""
    if handle.stat.num_threads > 1:
        for tid in handle.threads(_THREADS_LIMIT):
            yield f"task/{tid}/"


def _uid(handle: ProcessHandle) -> int:
    with suppress(UnknownFactError):
        return handle.uid
    return handle.value_owner() or NOBODY  # root's own are always read


def observe_candidate(
    handle: ProcessHandle, era: Era = CURRENT, value: int | None = None
) -> Candidate | None:
    """Return a process as the OOM killer sees it, None if it has no memory or has ended.

    `value` is its `oom_score_adj`, if that was just read. What cannot be read in time is estimated, or its
    user could hide it; then its start time is 0.
    """
    try:
        try:
            handle.read_name_and_stat()
            identity = handle.identity
            found = None if handle.stat.is_kernel_thread else read_held(handle, era)
            if found is None:
                return None
        except UnknownFactError:
            identity, found = Identity(handle.pid, 0), None
        if value is None:
            value = handle.read_oom_score_adj()
        score = int(handle.read("oom_score"))
        found = found or _estimate(handle, score, value, era)
        if found is None:
            return None
        return Candidate(
            identity=identity,
            comm=handle.comm,
            uid=_uid(handle),
            oom_score_adj=value,
            usage=found.usage,
            freed_kib=found.freed_kib,
            exemption=_exemption(handle.pid, value, score, era),
            is_admin=found.is_admin,
            kernel_score=score,
            is_partial=found.is_partial,
        )
    except (*GONE, HIDDEN):
        return None


def _exemption(pid: int, value: int, score: int, era: Era) -> "Exemption":
    """Return why the kernel skips a process, whatever its value.

    Since Linux 5.9 a score of 0 shows that it does; before, every small process has it. PID 1 is init, unless
    its score shows that it is only a container's.
    """
    if pid == INIT_PID and not score:
        return "init"
    if score == 0 and era.least is None and value > _TELLING_FLOOR:
        return "in vfork, or dying"
    return ""
