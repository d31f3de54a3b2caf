"""What the daemon does to its own process so that it works when memory is short."""

import resource
from contextlib import suppress

from oomguard.kernel.libc import call

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_LOCKABLE = 256 * 1024 * 1024
"""Bytes that must be lockable: with less, locking would make allocations fail that need not."""


def lock_pages(*, privileged: bool) -> str:
    """Keep every page once touched in memory; return why not, "" when done (mlockall(2)).

    `privileged` is whether this process has CAP_IPC_LOCK, which lifts RLIMIT_MEMLOCK.
    """
    if not privileged:
        lockable = _limits(resource.RLIMIT_MEMLOCK)[0]
        if lockable != resource.RLIM_INFINITY and lockable < _LOCKABLE:
            return f"RLIMIT_MEMLOCK is {lockable // 1024} KiB"
    try:
        call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except OSError as error:
        return error.strerror or "mlockall failed"
    return ""


def raise_descriptor_limit() -> None:
    """Raise the limit on open files as far as it goes: each watched process takes one."""
    soft, hard = _limits(resource.RLIMIT_NOFILE)
    # A sandbox may forbid it; then there are fewer watches.
    with suppress(OSError, ValueError):
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return the lowest number that no descriptor can have; 1,024 where it may not be asked."""
    return _limits(resource.RLIMIT_NOFILE)[0] or 1024


def _limits(which: int) -> tuple[int, int]:
    try:
        return resource.getrlimit(which)
    except OSError:  # the sandbox of a unit may forbid prlimit64, which reads and writes
        return 0, 0
