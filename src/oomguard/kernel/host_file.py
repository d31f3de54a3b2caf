"""Which program a process runs, and whether the host has that very file at its path."""

import os
from collections.abc import Iterable

from oomguard.core.process import DELETED, Program
from oomguard.core.typed import NamedTuple
from oomguard.kernel.mountinfo import parse_mounts

_OTHERS_WRITE = 0o022
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class HostFile(NamedTuple):
    """A file on this host."""

    status: os.stat_result
    only_root_changes: bool
    """Whether only root can write or replace it: root owns it and all folders above.

    In a file system that a user brought, this only says what is in it: see `is_users_mount`."""


def read_exe(process: int, file: str) -> str | None:
    """Return the executable's path, None if it cannot be read. ProcessLookupError: the process has ended."""
    try:
        return os.readlink(file, dir_fd=process)
    except ProcessLookupError:
        raise
    except OSError:
        # No right, no file, too long for a path, or a file system that does not answer: the process's user
        # may choose which.
        return None


def find_program(
    process: int, file: str, mounts: Iterable[bytes], init_mounts: Iterable[bytes]
) -> Program | None:
    """Return what the process runs, and whether that is the host's file at this path; None as for `read_exe`.

    `mounts` are the lines of the reader's own mountinfo, `init_mounts` those of PID 1: in a service with
    NoNewPrivileges=, every mount is `nosuid`.
    """
    try:
        path, running = os.readlink(file, dir_fd=process), os.stat(file, dir_fd=process)
    except ProcessLookupError:
        raise
    except OSError:
        return None
    path = path.removesuffix(DELETED)
    hosts = find(path, mounts)
    if hosts is None or not os.path.samestat(hosts.status, running):
        return Program(path)
    is_roots = hosts.only_root_changes and not is_users_mount(path, init_mounts)
    return Program(path, is_hosts=True, only_root_changes=is_roots)


def find(path: str, mountinfo: Iterable[bytes]) -> HostFile | None:
    """Return the file at `path`, None if there is none or it must not be opened.

    Symbolic links are not followed, because the kernel's path of an executable has none. It stops before an
    automount(8) point and before FUSE, where a user's program would answer.
    """
    above = (mount for mount in parse_mounts(mountinfo) if f"{path}/".startswith(mount.point))
    kinds = {mount.point: mount.kind for mount in above}
    kind, at = kinds.get("/", ""), ""
    root, *names = path.split("/")
    if root or not names or not {"", ".", ".."}.isdisjoint(names):
        return None
    try:
        fd = os.open("/", _PATH)
        try:
            found = os.fstat(fd)
            is_roots = only_root_writes(found)
            for name in names:
                at = f"{at}/{name}"
                if at not in kinds and kind == "autofs":
                    return None
                kind = kinds.get(at, kind)
                if kind.startswith("fuse"):
                    return None
                below = os.open(name, _PATH, dir_fd=fd)
                os.close(fd)
                fd = below
                found = os.fstat(fd)
                is_roots = is_roots and only_root_writes(found)
        finally:
            os.close(fd)
    except (OSError, ValueError):  # ValueError: a NUL, or another character that no path can have
        return None
    return HostFile(found, is_roots)


def is_users_mount(path: str, mountinfo: Iterable[bytes]) -> bool:
    """Return whether a user may have mounted the file system of a path, with files that seem to be root's.

    What mount(8), udisks and FUSE mount for users is `nosuid`, and shown by no mount that is not.
    """
    device, length, of_root = "", 0, set()
    for mount in parse_mounts(mountinfo):
        if "nosuid" not in mount.flags:
            of_root.add(mount.device)
        if f"{path}/".startswith(f"{mount.point.rstrip('/')}/") and len(mount.point) >= length:
            device, length = mount.device, len(mount.point)
    return device != "" and device not in of_root


def only_root_writes(found: os.stat_result) -> bool:
    """Return whether only root can write to a file, or create files in a folder."""
    return found.st_uid == 0 and not found.st_mode & _OTHERS_WRITE
