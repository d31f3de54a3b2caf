"""Which program a process runs: whether the host has that very file at its path."""

import os

from oomguard.core.process import DELETED, Program
from oomguard.kernel.host_file import find


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


def find_program(process: int, file: str, mounts: bytes) -> Program | None:
    """Return what the process runs, and whether that is the host's file at this path; None as for `read_exe`.

    `mounts` is the reader's own mountinfo.
    """
    path = read_exe(process, file)
    if path is None:
        return None
    try:
        running = os.stat(file, dir_fd=process)
    except ProcessLookupError:
        raise
    except OSError:
        return None
    path = path.removesuffix(DELETED)
    hosts = find(path, mounts)
    if hosts is None or not os.path.samestat(hosts.status, running):
        return Program(path)
    return Program(path, is_hosts=True, only_root_changes=hosts.only_root_changes)
