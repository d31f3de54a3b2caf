"""What the daemon does to its own process so that it works when memory is short."""

import os
import resource

from oomguard.kernel.libc import call

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_LOCKABLE = 256 * 1024 * 1024
"""Bytes that must be lockable: with less, locking would make allocations fail that need not."""


def lock_pages() -> str:
    """Keep every page once touched in memory; return why not, "" when done (mlockall(2))."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and soft < _LOCKABLE and os.geteuid() != 0:
        return f"RLIMIT_MEMLOCK is {soft // 1024} KiB"
    try:
        call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except OSError as error:
        return error.strerror or "mlockall failed"
    return ""


def raise_descriptor_limit() -> None:
    """Raise the limit on open files as far as it goes: each watched process takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
