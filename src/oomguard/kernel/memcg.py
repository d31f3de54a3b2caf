"""Memory cgroups, versions 1 and 2: their limits and their processes."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable
from oomguard.core.typed import NamedTuple
from oomguard.kernel.mountinfo import find_cgroups, parse_mounts
from oomguard.kernel.procfs import Procfs
from oomguard.oom.badness import CgroupLimits

_UNLIMITED_BYTES = 1 << 62
"""Version 1 writes "no limit" as the largest multiple of a page: 9223372036854771712."""

CGROUPS_LIMIT, _PATH_LIMIT = 1000, 512
"""Cgroups that the daemon looks at, and characters of a path that it follows further. Users can make 65,000
in one folder, at paths of 4 KiB."""

_NO_FILE = (
    *(errno.ENOENT, errno.ENODEV),  # no such file, or the cgroup was just removed
    errno.EOPNOTSUPP,  # a threaded cgroup has no file of its own
    errno.EISDIR,  # without the controller it has none, and its owner can give a cgroup below it that name
    *(errno.ENAMETOOLONG, errno.EACCES),  # its owner can cause these errors
)


class Memcg(NamedTuple):
    """A memory cgroup: its path as in /proc/PID/cgroup, and its folder."""

    path: str
    folder: str
    is_v2: bool


def open_memcg(procfs: Procfs, path: str) -> Memcg:
    """Return the cgroup with this path or folder. OomguardError: there is none."""
    mount = find_cgroups(parse_mounts(procfs.own_mounts()), "memory")
    if mount is None:
        raise OomguardError(
            "no memory cgroups: neither cgroup2 nor the memory controller is mounted",
            hint="omit --cgroup for the whole host",
        )
    wanted = os.path.normpath("/" + path).replace("//", "/")
    for above in (mount.point, mount.root.rstrip("/")):  # outside containers, the root is /
        if above and f"{wanted}/".startswith(f"{above}/"):
            wanted = wanted.removeprefix(above) or "/"
            break
    memcg = Memcg(wanted, mount.point + wanted.rstrip("/"), is_v2=mount.kind == "cgroup2")
    if not os.path.isdir(memcg.folder):
        raise OomguardError(
            f"{printable(path)}: no such memory cgroup ({printable(memcg.folder)})",
            hint="write the path as in /proc/PID/cgroup, such as /system.slice/nginx.service",
        )
    return memcg


def read_limits(memcg: Memcg, *, host_swappiness: int) -> CgroupLimits:
    """Return the limits of a cgroup; the root has none."""
    memory = read_bytes(memcg, "memory.max" if memcg.is_v2 else "memory.limit_in_bytes")
    if memory is None:
        return CgroupLimits(None)
    if memcg.is_v2:
        return CgroupLimits(memory, swap=read_bytes(memcg, "memory.swap.max"), swappiness=host_swappiness)
    swappiness = read_bytes(memcg, "memory.swappiness")
    return CgroupLimits(
        memory,
        memory_and_swap=read_bytes(memcg, "memory.memsw.limit_in_bytes"),
        swappiness=host_swappiness if swappiness is None else swappiness,
    )


def read_used_bytes(memcg: Memcg) -> int | None:
    """Return how much memory the cgroup uses, page cache included; None for the root."""
    return read_bytes(memcg, "memory.current" if memcg.is_v2 else "memory.usage_in_bytes")


def ancestors(memcg: Memcg) -> Iterator[Memcg]:
    """Yield the cgroups above, the nearest first, and the root last."""
    path, folder = memcg.path, memcg.folder
    while path != "/":
        path, folder = os.path.dirname(path), os.path.dirname(folder)
        yield Memcg(path, folder, memcg.is_v2)


def group_killed_with(memcg: Memcg, path: str) -> str:
    """Return the cgroup that is killed as a whole with a process in `path`, "" if only the process is.

    It is the highest with memory.oom.group between the process and `memcg`, where memory ran out.
    """
    mount = memcg.folder.removesuffix(memcg.path) if memcg.path != "/" else memcg.folder
    highest = ""
    while memcg.is_v2 and path != "/" and (path + "/").startswith(memcg.path.rstrip("/") + "/"):
        if read_bytes(Memcg(path, mount + path, is_v2=True), "memory.oom.group"):
            highest = path
        path = os.path.dirname(path)
    return highest


def members(memcg: Memcg) -> list[int]:
    """Return the pids in a cgroup and below, in the order in which the kernel scans version 2.

    Each cgroup comes before those below it, and processes in the order in which they joined. Version 1 sorts
    by pid instead.
    """
    return list(dict.fromkeys(chain.from_iterable(members_by_cgroup(memcg))))


def members_by_cgroup(memcg: Memcg, limit: int | None = None) -> Iterator[list[int]]:
    """Yield the same cgroup by cgroup: there may be thousands, or at most `limit` below."""
    pending, left = [memcg.folder], limit
    while pending:
        folder = pending.pop()
        # 0 is a process of an unrelated PID namespace.
        yield [pid for name in read_control(folder, "cgroup.procs").split() if (pid := int(name))]
        below = _folders_below(folder, left)
        pending += reversed(below)
        left = None if left is None else left - len(below)


def children(memcg: Memcg, limit: int) -> list[Memcg]:
    """Return the cgroups directly below; none of one that root has delegated: there its owner decides."""
    with suppress(OSError):
        if os.stat(memcg.folder).st_uid == 0:
            return [
                memcg._replace(path=f"{memcg.path.rstrip('/')}/{os.path.basename(folder)}", folder=folder)
                for folder in _folders_below(memcg.folder, limit)
            ]
    return []


def count_cgroups(procfs: Procfs, root: Memcg) -> int:
    """Return how many memory cgroups there are; those of version 1 that are gone may still count."""
    if root.is_v2:
        key, lines = b"nr_descendants", read_control(root.folder, "cgroup.stat").split(b"\n")
        return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
    lines = procfs.read("cgroups").split(b"\n")  # name, hierarchy, number of cgroups, enabled
    return next((int(line.split()[2]) for line in lines if line.startswith(b"memory\t")), 0)


def _folders_below(folder: str, limit: int | None) -> list[str]:
    """Return the cgroups directly below, the oldest first, which is the order of their inodes.

    With a `limit`, at most so many, and none below a long path.
    """
    if limit is not None and len(folder) > _PATH_LIMIT:
        return []
    try:
        with os.scandir(folder) as entries:
            found = (entry for entry in entries if entry.is_dir(follow_symlinks=False))
            below = [(entry.inode(), entry.path) for entry in islice(found, limit)]
    except OSError:
        return []  # just removed, or its owner made it too deep, or closed it
    return [path for _, path in sorted(below)]


def read_bytes(memcg: Memcg, name: str) -> int | None:
    """Return a size in bytes; None if it has no limit, or no such file."""
    text = read_control(memcg.folder, name).strip()
    if not text or text == b"max" or int(text) >= _UNLIMITED_BYTES:
        return None
    return int(text)


def read_control(folder: str, name: str) -> bytes:
    """Return a file of a cgroup; b"" if it does not exist, or the cgroup was removed."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno in _NO_FILE:
            return b""
        raise
