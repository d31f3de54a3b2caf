"""Foreign writes to managed values, reported by inotify on the /proc files themselves.

A watch belongs to the file's dentry. The kernel drops dentries when memory is short or on request
(`drop_caches`), and the watch dies silently with it. An O_PATH descriptor pins the dentry, so every watched
file is held open. Where descriptors, watches or queues run out, the regular pass finds drift, later. It also
finds writes that inotify does not see: through /proc/thread-self, /proc/TID, or another mount of procfs.
"""

import errno
import os
from collections.abc import Iterable, Mapping

from oomguard.core.process import Identity
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.typed import NamedTuple
from oomguard.kernel.inotify import IN_MODIFY, IN_Q_OVERFLOW, OUT_OF_ROOM, Inotify, shortage
from oomguard.kernel.own import descriptor_limit
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import Procfs

_SPARE_DESCRIPTORS = 64
"""Descriptors left for examining processes, reading the policy and writing the status."""

_NO_DESCRIPTORS = "no file descriptor is left (raise LimitNOFILE=)"


class _Watch(NamedTuple):
    fd: int
    wd: int
    start_time_ticks: int


class Drift(NamedTuple):
    """What may have been written: sysctls or not, and processes. `lost`: events of more were lost."""

    sysctls: bool
    pids: set[int]
    lost: bool


class DriftWatch:
    """The watches on sysctls and processes. `open` it first; `fileno` is readable when one was written."""

    def __init__(self, procfs: Procfs) -> None:
        self._procfs = procfs
        self._inotify: Inotify | None = None
        self._sysctls: dict[str, _Watch] = {}
        self._processes: dict[int, _Watch] = {}
        self._pid_of: dict[int, int] = {}
        self._yielding: dict[int, None] = {}
        self._usable_descriptors = 0
        self.full = ""
        """Why nothing more can be watched, "" while it can."""

    def open(self) -> bool:
        """Get a queue for events unless there is one; return whether there is now one to wait on."""
        if self._inotify is not None:
            return False
        try:
            self._inotify = Inotify()
        except OSError as error:
            if error.errno not in OUT_OF_ROOM:
                raise
            self.full = shortage(error)
            return False
        self.full = ""
        return True

    @property
    def processes(self) -> int:
        """How many processes are watched."""
        return len(self._processes)

    def __len__(self) -> int:
        return len(self._sysctls) + len(self._processes)

    def watches(self, pid: int) -> bool:
        """Return whether a process with this pid is watched."""
        return pid in self._processes

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        assert self._inotify is not None
        return int(self._inotify.fileno())

    def watch_sysctls(self, names: Iterable[str]) -> None:
        """Watch exactly these sysctls, and their partners: a write to a partner zeroes them."""
        watched = set(names)
        watched |= {partner for name in watched if (partner := SYSCTLS[name].partner)}
        for name in self._sysctls.keys() - watched:
            self._drop(self._sysctls.pop(name))
        for name in watched - self._sysctls.keys():
            watch = self._add(SYSCTLS[name].path, start_time_ticks=0)
            if watch is not None:
                self._sysctls[name] = watch

    def watches_sysctls(self, names: set[str]) -> bool:
        """Return whether all these sysctls are watched."""
        return names <= self._sysctls.keys()

    def watch_process(self, identity: Identity, *, yields: bool = True) -> None:
        """Watch a process's value; watch again if the pid now belongs to another process.

        If no watch is left, a process that `yields` gives its watch to one that does not: users can have any
        number of processes that a rule raises.
        """
        pid, start = identity
        self.release_recycled(identity)
        if pid in self._processes:
            return
        watch = self._add(f"{pid}/oom_score_adj", start_time_ticks=start, yields=yields)
        if watch is not None:
            self._processes[pid] = watch
            self._pid_of[watch.wd] = pid
            if yields:
                self._yielding[pid] = None

    def release(self, identity: Identity) -> None:
        """Drop the watch on a process."""
        known = self._processes.get(identity.pid)
        if known is not None and known.start_time_ticks == identity.start_time_ticks:
            self.forget(identity.pid)

    def release_recycled(self, identity: Identity) -> None:
        """Drop the watch on an earlier process with this pid: it would never report anything."""
        known = self._processes.get(identity.pid)
        if known is not None and known.start_time_ticks != identity.start_time_ticks:
            self.forget(identity.pid)

    def others(self, starts: Mapping[int, int]) -> list[int]:
        """Return the watched pids that are not in `starts` with that start time. Dropping one takes 10 µs."""
        return [pid for pid, watch in self._processes.items() if starts.get(pid) != watch.start_time_ticks]

    def forget(self, pid: int) -> None:
        """Drop the watch on the process that has or had a pid, if there is one."""
        watch = self._processes.pop(pid, None)
        if watch is not None:
            self._pid_of.pop(watch.wd, None)
            self._yielding.pop(pid, None)
            self._drop(watch)

    def forget_all(self) -> None:
        """Drop the watches on all processes at once."""
        for pid in list(self._processes):
            self.forget(pid)

    def retry(self) -> None:
        """Try again to set the watches for which there was no room."""
        if self._inotify is not None:
            self.full = ""

    def read(self) -> Drift:
        """Return what the waiting events report."""
        assert self._inotify is not None
        sysctls, lost, pids = False, False, set()
        for wd, mask, *_ in self._inotify.read_some():
            if mask & IN_Q_OVERFLOW:
                lost = True
            elif wd in self._pid_of:
                pids.add(self._pid_of[wd])
            elif mask & IN_MODIFY:  # the others say that a watch was dropped
                sysctls = True
        return Drift(sysctls, pids, lost)

    def close(self) -> None:
        """Remove every watch and close every descriptor."""
        if self._inotify is not None:
            self._inotify.close()
        for watch in (*self._sysctls.values(), *self._processes.values()):
            os.close(watch.fd)

    def _add(self, path: str, *, start_time_ticks: int, yields: bool = False) -> _Watch | None:
        watch = self._try(path, start_time_ticks)
        if watch is None and self.full and self._yielding and not yields:
            self.forget(next(iter(self._yielding)))
            self.full = ""
            watch = self._try(path, start_time_ticks)
        return watch

    def _try(self, path: str, start_time_ticks: int) -> _Watch | None:
        if self.full or self._inotify is None:
            return None
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=self._procfs.fd)
        except (*GONE, HIDDEN):  # hidden: with hidepid=1, it just became another user's
            return None
        except OSError as error:
            if error.errno not in OUT_OF_ROOM:
                raise
            self.full = _NO_DESCRIPTORS
            return None
        if self._usable_descriptors == 0:  # asked late: the daemon raises the limit as it starts
            self._usable_descriptors = descriptor_limit() - _SPARE_DESCRIPTORS
        if fd >= self._usable_descriptors:
            os.close(fd)
            self.full = _NO_DESCRIPTORS
            return None
        try:
            return _Watch(fd, self._inotify.add_descriptor(fd, IN_MODIFY), start_time_ticks)
        except OSError as error:
            os.close(fd)
            if error.errno in OUT_OF_ROOM:
                self.full = shortage(error)
            elif error.errno != errno.EACCES:  # inotify needs read permission, which may be missing
                raise
            return None

    def _drop(self, watch: _Watch) -> None:
        assert self._inotify is not None
        try:
            self._inotify.rm_watch(watch.wd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the file is gone and its watch with it
                raise
        os.close(watch.fd)
