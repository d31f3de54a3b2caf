"""inotify(7), by the parts of inotify-simple that are needed."""

import errno
import os
import struct
import sys
from collections.abc import Iterable
from types import ModuleType

from oomguard.kernel.libc import libc

# inotify-simple imports `ctypes.util`, which is large, to search for libc by running `ldconfig` in a child
# process. Give it the loaded libc instead.
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
IN_MASK_ADD = int(inotify_simple.flags.MASK_ADD)

_BUFFER = 8192
"""Bytes read at once: 512 events. The owners of files can cause them as fast as they are read."""

_events = struct.Struct("iIII").iter_unpack

OUT_OF_ROOM = {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors if no queue or watch is available: then changes must be found by passes."""


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
    """A queue of events. Reading never blocks; IN_Q_OVERFLOW means that some were lost."""

    def __init__(self) -> None:
        """Create a queue. EMFILE: the user already has fs.inotify.max_user_instances."""
        super().__init__(nonblocking=True)

    def add_descriptor(self, fd: int, mask: int) -> int:
        """Watch the file of an open descriptor, which may be O_PATH; return the watch descriptor.

        On proc the descriptor must stay open: the watch belongs to the dentry, which the kernel may
        otherwise drop at any time. ENOSPC: no watches left.
        """
        return int(self.add_watch(f"/proc/self/fd/{fd}", mask))

    def read_some(self) -> Iterable[tuple[int, int, int, int]]:
        """Return up to 512 waiting events, the descriptor and the mask of each first.

        Only for watches on files: those on folders have names between their events. The queue stays readable
        while there are more.
        """
        try:
            return _events(os.read(self.fileno(), _BUFFER))
        except BlockingIOError:
            return ()
