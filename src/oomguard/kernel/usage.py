"""Reads what the OOM killer counts for a process.

The resident set is field 24 of stat, because that and oom_badness both use get_mm_rss, whose counters lag
behind by what each CPU has not added yet. `VmRSS:` is exact since Linux 6.17, and so may differ.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oomguard.kernel.capability import CAP_SYS_ADMIN, has, parse_effective
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.oom.badness import CURRENT, Usage
from oomguard.oom.ranking import Candidate, Exemption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.oom.badness import Era

_INIT_PID = 1
_TELLING_FLOOR = -998
"""Below this value, the formula itself can give a score of 0."""

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Held(NamedTuple):
    """The memory of a process: what counts, what a kill frees, and whether it has CAP_SYS_ADMIN."""

    usage: Usage
    freed_kib: int
    is_admin: bool


def parse_held(stat: bytes, status: bytes, *, page_kib: int = PAGE_KIB) -> Held | None:
    """Parse /proc/PID/stat and status; None for a task without memory, such as a kernel thread."""
    fields = _fields(status)
    if b"VmRSS" not in fields:
        return None
    rss = int(stat[stat.rindex(b")") + 2 :].split()[21])
    swap_kib = fields.get(b"VmSwap", 0)
    # Linux before 4.15 lists the upper levels separately.
    tables_kib = fields.get(b"VmPTE", 0) + fields.get(b"VmPMD", 0)
    anonymous_kib = fields.get(b"RssAnon", fields[b"VmRSS"])
    return Held(
        Usage(rss, swap_kib // page_kib, tables_kib // page_kib),
        anonymous_kib + swap_kib + tables_kib,
        has(parse_effective(status), CAP_SYS_ADMIN),
    )


def _fields(status: bytes) -> dict[bytes, int]:
    found = {}
    for line in status.split(b"\n"):  # the only line break that the kernel escapes in a name
        key, _, rest = line.partition(b":\t")
        if key.startswith((b"Vm", b"RssAnon")):
            found[key] = int(rest.split()[0])
    return found


def read_held(handle: "ProcessHandle") -> Held | None:
    """Return the memory of a process, None if it has none. Raises one of GONE."""
    held = parse_held(handle.read("stat"), handle.read("status"))
    if held is None and handle.stat.num_threads > 1:
        # The main thread has ended, the process has not (mm/oom_kill.c:find_lock_task_mm).
        for tid in handle.threads():
            with suppress(*GONE):
                held = parse_held(handle.read(f"task/{tid}/stat"), handle.read(f"task/{tid}/status"))
            if held is not None:
                break
    return held


def observe_candidate(handle: "ProcessHandle", era: "Era" = CURRENT) -> Candidate | None:
    """Return a process as the OOM killer sees it, None if it has no memory or has ended."""
    try:
        held = None if handle.stat.is_kernel_thread else read_held(handle)
        if held is None:
            return None
        value = handle.read_oom_score_adj()
        score = _read_oom_score(handle)
        return Candidate(
            identity=handle.identity,
            comm=handle.comm,
            uid=handle.uid,
            oom_score_adj=value,
            usage=held.usage,
            freed_kib=held.freed_kib,
            exemption=_exemption(handle.pid, value, score, era),
            is_admin=held.is_admin,
            kernel_score=score,
        )
    except (*GONE, HIDDEN):
        return None


def observe_candidates(
    procfs: "Procfs", pids: "Iterable[int]", era: "Era" = CURRENT
) -> "Iterator[tuple[Candidate, ProcessHandle]]":
    """Yield each candidate with its open process, which closes on the next step."""
    for handle in procfs.processes(pids):
        candidate = observe_candidate(handle, era)
        if candidate is not None:
            yield candidate, handle


def _exemption(pid: int, value: int, score: int | None, era: "Era") -> Exemption:
    """Return why the kernel skips a process, whatever its value.

    Since Linux 5.9 a score of 0 shows that it does; before, every small process has it. PID 1 is init, unless
    its score shows that it is only a container's.
    """
    if pid == _INIT_PID and not score:
        return "init"
    if score == 0 and era.least is None and value > _TELLING_FLOOR:
        return "in vfork, or dying"
    return ""


def _read_oom_score(handle: "ProcessHandle") -> int | None:
    try:
        return int(handle.read("oom_score"))
    except FileNotFoundError:
        return None  # a tree made for tests
