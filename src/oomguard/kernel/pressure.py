"""Pressure stall information (PSI): how long tasks waited for memory, and a trigger for that."""

import errno
import os
from collections import deque
from collections.abc import Generator

from oomguard.core.sample import Left
from oomguard.kernel.floor import Privilege
from oomguard.kernel.memcg import (
    CGROUPS_LIMIT,
    Memcg,
    children,
    read_bytes,
    read_control,
    read_limits,
    read_used_bytes,
)
from oomguard.kernel.procfs import Procfs

_FILE = "pressure/memory"

WINDOW_SECONDS = 2
"""Windows are multiples of this: others take CAP_SYS_RESOURCE (kernel/sched/psi.c:psi_trigger_create)."""


def open_trigger(procfs: Procfs, percent: int, window_seconds: int, privilege: Privilege) -> int:
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


def observe_stalled_percent(procfs: Procfs) -> float | None:
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


def limited_cgroups(
    root: Memcg, host: Left, *, stalled_percent: float = 0.0
) -> Generator[None, None, list[tuple[Memcg, Left]]]:
    """Return the cgroups that have a limit, with what is left in each; or only those that stall so much.

    Goes down from the root, a cgroup a step: pressure (of version 2) counts in all cgroups above. What is
    below a delegated cgroup is its owner's business.
    """
    pending, found = deque([root]), []
    steps = 0
    while pending and steps < CGROUPS_LIMIT:
        memcg = pending.popleft()
        if (left := observe_left(memcg, host)) is not None:
            found.append((memcg, left))
        for child in children(memcg, CGROUPS_LIMIT - steps):
            if not stalled_percent or _stalled_percent(child) >= stalled_percent:
                pending.append(child)
            steps += 1
            yield
    return found


def _stalled_percent(memcg: Memcg) -> float:
    return parse_some(read_control(memcg.folder, "memory.pressure")) or 0.0


def observe_left(memcg: Memcg, host: Left) -> Left | None:
    """Return what a cgroup can still get before it reaches its limit; None if it has none."""
    limits = read_limits(memcg, host_swappiness=0)
    if limits.memory is None or (used := read_used_bytes(memcg)) is None:
        return None
    lines = read_control(memcg.folder, "memory.stat").split(b"\n")
    sizes = {key: int(size) for key, _, size in (line.partition(b" ") for line in lines) if size}
    if memcg.is_v2:
        reclaimable = [b"active_file", b"inactive_file", b"slab_reclaimable"]
        swap_limit, swapped = limits.swap, read_bytes(memcg, "memory.swap.current") or 0
    else:  # the figures without `total_` leave out what is below
        reclaimable = [b"total_active_file", b"total_inactive_file"]
        both, swapped = limits.memory_and_swap, sizes.get(b"total_swap", 0)
        swap_limit = None if both is None else both - limits.memory
    swap_total, swap = host.swap_total_kib, host.swap_kib
    if swap_limit is not None:
        swap_total = min(swap_total, swap_limit // 1024)
        swap = min(swap, max(swap_total - swapped // 1024, 0))
    free = max(limits.memory - used, 0) + sum(sizes.get(key, 0) for key in reclaimable)
    return Left(free // 1024, limits.memory // 1024, swap, swap_total)
