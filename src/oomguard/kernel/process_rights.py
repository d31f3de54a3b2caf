"""What a process can change and read: values, executables, and files on read-only mounts."""

import os

from oomguard.core.decide import Rights
from oomguard.kernel.capability import (
    CAP_DAC_OVERRIDE,
    CAP_SYS_PTRACE,
    CAP_SYS_RESOURCE,
    has,
    parse_effective,
    parse_permitted,
)
from oomguard.kernel.proc_files import status_line
from oomguard.kernel.procfs import ProcessHandle, Procfs


def own_rights() -> Rights:
    """Return the rights of this process."""
    return parse_rights(_own_status())


def observe_rights(procfs: Procfs, pid: int) -> Rights:
    """Return the rights of a process. OSError: it has ended, or is hidden."""
    return parse_rights(procfs.read(f"{pid}/status"))


def see_as(procfs: Procfs, pid: int) -> bool:
    """Read executables only where a process can, too; return False if it can read all, and this one cannot.

    OSError: as for `observe_rights`.
    """
    status = procfs.read(f"{pid}/status")
    if has(parse_effective(status), CAP_SYS_PTRACE):
        return has(parse_effective(_own_status()), CAP_SYS_PTRACE)
    _, uid, *_ = status_line(status, b"Uid").split()
    permitted = parse_permitted(status)

    def shows_exe(handle: ProcessHandle) -> bool:
        other = handle.read("status")
        is_own = set(status_line(other, b"Uid").split()[:3]) == {uid}
        return is_own and not parse_permitted(other) & ~permitted  # kernel/ptrace.c:__ptrace_may_access

    procfs.shows_exe = shows_exe
    return True


def parse_rights(status: bytes) -> Rights:
    """Return the rights in /proc/PID/status.

    CAP_SYS_RESOURCE counts if it is permitted: in oomguard it is effective only during writes.
    """
    _, effective_uid, *_ = status_line(status, b"Uid").split()
    return Rights(
        int(effective_uid),
        overrides_owner=has(parse_effective(status), CAP_DAC_OVERRIDE),
        lowers_any=has(parse_permitted(status), CAP_SYS_RESOURCE),
    )


def is_read_only(path: str) -> bool:
    """Return whether a file is on a read-only mount. OSError: there is no such file."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _own_status() -> bytes:
    with open("/proc/self/status", "rb") as file:
        return file.read()
