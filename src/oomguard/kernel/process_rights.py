"""Which values a process can change, and which files are on read-only mounts."""

import os

from oomguard.core.decide import Rights
from oomguard.kernel.capability import (
    CAP_DAC_OVERRIDE,
    CAP_SYS_RESOURCE,
    has,
    parse_effective,
    parse_permitted,
)
from oomguard.kernel.proc_files import status_line
from oomguard.kernel.procfs import Procfs


def own_rights() -> Rights:
    """Return the rights of this process."""
    with open("/proc/self/status", "rb") as file:
        return parse_rights(file.read())


def observe_rights(procfs: Procfs, pid: int) -> Rights:
    """Return the rights of a process. OSError: it has ended, or is hidden."""
    return parse_rights(procfs.read(f"{pid}/status"))


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
