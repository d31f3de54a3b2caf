"""Reads capabilities, and moves them in and out of effect.

A capability that is permitted but not effective does not count (capabilities(7)). That matters for
CAP_SYS_RESOURCE: any value that its holder writes to an `oom_score_adj` also becomes the floor below which
the process cannot lower itself (fs/proc/base.c:__set_oom_adj).
"""

import ctypes
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from oomguard.core.typed import NamedTuple
from oomguard.kernel.libc import call
from oomguard.kernel.proc_files import status_line

CAP_DAC_OVERRIDE = 1
CAP_IPC_LOCK = 14
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
"""Numbers of include/uapi/linux/capability.h."""

_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, the calling thread
_SETS = struct.Struct("=6I")  # effective, permitted, inheritable; then the upper halves of the three


class Sets(NamedTuple):
    """The capability sets of a thread, as masks."""

    effective: int
    permitted: int
    inheritable: int


def parse_effective(status: bytes) -> int:
    """Return the effective set in /proc/PID/status, as a mask."""
    return int(status_line(status, b"CapEff"), 16)


def parse_permitted(status: bytes) -> int:
    """Return the permitted set in /proc/PID/status, as a mask."""
    return int(status_line(status, b"CapPrm"), 16)


def has(capabilities: int, capability: int) -> bool:
    """Return whether a set contains a capability."""
    return bool(capabilities >> capability & 1)


def own_sets() -> Sets:
    """Return the sets of the calling thread (capget(2))."""
    data = ctypes.create_string_buffer(_SETS.size)
    call("capget", _HEADER, data)
    low_and_high = _SETS.unpack(data.raw)
    return Sets(*(low | high << 32 for low, high in zip(low_and_high[:3], low_and_high[3:], strict=True)))


def drop_effective(capability: int) -> None:
    """Remove a capability from the calling thread's effective set; `effective` puts it into effect again.

    OSError (EPERM): a sandbox forbids capset(2), as systemd's SystemCallFilter=~@privileged does.
    """
    before = own_sets()
    _set_effective(before, before.effective & ~(1 << capability))


@contextmanager
def effective(capability: int) -> Iterator[bool]:
    """Put a permitted capability into effect for the block; yield whether it is.

    If it is not permitted, yield False and change nothing. OSError: as for `drop_effective`, unless
    there is nothing to change.
    """
    before = own_sets()
    if not has(before.permitted, capability):
        yield False
        return
    bit = 1 << capability
    _set_effective(before, before.effective | bit)
    try:
        yield True
    finally:
        now = own_sets()  # the block may have dropped others
        _set_effective(now, now.effective & ~bit | before.effective & bit)


def _set_effective(sets: Sets, mask: int) -> None:
    if mask == sets.effective:
        return
    changed = sets._replace(effective=mask)
    halves = [half & 0xFFFFFFFF for half in (*changed, *(wide >> 32 for wide in changed))]
    call("capset", _HEADER, _SETS.pack(*halves))
