"""What the daemon does to its own process, and which processes it starts."""

import os
import resource
import sys
from contextlib import suppress

from oomguard.kernel.libc import call

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_LOCKABLE = 256 * 1024 * 1024
"""Bytes that must be lockable: with less, locking would make allocations fail that need not."""

_UNLIMITED = 1 << 62


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules, and imports nothing that others wrote.

    -P leaves out the working directory, -s leaves out ~/.local, which is another user's if sudo keeps HOME.
    Users may have installed oomguard there, for themselves.
    """
    only_ours = ["-P", "-s"] if os.geteuid() == 0 else ["-P"]
    return [sys.executable, *only_ours, "-m", module, *arguments]


def lock_pages(*, privileged: bool) -> str:
    """Keep every page once touched in memory; return why not, "" when done (mlockall(2)).

    `privileged` is whether this process has CAP_IPC_LOCK, which lifts RLIMIT_MEMLOCK.
    """
    lockable, _ = _own_limit(b"Max locked memory")
    if not privileged and lockable < _LOCKABLE:
        return f"RLIMIT_MEMLOCK is {lockable // 1024} KiB"
    try:
        call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except OSError as error:
        return error.strerror or "mlockall failed"
    return ""


def raise_descriptor_limit() -> None:
    """Raise the limit on open files as far as it goes: each watched process takes one."""
    soft, hard = _own_limit(b"Max open files")
    # A sandbox may forbid it; then there are fewer watches.
    with suppress(OSError, ValueError):
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return the lowest number that no descriptor can have."""
    return _own_limit(b"Max open files")[0]


def parse_limit(limits: bytes, name: bytes) -> tuple[int, int]:
    """Return a soft and a hard limit out of /proc/PID/limits (fs/proc/base.c:proc_pid_limits)."""
    start = limits.index(name) + len(name)
    soft, hard = limits[start : limits.index(b"\n", start)].split()[:2]
    return _number(soft), _number(hard)


def _own_limit(name: bytes) -> tuple[int, int]:
    # Not getrlimit(2): it is made of prlimit64(2), which writes too, and sandboxes forbid it.
    with open("/proc/self/limits", "rb") as file:
        return parse_limit(file.read(), name)


def _number(text: bytes) -> int:
    return _UNLIMITED if text == b"unlimited" else int(text)
