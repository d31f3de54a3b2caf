"""Reads and writes processes through directory descriptors on /proc.

A process is opened once, and everything is read and written through that descriptor. After the process has
ended, it gives ESRCH, never another process's data, even if the pid is reused (fs/proc/base.c). Open, read
and write may raise these errors (`GONE`).
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import chain, islice

from oomguard.core.cgroup import (
    budget_key,
    in_system_service,
    in_user_slice,
    is_without_containers,
    parse_cgroup,
)
from oomguard.core.errors import OomguardError
from oomguard.core.process import CMDLINE_LIMIT, INIT_PID, Identity, Process, Program, UnknownFactError
from oomguard.core.text import printable
from oomguard.core.trust import NOBODY
from oomguard.kernel.capability import CAP_SYS_RESOURCE, has, parse_effective
from oomguard.kernel.cgroup_folders import CgroupFolders, parse_systemd_mount
from oomguard.kernel.container import ANCESTORS, Containers
from oomguard.kernel.host_file import find_program, read_exe
from oomguard.kernel.proc_files import (
    GONE,
    HIDDEN,
    READ_WRITE,
    WRITE,
    Stat,
    Status,
    parse_arguments,
    parse_stat,
    read_file,
    read_lines,
    read_records,
    read_whole,
    write_file,
)
from oomguard.kernel.slow_reads import SlowReads, Spender

_THREADS = 64
"""Threads checked for a living one: only a tracer keeps this many ended ones, to mislead."""

_ENDED = Spender("ended", is_root=False)

_TOO_DEEP = "too-deep"
"""The component for the part of a user's cgroup path that is too long."""

