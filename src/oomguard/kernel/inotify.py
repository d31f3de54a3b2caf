"""inotify(7), as little of it as is needed.

Our own, since the packages that wrap it find libc by running `ldconfig` in a child process, and
the modules for that cost 2.7 MiB in a process of 11.
"""

import errno
import os
import struct
from typing import NamedTuple

from oomguard.kernel.libc import call

IN_MODIFY = 0x002
IN_ATTRIB = 0x004
IN_CLOSE_WRITE = 0x008
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000

_HEADER = struct.Struct("iIII")
_BUFFER = 8192
"""Bytes read at once: 512 events of files, which whoever owns these can raise as fast as we read."""

OUT_OF_ROOM = {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that say that a queue or a watch cannot be had now: what it would tell has to be looked for."""


def shortage(error: OSError) -> str:
    """Return which limit on queues and watches an error of OUT_OF_ROOM tells of."""
    match error.errno:
        case errno.ENOSPC:
            return "no inotify watches are left (fs.inotify.max_user_watches)"
        case errno.EMFILE:
            return "no inotify instances are left (fs.inotify.max_user_instances)"
        case _:
            return os.strerror(error.errno or errno.EIO)


class Event(NamedTuple):
    """What happened to a watch; `name` is the entry of a watched folder, "" for a file."""

    wd: int
    mask: int
    name: str


class Inotify:
    """A queue of events. Reading never blocks; IN_Q_OVERFLOW says that some were lost."""

    def __init__(self) -> None:
        """Make a queue. EMFILE: the user has fs.inotify.max_user_instances of them."""
        self._fd = call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def add(self, path: str, mask: int) -> int:
        """Watch a path and return its watch descriptor. ENOSPC: no watches left."""
        return call("inotify_add_watch", self._fd, os.fsencode(path), mask)

    def add_descriptor(self, fd: int, mask: int) -> int:
        """Watch what an open descriptor, O_PATH ones too, refers to.

        On proc the descriptor must stay open: the watch hangs on the dentry, which the kernel
        may drop at any time otherwise.
        """
        return self.add(f"/proc/self/fd/{fd}", mask)

    def remove(self, wd: int) -> None:
        """Stop a watch. EINVAL: there is none, the file went away."""
        call("inotify_rm_watch", self._fd, wd)

    def read(self) -> list[Event]:
        """Return events that wait, 512 at most; the descriptor stays readable while there are more."""
        try:
            raw = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return []
        return parse_events(raw)

    def close(self) -> None:
        """Drop the queue and every watch."""
        os.close(self._fd)


def parse_events(raw: bytes) -> list[Event]:
    """Parse what read(2) on an inotify descriptor returns: headers, each with a padded name."""
    events = []
    offset = 0
    while offset < len(raw):
        wd, mask, _cookie, length = _HEADER.unpack_from(raw, offset)
        offset += _HEADER.size
        name = raw[offset : offset + length].rstrip(b"\0")
        offset += length
        events.append(Event(wd, mask, os.fsdecode(name)))
    return events
