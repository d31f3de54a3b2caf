"""Memory cgroups, versions 1 and 2: their limits, and who lives in them."""

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.errors import OomguardError
from oomguard.kernel.mountinfo import parse_mounts
from oomguard.oom.badness import CgroupLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.kernel.procfs import Procfs

_UNLIMITED_BYTES = 1 << 62
"""Version 1 says "no limit" as the largest multiple of a page: 9223372036854771712."""


class Hierarchy(NamedTuple):
    """Where memory cgroups are mounted. `root` is the cgroup mounted there, "/" outside of containers."""

    mount: str
    root: str
    is_v2: bool


class Memcg(NamedTuple):
    """One memory cgroup: its path as /proc/PID/cgroup has it, and its folder."""

    path: str
    folder: str
    is_v2: bool


def parse_mountinfo(raw: bytes) -> Hierarchy | None:
    """Find the memory controller in /proc/PID/mountinfo: with version 1 mounted, that is the one."""
    unified = None
    for mount in parse_mounts(raw):
        if mount.kind == "cgroup" and "memory" in mount.options:
            return Hierarchy(mount.point, mount.root, is_v2=False)
        if mount.kind == "cgroup2" and unified is None:
            unified = Hierarchy(mount.point, mount.root, is_v2=True)
    return unified


def open_memcg(procfs: "Procfs", path: str) -> Memcg:
    """Return the cgroup that a user names, by its path or by its folder in the file system."""
    hierarchy = parse_mountinfo(procfs.own_mounts())
    if hierarchy is None:
        raise OomguardError(
            "no memory cgroups: neither cgroup2 nor the memory controller is mounted",
            hint="omit --cgroup for the whole host",
        )
    wanted = os.path.normpath("/" + path).replace("//", "/")
    if wanted == hierarchy.mount or wanted.startswith(hierarchy.mount + "/"):
        wanted = wanted.removeprefix(hierarchy.mount) or "/"
    elif hierarchy.root != "/":
        wanted = wanted.removeprefix(hierarchy.root) or "/"
    memcg = Memcg(wanted, hierarchy.mount + wanted.rstrip("/"), hierarchy.is_v2)
    if not os.path.isdir(memcg.folder):
        raise OomguardError(
            f"{path}: no such memory cgroup ({memcg.folder})",
            hint="write the path as in /proc/PID/cgroup, such as /system.slice/nginx.service",
        )
    return memcg


def read_limits(memcg: Memcg, *, host_swappiness: int) -> CgroupLimits:
    """Read the limits of a cgroup; the root has none."""
    if memcg.is_v2:
        return CgroupLimits(
            _read_bytes(memcg, "memory.max"),
            swap=_read_bytes(memcg, "memory.swap.max"),
            swappiness=host_swappiness,
        )
    swappiness = _read_bytes(memcg, "memory.swappiness")
    return CgroupLimits(
        _read_bytes(memcg, "memory.limit_in_bytes"),
        memory_and_swap=_read_bytes(memcg, "memory.memsw.limit_in_bytes"),
        swappiness=host_swappiness if swappiness is None else swappiness,
    )


def read_used_bytes(memcg: Memcg) -> int | None:
    """Read how much memory the cgroup holds, page cache included; None for the root."""
    return _read_bytes(memcg, "memory.current" if memcg.is_v2 else "memory.usage_in_bytes")


def ancestors(memcg: Memcg) -> "Iterator[Memcg]":
    """Yield the cgroups above, the nearest first, and the root last."""
    path, folder = memcg.path, memcg.folder
    while path != "/":
        path, folder = os.path.dirname(path), os.path.dirname(folder)
        yield Memcg(path, folder, memcg.is_v2)


def group_killed_with(memcg: Memcg, path: str) -> str:
    """Return the cgroup that dies as a whole with a process in `path`, "" if only the process does.

    The kernel takes the highest with memory.oom.group between the process and `memcg`, where memory ran out.
    """
    mount = memcg.folder.removesuffix(memcg.path) if memcg.path != "/" else memcg.folder
    highest = ""
    while memcg.is_v2 and path != "/" and (path + "/").startswith(memcg.path.rstrip("/") + "/"):
        if _read_bytes(Memcg(path, mount + path, is_v2=True), "memory.oom.group"):
            highest = path
        path = os.path.dirname(path)
    return highest


def members(memcg: Memcg) -> list[int]:
    """Return the pids in a cgroup and below, in the order in which the kernel scans version 2.

    That is every cgroup before those it holds, and in each by when a process came to it. Version 1
    sorts by pid instead.
    """
    found: dict[int, None] = {}
    pending = [memcg.folder]
    while pending:
        folder = pending.pop()
        for name in _read(folder, "cgroup.procs").split():
            found[int(name)] = None
        pending += reversed(_children(folder))
    found.pop(0, None)  # a process of a PID namespace beside ours
    return list(found)


def _children(folder: str) -> list[str]:
    """Return the cgroups right below, the oldest first: kernfs numbers its inodes as they are made."""
    try:
        with os.scandir(folder) as entries:
            below = [(entry.inode(), entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []  # removed meanwhile
    return [path for _, path in sorted(below)]


def _read_bytes(memcg: Memcg, name: str) -> int | None:
    text = _read(memcg.folder, name).strip()
    if not text or text == b"max" or int(text) >= _UNLIMITED_BYTES:
        return None
    return int(text)


def _read(folder: str, name: str) -> bytes:
    """Read a file of a cgroup; empty where there is none, or the cgroup is gone."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
            return b""  # a threaded cgroup counts at the one above it; ENODEV: just removed
        raise