_UNKNOWN = f"/user.slice/unknown/{_TOO_DEEP}"
"""A path that is too long, of a user without a service manager."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Procfs:
    """A mounted proc file system, or a tree that looks like one.

    `slow_reads` does the reads that a process can delay.
    """

    def __init__(self, root: str = "/proc", slow_reads: SlowReads | None = None) -> None:
        self.root = root
        self.slow_reads = slow_reads or SlowReads()
        self.pinning_reads = self.slow_reads.for_pinning()
        try:
            self.fd = os.open(root, _DIRECTORY)
        except OSError as error:
            raise _no_proc(root, os.strerror(error.errno or errno.EIO)) from error
        # In any other folder, all processes would seem to have ended, with their original values.
        if not os.path.lexists(f"{root}/self"):
            os.close(self.fd)
            raise _no_proc(root, "it has no self")
        self.uid_map = self._own_uid_map()
        self.cgroups = CgroupFolders(parse_systemd_mount(self.own_mounts()))
        self.containers = Containers()
        self.dynamic_uids = "/run/systemd/dynamic-uid"
        """Where systemd has a file for each uid that it allocated (src/core/dynamic-user.c)."""
        self.shows_exe: Callable[[ProcessHandle], bool] | None = None
        """Whether an executable counts as readable, if that is not up to the rights of this process."""

    def close(self) -> None:
        """Close the descriptor; nothing can be read afterwards."""
        os.close(self.fd)

    def pids(self) -> list[int]:
        """Return the pids there are now, in the kernel's order."""
        return [int(name) for name in os.listdir(self.fd) if name.isdecimal()]

    def open(self, pid: int) -> "ProcessHandle | None":
        """Open a process; return None if it does not exist or is hidden."""
        try:
            fd = os.open(str(pid), _DIRECTORY, dir_fd=self.fd)
        except (*GONE, HIDDEN):
            return None
        return ProcessHandle(pid, fd, self)

    def comm(self, pid: int) -> bytes | None:
        """Return the name of a process, without opening its folder: two calls less; None if it is gone."""
        try:
            return read_file(self.fd, f"{pid}/comm", 128).removesuffix(b"\n")
        except (*GONE, HIDDEN):
            return None

    def processes(self, pids: Iterable[int] | None = None) -> "Iterator[ProcessHandle]":
        """Yield each process, or each of `pids`, open; it closes on the next step."""
        for pid in self.pids() if pids is None else pids:
            handle = self.open(pid)
            if handle is not None:
                with handle:
                    yield handle

    def ancestors(self, pid: int) -> "Iterator[ProcessHandle]":
        """Yield the process with this pid, its parent, and so on below init, each open until the next.

        Raises one of GONE, or HIDDEN, if one ends or becomes hidden meanwhile.
        """
        for _ in range(ANCESTORS):
            handle = self.open(pid) if pid > INIT_PID else None
            if handle is None:
                return
            with handle:
                yield handle
                pid = handle.stat.parent_pid

    def read(self, path: str, limit: int = 65536) -> bytes:
        """Read a file by its path below the root."""
        return read_file(self.fd, path, limit)

    def write(self, path: str, text: bytes) -> None:
        """Write a file by its path below the root, in one write."""
        write_file(self.fd, path, text)

    def identity(self, pid: int) -> Identity | None:
        """Return the identity of the process with this pid, None if it does not exist or is hidden.

        UnknownFactError: it cannot be read in time.
        """
        handle = self.open(pid)
        if handle is None:
            return None
        with handle:
            try:
                return handle.identity
            except (*GONE, HIDDEN):  # hidden: with hidepid=1, it just became another user's
                return None

    def own_identity(self) -> Identity:
        """Return the identity of this process, read without a thread: nobody else can delay that.

        The start time is 0 if it is not in this tree.
        """
        try:
            return Identity(os.getpid(), parse_stat(self.read("self/stat")).start_time_ticks)
        except FileNotFoundError:
            return Identity(os.getpid(), 0)

    def process_of_thread(self, tid: str) -> int | None:
        """Return the pid of the process that has a thread with this id (digits), None if none has.

        For verbs: it looks into each process.
        """
        threads = ((pid, f"{pid}/task/{tid}") for pid in self.pids())
        return next((pid for pid, path in threads if os.access(path, os.F_OK, dir_fd=self.fd)), None)

    def is_alive(self, identity: Identity) -> bool:
        """Return whether exactly this process is still there, and not a zombie that nobody has reaped.

        True also if it cannot be read in time.
        """
        handle = self.open(identity.pid)
        if handle is None:
            return False
        with handle, suppress(*GONE, HIDDEN):
            try:
                return handle.identity == identity and not handle.stat.is_zombie
            except UnknownFactError:
                return True
        return False

    def now_ticks(self) -> int:
        """Return the time in the clock of process start times, CLOCK_BOOTTIME in ticks."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND)

    def own_mounts(self) -> Iterator[bytes]:
        """Yield the lines of the mountinfo of our own mount namespace; none if the tree has none."""
        with suppress(FileNotFoundError):
            yield from read_lines(self.fd, "self/mountinfo")

    def shows_init(self) -> bool:
        """Return whether PID 1 is there, as everywhere where it is not hidden."""
        return os.access(str(INIT_PID), os.F_OK, dir_fd=self.fd)

    def init_mounts(self) -> Iterator[bytes] | None:
        """Return the lines of the mountinfo of PID 1, None if it is hidden."""
        lines = read_lines(self.fd, f"{INIT_PID}/mountinfo")
        try:
            return chain((next(lines, b""),), lines)
        except (*GONE, HIDDEN):
            return None

    def flock_holder(self, info: os.stat_result) -> int | None:
        """Return the pid of the process that has this file locked, None if there is none.

        To try the lock would make others fail who want it. Btrfs and overlayfs hide the number of the device.
        """
        file = b"%02x:%02x:%d" % (os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)
        try:
            lines = read_records(self.fd, "locks").splitlines()
            rows = [line.split() for line in lines if b" FLOCK " in line]  # others have no limit for users
        except FileNotFoundError:
            return None
        return next((int(row[4]) for row in rows if row[1:2] == [b"FLOCK"] and row[5:6] == [file]), None)

    def boot_id(self) -> str:
        """Return the id of this boot, "" if the tree has none."""
        try:
            return self.read("sys/kernel/random/boot_id").decode("ascii").strip()
        except FileNotFoundError:
            return ""

    def _own_uid_map(self) -> bytes:
        try:
            return read_file(self.fd, "self/uid_map", 4096)
        except OSError:
            return b""  # a tree made for tests, or a kernel without user namespaces


def _no_proc(root: str, reason: str) -> OomguardError:
    return OomguardError(
        f"{printable(root)} is not a proc file system: {reason}",
        hint="use --proc DIR with the folder where one is mounted",
    )


def _is_hosts(cgroup: str) -> bool:
    """Return whether root in a cgroup counts as the host's, and not as a container's."""
    return cgroup in ("/", "/init.scope") or in_system_service(cgroup) or in_user_slice(cgroup)


class ProcessHandle:
    """An open process. Facts are read on first access, and kept.

    Close it, or use it in a `with` block. Every property may raise one of `GONE`. Those that the process can
    delay may also raise UnknownFactError: `arguments`, `program`, and all that come from `stat` and `status`.
    """

    def __init__(self, pid: int, fd: int, procfs: Procfs) -> None:
        self.pid = pid
        self.fd = fd
        self.procfs = procfs
        # What every check of a process needs: `cached_property` would take three times as long here.
        self._comm: bytes | None = None
        self._stat: Stat | None = None
        self._status: Status | None = None
        self._identity: Identity | None = None
        self._uids: tuple[int, int] | None = None
        self._cgroups: dict[str, str | None] = {}
        self._value_fd = -1
        self.is_to_write = False
        """Whether the first read of the value opens it for writing, too: two calls less."""

    def __enter__(self) -> "ProcessHandle":
        return self

    def __exit__(self, *_: object) -> None:
        if self._value_fd >= 0:
            os.close(self._value_fd)
        os.close(self.fd)

    @property
    def comm(self) -> bytes:
        """The name, without the newline that the kernel adds."""
        if self._comm is None:
            self._comm = read_file(self.fd, "comm", 128).removesuffix(b"\n")
        return self._comm

    @property
    def stat(self) -> Stat:
        """The parsed stat file."""
        if self._stat is None:
            self._stat = self.read_stat()
        return self._stat

    def read_stat(self, folder: str = "") -> Stat:
        """Read the stat file, or that of a thread, whose `folder` is `task/TID/`."""
        return parse_stat(self._read_pinning(f"{folder}stat"))

    def _read_pinning(self, path: str) -> bytes:
        """Read a file for which the kernel pins the process's memory meanwhile.

        In a thread, unless the process is of the host's root: see `slow_reads`.
        """
        if self.effective_uid == 0 and self._is_in_hosts_cgroup:
            return read_whole(self.fd, path)
        return self.procfs.pinning_reads.call(self.fd, lambda fd: read_whole(fd, path), self._owner, path)

    @property
    def _is_in_hosts_cgroup(self) -> bool:
        try:
            return _is_hosts(self._read_cgroup() or _UNKNOWN)
        except FileNotFoundError:  # without cgroups there are no containers; or it has ended
            return True

    def read_name_and_stat(self) -> None:
        """Read the name from the stat file, too: one file less, where both are needed."""
        self._comm = self.stat.comm

    @property
    def inode(self) -> int:
        """The inode of the directory: the same inode means the same process.

        Another inode means nothing: the kernel creates one when a pid is reused, and sometimes for the same
        process (fs/proc/base.c:pid_revalidate). Far cheaper than `stat`.
        """
        return os.fstat(self.fd).st_ino

    @property
    def identity(self) -> Identity:
        """The pid and the start time."""
        if self._identity is None:
            self._identity = Identity(self.pid, self.stat.start_time_ticks)
        return self._identity

    @cached_property
    def arguments(self) -> tuple[bytes, ...]:
        """The command line, its first 4,096 bytes."""
        file = f"{self._living}cmdline"
        return parse_arguments(
            self.procfs.slow_reads.call(
                self.fd, lambda process: read_file(process, file, CMDLINE_LIMIT), self.spender, "cmdline"
            )
        )

    def spender(self) -> Spender:
        """Return the account that is charged for slow reads of this process. Raises nothing.

        Processes that end before their user is known share one account.
        """
        try:
            with suppress(UnknownFactError):
                if self.uid == 0 and not self.in_pid_namespace and not self.in_user_namespace:
                    # Root does not attack itself: if one of its processes hangs, others are still read.
                    return Spender(f"pid {self.pid}", is_root=True)
            return Spender(self.budget_key, is_root=False)
        except OSError:
            return _ENDED

    @property
    def status(self) -> Status:
        """The status file: up to 600 KiB, which takes the kernel 20 ms."""
        if self._status is None:
            self._status = self.read_status()
        return self._status

    def read_status(self, folder: str = "") -> Status:
        """Read the status file, or that of a thread, whose `folder` is `task/TID/`."""
        file = f"{folder}status"
        return Status(self.procfs.slow_reads.read_long(lambda: self._read_pinning(file), self._payer))

    def _owner(self) -> Spender:
        """Return the account for a file that pins the process's memory. Raises nothing.

        Users cannot take the threads that are left to services.
        """
        try:
            key = self._payer()
        except OSError:
            return _ENDED
        return Spender(key, is_root=key.endswith(".service (unprivileged)"))

    def _payer(self) -> str:
        """Return the account for a long `status`, found without it; "" for root, which is not charged.

        Only where no container lives: whether this is one's root would take `status`.
        """
        cgroup = self._read_cgroup() or _UNKNOWN
        owner = self.effective_uid
        if owner != 0 or self.in_user_namespace:  # in one, root may be anybody
            return budget_key(cgroup, owner or NOBODY)
        return "" if _is_hosts(cgroup) else budget_key(cgroup, owner)

    def forget_status(self) -> None:
        """Read the status again on the next access, because its parent may have ended."""
        self._status = self._uids = None

    @cached_property
    def _living(self) -> str:
        """The folder for facts that an ended main thread lacks: its own, or that of a living thread.

        An ended main thread has no command line, no executable, and on cgroup v1 no cgroup. A process could
        escape rules on those by ending it.
        """
        if not self.stat.lives_without_main_thread:
            return ""
        for tid in self.threads(_THREADS):
            with suppress(*GONE):
                if not self.read_stat(f"task/{tid}/").thread_ends:
                    return f"task/{tid}/"
        raise UnknownFactError("too many of its threads have ended to find a running one")

    @property
    def uids(self) -> tuple[int, int]:
        """The real and the saved uid."""
        if self._uids is None:
            self._uids = self.status.uids
        return self._uids

    @property
    def uid(self) -> int:
        """The real uid."""
        return self.uids[0]

    @property
    def likely_uid(self) -> int:
        """The real uid; while its user makes `status` too slow, the effective one."""
        try:
            return self.uid
        except UnknownFactError:
            return self.effective_uid

    @property
    def effective_uid(self) -> int:
        """The effective uid, which owns the folder (fs/proc/base.c:task_dump_owner)."""
        return os.fstat(self.fd).st_uid

    @property
    def saved_uid(self) -> int:
        """The saved uid."""
        return self.uids[1]

    @property
    def in_container(self) -> bool | None:
        """Whether it is in a container, and not only in a PID namespace, which any user can create.

        None if that cannot be known, as when its runtime has ended.
        """
        try:
            is_nested = self.in_pid_namespace
        except UnknownFactError:
            if is_without_containers(self.cgroup):
                return False
            raise
        if not is_nested or is_without_containers(self.cgroup):
            return False
        return self.procfs.containers.hold(self, self.procfs.open)

    @property
    def in_pid_namespace(self) -> bool:
        """Whether it is in a nested PID namespace."""
        return self.status.namespace_depth > 1

    @property
    def in_user_namespace(self) -> bool:
        """Whether its uids are mapped differently from the reader's."""
        host = self.procfs.uid_map
        try:
            return read_file(self.fd, "uid_map", 4096) != host
        except FileNotFoundError:
            if host:
                raise
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:  # it ended during the open
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
            raise

    @cached_property
    def cgroup(self) -> str:
        """The cgroup path that systemd manages.

        A user can make it longer than the kernel prints, or hide it on cgroup v1. Then it counts as one below
        the service manager of the process's user, if there is one.
        """
        folder, is_shown = "", True
        try:
            folder = self._living
        except UnknownFactError:
            is_shown = False  # an ended main thread keeps its cgroup on v2, and is in "/" on v1
        path = self._read_cgroup(folder)
        if path is not None and (is_shown or path != "/"):
            return path
        manager = self.procfs.cgroups.of_users_manager(self.uid)
        return f"{manager}/{_TOO_DEEP}" if manager else _UNKNOWN

    def _read_cgroup(self, folder: str = "") -> str | None:
        """Return the path as the kernel prints it: if it is too long, most cut it, and some do not: None."""
        if folder not in self._cgroups:
            try:
                self._cgroups[folder] = parse_cgroup(read_whole(self.fd, f"{folder}cgroup"))
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                self._cgroups[folder] = None
        return self._cgroups[folder]

    @property
    def budget_key(self) -> str:
        """The account for its cost: its user's slice, its system unit, "root" or "untrusted users"."""
        try:
            return budget_key(self.cgroup, self.uid)
        except UnknownFactError:
            return self._payer()

    @property
    def cgroup_is_roots(self) -> bool | None:
        """Whether only root can have created its cgroup, None if that is not visible."""
        return self.procfs.cgroups.are_roots(self.cgroup)

    @property
    def is_where_root_put_it(self) -> bool | None:
        """Whether only root can have moved it into its cgroup, None if that is not visible."""
        return self.procfs.cgroups.take_only_roots(self.cgroup)

    @property
    def has_dynamic_uid(self) -> bool:
        """Whether systemd allocated its real uid for a running service."""
        return os.path.lexists(f"{self.procfs.dynamic_uids}/{self.uid}")

    @property
    def exe(self) -> str | None:
        """The executable's path; None for other users' processes without CAP_SYS_PTRACE."""
        if self.procfs.shows_exe is not None and not self.procfs.shows_exe(self):
            return None
        return read_exe(self.fd, f"{self._living}exe")

    @property
    def program(self) -> Program | None:
        """The executable that the kernel has open, whatever is at its path now; None as for `exe`."""
        if self.exe is None:
            return None
        file = f"{self._living}exe"
        # A user may mount 1,000 file systems (fusermount3) at paths so long that reading them takes 0.2 s.
        procfs = self.procfs
        return procfs.slow_reads.call(
            self.fd,
            lambda process: find_program(
                process, file, procfs.own_mounts(), procfs.init_mounts() or procfs.own_mounts()
            ),
            self.spender,
            "exe",
        )

    def read(self, path: str) -> bytes:
        """Return a whole file by its path below the process's folder, uncached."""
        return read_whole(self.fd, path)

    def threads(self, limit: int | None = None) -> list[int]:
        """Return the tids of its first threads, because listing 8,000 takes 9 ms."""
        fd = os.open("task", _DIRECTORY, dir_fd=self.fd)
        try:
            with os.scandir(fd) as found:
                return [int(entry.name) for entry in islice(found, limit)]
        finally:
            os.close(fd)

    @property
    def may_lower_itself(self) -> bool:
        """Whether it has CAP_SYS_RESOURCE on the host, and so can set any value and floor.

        False if its user made it too slow to read. UnknownFactError: this host is too busy to read it.
        """
        try:
            status = self.status
        except UnknownFactError as error:
            if error.is_transient:
                raise
            return False
        return has(parse_effective(status), CAP_SYS_RESOURCE) and not self.in_user_namespace

    def read_oom_score_adj(self) -> int:
        """Return the current value."""
        if self.is_to_write and self._value_fd < 0:
            try:
                self._value_fd = os.open("oom_score_adj", READ_WRITE, dir_fd=self.fd)
            except OSError:  # it cannot be written, or has ended: reading it shows which
                self.is_to_write = False
        if self._value_fd >= 0:
            return int(os.pread(self._value_fd, 16, 0))
        return int(read_file(self.fd, "oom_score_adj", 16))

    def value_owner(self) -> int:
        """Return the uid that can write the value: the effective one, or root's if it is not dumpable."""
        return os.stat("oom_score_adj", dir_fd=self.fd).st_uid

    def write_oom_score_adj(self, value: int) -> None:
        """Write a value. EACCES: below the process's floor, or another user's; EINVAL: out of range."""
        text = b"%-5d\n" % value  # as wide as any, to replace all of another
        if self._value_fd >= 0:
            os.pwrite(self._value_fd, text, 0)
            return
        fd = os.open("oom_score_adj", WRITE, dir_fd=self.fd)
        try:
            os.write(fd, text)
        finally:
            os.close(fd)

    def snapshot(self) -> Process:
        """Return all facts, for display and replays, without those that cannot be read in time."""
        arguments: tuple[bytes, ...] = ()
        exe = program = None
        with suppress(UnknownFactError):
            arguments = self.arguments
        with suppress(UnknownFactError):
            exe = self.exe
            program = self.program
        return Process(
            identity=self.identity,
            comm=self.comm,
            parent_pid=self.stat.parent_pid,
            arguments=arguments,
            uid=self.uid,
            has_dynamic_uid=self.has_dynamic_uid,
            cgroup=self.cgroup,
            cgroup_is_roots=self.cgroup_is_roots,
            exe=exe,
            program=program,
            saved=None if self.saved_uid == self.uid else self.saved_uid,
            in_pid_namespace=self.in_pid_namespace,
            in_container=self.in_container,
            in_user_namespace=self.in_user_namespace,
            oom_score_adj=self.read_oom_score_adj(),
        )
