"""Pressure stall information (PSI): how long tasks waited for memory, and a trigger for that."""

import errno
import os
from collections import deque
from typing import TYPE_CHECKING

from oomguard.core.sample import SHORT_PERCENT, Left
from oomguard.kernel.memcg import Memcg, children, read_bytes, read_control

if TYPE_CHECKING:
    from collections.abc import Generator

    from oomguard.kernel.floor import Privilege
    from oomguard.kernel.procfs import Procfs

_FILE = "pressure/memory"

_CGROUPS_LIMIT, _SHORT_LIMIT = 1000, 8
"""Cgroups looked at, and of those that are short."""

WINDOW_SECONDS = 2
"""Windows are multiples of this: others take CAP_SYS_RESOURCE (kernel/sched/psi.c:psi_trigger_create)."""


def open_trigger(procfs: "Procfs", percent: int, window_seconds: int, privilege: "Privilege") -> int:
    """Return a descriptor with EPOLLPRI when tasks stalled so much of a window, at most once a window.

    OSError: the kernel has no PSI, or does not allow it; `why_not` explains it. Before Linux 6.5 only
    CAP_SYS_RESOURCE opens the file for writing.
    """
    window = window_seconds * 1_000_000
    with privilege.raised():
        fd = os.open(_FILE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=procfs.fd)
        try:
            os.write(fd, b"some %d %d\0" % (window * percent // 100, window))
        except OSError:
            os.close(fd)
            raise
    return fd


def why_not(error: OSError) -> str:
    """Return why there is no trigger, and the fix if there is one."""
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        return "this kernel has no pressure information: boot with psi=1"
    if error.errno == errno.EPERM:
        return "before Linux 6.5 this takes CAP_SYS_RESOURCE"
    return f"/proc/{_FILE}: {os.strerror(error.errno or errno.EIO)}"


def observe_stalled_percent(procfs: "Procfs") -> float | None:
    """Return the share of the last 10 s in which some task stalled for memory; None without PSI."""
    try:
        return parse_some(procfs.read(_FILE))
    except OSError:
        return None


def parse_some(raw: bytes) -> float | None:
    """Parse `avg10` of the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; None if it has none."""
    for line in raw.split(b"\n"):
        kind, _, rest = line.partition(b" avg10=")
        if kind == b"some":
            return float(rest.split()[0])
    return None


def short_cgroups(
    root: Memcg, host: Left, percent: float
) -> "Generator[None, None, list[tuple[Memcg, Left]]]":
    """Return the cgroups whose tasks stall because they are at their limit, with what is left in each.

    Follows the pressure down from the root (version 2), a cgroup a step: it counts in all cgroups above. What
    is below a delegated cgroup is its owner's business.
    """
    pending, found = deque([root]), []
    steps = 0
    while pending and steps < _CGROUPS_LIMIT:
        memcg = pending.popleft()
        left = _left(memcg, host)
        if left is not None and left.percent < SHORT_PERCENT:
            found.append((memcg, left))
        for child in children(memcg):
            stalled = parse_some(read_control(child.folder, "memory.pressure"))
            if stalled is not None and stalled >= percent:
                pending.append(child)
            steps += 1
            yield
    return found[:_SHORT_LIMIT]


def _left(memcg: Memcg, host: Left) -> Left | None:
    """Return what a cgroup can still get before it reaches its limit; None if it has none."""
    limit, used = read_bytes(memcg, "memory.max"), read_bytes(memcg, "memory.current")
    if limit is None or used is None:
        return None
    lines = read_control(memcg.folder, "memory.stat").split(b"\n")
    reclaimable = sum(
        int(size)
        for key, _, size in (line.partition(b" ") for line in lines)
        if key in (b"active_file", b"inactive_file", b"slab_reclaimable")
    )
    swap_limit = read_bytes(memcg, "memory.swap.max")
    swap_total, swap = host.swap_total_kib, host.swap_kib
    if swap_limit is not None:
        swap_total = min(swap_total, swap_limit // 1024)
        swapped = (read_bytes(memcg, "memory.swap.current") or 0) // 1024
        swap = min(swap, max(swap_total - swapped, 0))
    return Left((max(limit - used, 0) + reclaimable) // 1024, limit // 1024, swap, swap_total)
