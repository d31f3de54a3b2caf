"""The daemon's own process: its limits, its memory, and the command for its children."""

import os
import resource
import sys
from contextlib import suppress

from oomguard.core.errors import OomguardError
from oomguard.kernel.libc import call, libc

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_LOCKABLE = 256 * 1024 * 1024
"""Bytes that must be lockable: with less, locking would make allocations fail."""

_PR_SET_THP_DISABLE = 41

_UNLIMITED = 1 << 62

INITIAL_NAMESPACES = {"pid": 0xEFFFFFFC, "user": 0xEFFFFFFD}
"""Inodes (include/linux/proc_ns.h)."""


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of oomguard, and imports no files of other users.

    -P ignores the working directory, -s ignores ~/.local, which is another user's if sudo keeps HOME. Without
    root, oomguard itself may be installed there.
    """
    only_ours = ["-P", "-s"] if os.geteuid() == 0 else ["-P"]
    return [sys.executable, *only_ours, "-m", module, *arguments]


def is_in_initial_namespace(kind: str) -> bool:
    """Return whether this process is in the `pid` or `user` namespace that the kernel boots with.

    It is, too, if the kernel has no others, and no file for this one.
    """
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino == INITIAL_NAMESPACES[kind]
    except OSError:
        return True


def lock_pages(*, privileged: bool) -> str:
    """Lock all pages in memory once they are touched (mlockall(2)); return why not, "" if done.

    Free memory is returned first, because locked memory cannot be: 0.4 MiB with 15,000 rules.

    `privileged` is whether this process has CAP_IPC_LOCK, which lifts RLIMIT_MEMLOCK.
    """
    lockable, _ = _own_limit(b"Max locked memory")
    if not privileged and lockable < _LOCKABLE:
        return f"RLIMIT_MEMLOCK is {lockable // 1024} KiB"
    with suppress(AttributeError):  # another C library has no malloc_trim
        libc.malloc_trim(0)
    try:
        call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except OSError as error:
        return error.strerror or "mlockall failed"
    return ""


def use_small_pages() -> None:
    """Take no transparent huge pages, where a heap that grows by some KiB grows by up to 2 MiB (prctl(2))."""
    with suppress(OSError):
        call("prctl", _PR_SET_THP_DISABLE, 1, 0, 0, 0)


def raise_descriptor_limit() -> None:
    """Raise the limit on open files to its maximum: each watched process takes one."""
    soft, hard = _own_limit(b"Max open files")
    # A sandbox may forbid it: fewer watches.
    with suppress(OSError, ValueError):
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return the limit on open files."""
    return _own_limit(b"Max open files")[0]


def parse_limit(limits: bytes, name: bytes) -> tuple[int, int]:
    """Return a soft and a hard limit in /proc/PID/limits (fs/proc/base.c:proc_pid_limits)."""
    start = limits.index(name) + len(name)
    soft, hard = limits[start : limits.index(b"\n", start)].split()[:2]
    return _number(soft), _number(hard)


def _own_limit(name: bytes) -> tuple[int, int]:
    # Not getrlimit(2): it calls prlimit64(2), which can also set limits, so sandboxes forbid it.
    try:
        with open("/proc/self/limits", "rb") as file:
            return parse_limit(file.read(), name)
    except FileNotFoundError as error:
        raise OomguardError("/proc is not a proc file system", hint="mount one there") from error


def _number(text: bytes) -> int:
    return _UNLIMITED if text == b"unlimited" else int(text)
