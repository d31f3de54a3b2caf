"""inotify(7) by inotify-simple, as little of it as is needed."""

import errno
import os
import sys
from types import ModuleType

from oomguard.kernel.libc import libc

# inotify-simple imports `ctypes.util` to search for libc by running `ldconfig` in a child process: that takes
# modules of 1.5 MiB. It gets our libc instead, so there is nothing to search for.
_no_search = ModuleType("ctypes.util")
_no_search.find_library = lambda _name: None  # type: ignore[attr-defined]  # as the real one where it finds none
_search = sys.modules.get("ctypes.util")
sys.modules["ctypes.util"] = _no_search
try:
    import inotify_simple  # type: ignore[import-untyped]  # it ships no types
finally:
    if _search is None:
        del sys.modules["ctypes.util"]
    else:
        sys.modules["ctypes.util"] = _search
inotify_simple._libc = libc

IN_MODIFY = int(inotify_simple.flags.MODIFY)
IN_ATTRIB = int(inotify_simple.flags.ATTRIB)
IN_CLOSE_WRITE = int(inotify_simple.flags.CLOSE_WRITE)
IN_MOVED_FROM = int(inotify_simple.flags.MOVED_FROM)
IN_MOVED_TO = int(inotify_simple.flags.MOVED_TO)
IN_CREATE = int(inotify_simple.flags.CREATE)
IN_DELETE = int(inotify_simple.flags.DELETE)
IN_Q_OVERFLOW = int(inotify_simple.flags.Q_OVERFLOW)
IN_ONLYDIR = int(inotify_simple.flags.ONLYDIR)

_BUFFER = 8192
"""Bytes read at once: 512 events of files, which whoever owns these can raise as fast as we read."""

OUT_OF_ROOM = {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that say that a queue or a watch cannot be had now: what it would report has to be looked for."""


def shortage(error: OSError) -> str:
    """Return which limit on queues and watches an error of OUT_OF_ROOM is about."""
    match error.errno:
        case errno.ENOSPC:
            return "no inotify watch is left (raise fs.inotify.max_user_watches)"
        case errno.EMFILE:
            return "no inotify instance is left (raise fs.inotify.max_user_instances)"
        case _:
            return os.strerror(error.errno or errno.EIO)


class Inotify(inotify_simple.INotify):  # type: ignore[misc]  # it ships no types
    """A queue of events. Reading never blocks; IN_Q_OVERFLOW says that some were lost."""

    def __init__(self) -> None:
        """Make a queue. EMFILE: the user has fs.inotify.max_user_instances of them."""
        super().__init__(nonblocking=True)

    def add_descriptor(self, fd: int, mask: int) -> int:
        """Watch what an open descriptor, O_PATH ones too, refers to; return the watch descriptor.

        On proc the descriptor must stay open: the watch hangs on the dentry, which the kernel
        may drop at any time otherwise. ENOSPC: no watches left.
        """
        return int(self.add_watch(f"/proc/self/fd/{fd}", mask))

    def read_some(self) -> "list[inotify_simple.Event]":
        """Return events that wait, 512 at most; the descriptor stays readable while there are more."""
        try:
            return list(inotify_simple.parse_events(os.read(self.fileno(), _BUFFER)))
        except BlockingIOError:
            return []
