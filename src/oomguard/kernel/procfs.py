"""Reads and writes processes through directory descriptors on /proc.

A process is opened once, and everything is read and written through that descriptor. After the process has
ended, it gives ESRCH, never another process's data, even if the pid is reused (fs/proc/base.c). Open, read
and write may raise these errors (`GONE`).

Reading is separate from parsing: the `parse_*` functions take bytes and are pure.
"""

import errno
import os
import time
from contextlib import ExitStack, suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.cgroup import (
    budget_key,
    in_system_service,
    in_user_slice,
    is_container,
    is_system_service,
    parse_cgroup,
)
from oomguard.core.errors import OomguardError
from oomguard.core.process import (
    CMDLINE_LIMIT,
    DELETED,
    INIT_PID,
    Identity,
    Process,
    Program,
    UnknownFactError,
)
from oomguard.core.trust import NOBODY
from oomguard.kernel.capability import CAP_SYS_RESOURCE, has, parse_effective
from oomguard.kernel.cgroup_folders import CgroupFolders, parse_systemd_mount
from oomguard.kernel.host_file import find
from oomguard.kernel.slow_reads import LONG_BYTES, SlowReads, Spender

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GONE = (ProcessLookupError, FileNotFoundError)
"""Errors of any call if the process has ended."""

HIDDEN = PermissionError
"""The error of reading another user's process if /proc is mounted with hidepid=."""

PF_KTHREAD = 0x00200000
"""Flag of kernel threads in field 9 of stat (include/linux/sched.h)."""

PF_FORKNOEXEC = 0x00000040
"""Flag of processes that still run their parent's program (include/linux/sched.h)."""

_CHUNK = LONG_BYTES
"""Bytes read at once of a file that is usually shorter."""

_THREADS = 64
"""How many threads are checked for a living one: only a tracer keeps ended ones, to mislead."""

_ENDED = Spender("ended", is_root=False)

_TOO_DEEP = "too-deep"
"""The component for the part of a user's cgroup path that is too long."""

_CONTAINED_LIMIT = 8192

_ANCESTORS = 64
"""How many ancestors are followed: only a tree made to mislead is deeper."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC
"""Not O_TRUNC: that counts as a modification even if the write is denied, and would wake our own watch."""


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are used."""

    state: str
    parent_pid: int
    flags: int
    num_threads: int
    start_time_ticks: int

    @property
    def is_zombie(self) -> bool:
        """Whether the whole process has ended: the state is the main thread's, and others may be alive."""
        return self.state in "ZX" and self.num_threads <= 1

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it is a kernel thread, where a written value has no effect."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def runs_its_parents_program(self) -> bool:
        """Whether it has run no other program since its fork."""
        return bool(self.flags & PF_FORKNOEXEC)


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name may contain anything, so start after the last `)`."""
    fields = raw[raw.rindex(b")") + 2 :].split()
    state, parent_pid, flags = fields[0].decode("ascii"), int(fields[1]), int(fields[6])
    return Stat(state, parent_pid, flags, int(fields[17]), int(fields[19]))


class Status(NamedTuple):
    """The fields of /proc/PID/status that are used."""

    parent_pid: int
    real_uid: int
    saved_uid: int
    namespace_depth: int
    """The number of its pids: 1 in the namespace of /proc, more in a nested one; 0 if the kernel has none."""
    lives_without_main_thread: bool
    """Whether its main thread has ended and others run."""


def parse_status(raw: bytes) -> Status:
    """Parse /proc/PID/status. The kernel escapes newlines in its `Name:` line."""
    uids = _status_line(raw, b"Uid").split()
    has_ended = _status_line(raw, b"State")[:1] in (b"Z", b"X")
    return Status(
        parent_pid=int(_status_line(raw, b"PPid")),
        real_uid=int(uids[0]),
        saved_uid=int(uids[2]),
        namespace_depth=len(_status_line(raw, b"NSpid").split()),
        lives_without_main_thread=has_ended and int(_status_line(raw, b"Threads")) > 1,
    )


def _status_line(raw: bytes, key: bytes) -> bytes:
    """Return the value of a key, b"" if the kernel lacks it."""
    at = raw.find(b"\n%b:\t" % key)
    return b"" if at < 0 else raw[at + len(key) + 3 : raw.index(b"\n", at + 1)]


def parse_arguments(raw: bytes) -> tuple[bytes, ...]:
    """Parse /proc/PID/cmdline: each argument ends with a NUL, which a rewritten title may lack."""
    return tuple(raw.rstrip(b"\0").split(b"\0")) if raw else ()


class Procfs:
    """A mounted proc file system, or a tree that looks like one.

    `slow_reads` does the reads that a process can delay.
    """

    def __init__(self, root: str = "/proc", slow_reads: SlowReads | None = None) -> None:
        self.root = root
        self.slow_reads = slow_reads or SlowReads()
        try:
            self.fd = os.open(root, _DIRECTORY)
        except OSError as error:
            raise OomguardError(
                f"{root} is not a proc file system: {os.strerror(error.errno or errno.EIO)}",
                hint="use --proc DIR with the folder where one is mounted",
            ) from error
        self.uid_map = self._own_uid_map()
        self.cgroups = CgroupFolders(parse_systemd_mount(self.own_mounts()))
        self._contained: dict[int, int] = {}
        """By pid, the inode of a process in a container."""
        self.dynamic_uids = "/run/systemd/dynamic-uid"
        """Where systemd has a file for each uid that it allocated (src/core/dynamic-user.c)."""

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
            fd = os.open(f"{pid}/comm", _READ, dir_fd=self.fd)
        except (*GONE, HIDDEN):
            return None
        try:
            return os.read(fd, 128).removesuffix(b"\n")
        except GONE:
            return None
        finally:
            os.close(fd)

    def processes(self, pids: "Iterable[int] | None" = None) -> "Iterator[ProcessHandle]":
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
        for _ in range(_ANCESTORS):
            handle = self.open(pid) if pid > INIT_PID else None
            if handle is None:
                return
            with handle:
                yield handle
                pid = handle.stat.parent_pid

    def read(self, path: str, limit: int = 65536) -> bytes:
        """Read a file by its path below the root."""
        return _read(self.fd, path, limit)

    def write(self, path: str, text: bytes) -> None:
        """Write a file by its path below the root, in one write."""
        _write(self.fd, path, text)

    def identity(self, pid: int) -> Identity | None:
        """Return the identity of the process with this pid, None if it does not exist or is hidden."""
        handle = self.open(pid)
        if handle is None:
            return None
        with handle:
            try:
                return handle.identity
            except (*GONE, HIDDEN):  # hidden: with hidepid=1, it just became another user's
                return None

    def is_alive(self, identity: Identity) -> bool:
        """Return whether exactly this process is still there."""
        return self.identity(identity.pid) == identity

    def now_ticks(self) -> int:
        """Return the time in the clock of process start times, CLOCK_BOOTTIME in ticks."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND)

    def is_in_container(self, handle: "ProcessHandle") -> bool:
        """Return whether a process in a nested PID namespace is in a container.

        The namespace's first process decides, or the one that entered it from outside. If that is a
        sandbox, its creator may be in a container. An attacker can arrange parents, but not the cgroups that
        `is_container` checks.
        """
        with ExitStack() as stack:
            inner, passed = handle, [handle]
            for _ in range(_ANCESTORS):
                try:
                    status = inner.status
                    if status.namespace_depth <= 1:
                        return False
                    if self._contained.get(inner.pid) == inner.inode:
                        self._remember_contained(passed)
                        return True
                    outer = self.open(status.parent_pid)
                    if outer is None:
                        raise ProcessLookupError
                    stack.enter_context(outer)
                    if outer.status.namespace_depth < status.namespace_depth:
                        maker = outer.cgroup if outer.pid > 1 else None
                        if is_container(inner.cgroup, is_roots=inner.cgroup_is_roots, maker=maker):
                            self._remember_contained(passed)
                            return True
                    inner = outer
                    passed.append(outer)
                except GONE:
                    # An ancestor ended, so its children have another parent. Start again.
                    inner, passed = handle, [handle]
                    handle.forget_status()
        return False

    def _remember_contained(self, handles: "list[ProcessHandle]") -> None:
        """Remember that these are in a container: no process leaves one."""
        if len(self._contained) >= _CONTAINED_LIMIT:
            self._contained.clear()
        with suppress(*GONE):
            self._contained.update({one.pid: one.inode for one in handles})

    def own_mounts(self) -> bytes:
        """Return the mountinfo of our own mount namespace, b"" if the tree has none."""
        try:
            return _read_records(self.fd, "self/mountinfo")
        except FileNotFoundError:
            return b""

    def init_mounts(self) -> bytes | None:
        """Return the mountinfo of PID 1, None if it is hidden."""
        try:
            return _read_records(self.fd, f"{INIT_PID}/mountinfo")
        except (*GONE, HIDDEN):
            return None

    def boot_id(self) -> str:
        """Return the id of this boot, "" if the tree has none."""
        try:
            return self.read("sys/kernel/random/boot_id").decode("ascii").strip()
        except FileNotFoundError:
            return ""

    def _own_uid_map(self) -> bytes:
        try:
            return _read(self.fd, "self/uid_map", 4096)
        except OSError:
            return b""  # a tree made for tests, or a kernel without user namespaces


class ProcessHandle:
    """An open process. Facts are read on first access, and kept.

    Close it, or use it in a `with` block. Every property may raise one of `GONE`. Those that the process can
    delay may also raise UnknownFactError: `arguments`, `program`, and all that come from `status`.
    """

    __slots__ = (
        *("_arguments", "_cgroup", "_comm", "_procfs", "_raw_status", "_stat", "_status", "_thread"),
        *("fd", "pid"),
    )

    def __init__(self, pid: int, fd: int, procfs: Procfs) -> None:
        self.pid = pid
        self.fd = fd
        self._procfs = procfs
        self._comm: bytes | None = None
        self._stat: Stat | None = None
        self._raw_status: bytes | None = None
        self._status: Status | None = None
        self._cgroup: str | None = None
        self._arguments: tuple[bytes, ...] | None = None
        self._thread: str | None = None

    def __enter__(self) -> "ProcessHandle":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    @property
    def comm(self) -> bytes:
        """The name, without the newline that the kernel adds."""
        if self._comm is None:
            self._comm = self.read_comm()
        return self._comm

    def read_comm(self) -> bytes:
        """Return the current name."""
        return _read(self.fd, "comm", 128).removesuffix(b"\n")

    @property
    def stat(self) -> Stat:
        """The parsed stat file."""
        if self._stat is None:
            self._stat = parse_stat(_read(self.fd, "stat", 4096))
        return self._stat

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
        return Identity(self.pid, self.stat.start_time_ticks)

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """The command line, its first 4,096 bytes."""
        if self._arguments is None:
            file = f"{self._living}cmdline"
            raw = self._procfs.slow_reads.call(
                self.fd, lambda process: _read(process, file, CMDLINE_LIMIT), self.spender, "cmdline"
            )
            self._arguments = parse_arguments(raw)
        return self._arguments

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
        except GONE:
            return _ENDED

    @property
    def status(self) -> Status:
        """The parsed status file."""
        if self._status is None:
            self._status = parse_status(self.raw_status)
        return self._status

    @property
    def raw_status(self) -> bytes:
        """The status file: up to 600 KiB, which takes the kernel 20 ms."""
        if self._raw_status is None:
            self._raw_status = self.read_status()
        return self._raw_status

    def read_status(self, folder: str = "") -> bytes:
        """Read the status file, or that of a thread, whose `folder` is `task/TID/`."""
        file = f"{folder}status"
        return self._procfs.slow_reads.read_long(lambda: _read_whole(self.fd, file), self._payer)

    def _payer(self) -> str:
        """Return the account for a long `status`, found without it; "" for root, which is not charged.

        Only where no container lives: whether this is one's root would take `status`.
        """
        cgroup = parse_cgroup(_read_whole(self.fd, "cgroup"))
        owner = os.fstat(self.fd).st_uid
        if owner != 0 or self.in_user_namespace:  # in one, root owns what is not dumpable
            return budget_key(cgroup, owner or NOBODY)
        is_hosts = cgroup in ("/", "/init.scope") or in_system_service(cgroup) or in_user_slice(cgroup)
        return "" if is_hosts else budget_key(cgroup, owner)

    def forget_status(self) -> None:
        """Read the status again on the next access, because its parent may have ended."""
        self._raw_status = self._status = None

    @property
    def _living(self) -> str:
        """The folder for facts that an ended main thread lacks: its own, or that of a living thread.

        An ended main thread has no command line, no executable, and on cgroup v1 no cgroup. A process could
        escape rules on those by ending it.
        """
        if not self.status.lives_without_main_thread:
            return ""
        if self._thread is None:
            self._thread = self._find_thread()
        return self._thread

    def _find_thread(self) -> str:
        for tid in self.threads(_THREADS):
            with suppress(*GONE):
                if parse_stat(_read(self.fd, f"task/{tid}/stat", 4096)).state not in "ZX":
                    return f"task/{tid}/"
        raise UnknownFactError("too many of its threads have ended to find a running one")

    @property
    def uid(self) -> int:
        """The real uid."""
        return self.status.real_uid

    @property
    def saved_uid(self) -> int:
        """The saved uid."""
        return self.status.saved_uid

    @property
    def in_container(self) -> bool:
        """Whether it is in a container, and not only in a PID namespace, which any user can create."""
        try:
            is_nested = self.in_pid_namespace
        except UnknownFactError:
            if in_user_slice(self.cgroup):
                return False
            raise
        if not is_nested or in_user_slice(self.cgroup) or is_system_service(self.cgroup):
            return False  # no runtime puts a container there
        return self._procfs.is_in_container(self)

    @property
    def in_pid_namespace(self) -> bool:
        """Whether it is in a nested PID namespace."""
        return self.status.namespace_depth > 1

    @property
    def in_user_namespace(self) -> bool:
        """Whether its uids are mapped differently from the reader's."""
        host = self._procfs.uid_map
        try:
            return _read(self.fd, "uid_map", 4096) != host
        except FileNotFoundError:
            if host:
                raise
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:  # it ended during the open
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
            raise

    @property
    def cgroup(self) -> str:
        """The cgroup path that systemd manages.

        A user can make it longer than the kernel prints. Then it counts as one below the service manager of
        the process's user, if there is one.
        """
        if self._cgroup is None:
            folder = ""  # on cgroup v2, an ended main thread keeps its cgroup
            with suppress(UnknownFactError):
                folder = self._living
            try:
                self._cgroup = parse_cgroup(_read_whole(self.fd, f"{folder}cgroup"))
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                manager = self._procfs.cgroups.of_users_manager(self.uid)
                self._cgroup = f"{manager or '/user.slice/unknown'}/{_TOO_DEEP}"
        return self._cgroup

    @property
    def budget_key(self) -> str:
        """The account for its cost: its user's slice, its system unit, "root" or "untrusted"."""
        try:
            return budget_key(self.cgroup, self.uid)
        except UnknownFactError:
            return self._payer()

    @property
    def cgroup_is_roots(self) -> bool | None:
        """Whether only root can have created its cgroup, None if that is not visible."""
        return self._procfs.cgroups.are_roots(self.cgroup)

    @property
    def has_dynamic_uid(self) -> bool:
        """Whether systemd allocated its real uid for a running service."""
        return os.path.lexists(f"{self._procfs.dynamic_uids}/{self.uid}")

    @property
    def exe(self) -> str | None:
        """The executable's path; None for other users' processes without CAP_SYS_PTRACE."""
        return _read_exe(self.fd, f"{self._living}exe")

    @property
    def program(self) -> Program | None:
        """The executable that the kernel has open, whatever is at its path now; None as for `exe`."""
        if self.exe is None:
            return None
        file = f"{self._living}exe"
        # A user may mount 1,000 file systems (fusermount3) at paths so long that reading them takes 0.2 s.
        mounts = self._procfs.own_mounts
        return self._procfs.slow_reads.call(
            self.fd, lambda process: _find_program(process, file, mounts()), self.spender, "exe"
        )

    def read(self, path: str) -> bytes:
        """Return a whole file by its path below the process's folder, uncached."""
        return _read_whole(self.fd, path)

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

        False if its user made it too slow to read.
        """
        try:
            raw = self.raw_status
        except UnknownFactError:
            return False
        return has(parse_effective(raw), CAP_SYS_RESOURCE) and not self.in_user_namespace

    def read_oom_score_adj(self) -> int:
        """Return the current value."""
        return int(_read(self.fd, "oom_score_adj", 16))

    def value_owner(self) -> int:
        """Return the uid that can write the value: the effective one, or root's if it is not dumpable."""
        return os.stat("oom_score_adj", dir_fd=self.fd).st_uid

    def write_oom_score_adj(self, value: int) -> None:
        """Write a value. EACCES: below the process's floor, or another user's; EINVAL: out of range."""
        _write(self.fd, "oom_score_adj", b"%d\n" % value)

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


def _read_exe(process: int, file: str) -> str | None:
    try:
        return os.readlink(file, dir_fd=process)
    except ProcessLookupError:
        raise
    except OSError:
        # No right, no file, too long for a path, or a file system that does not answer: the process's user
        # may choose which.
        return None


def _find_program(process: int, file: str, mounts: bytes) -> Program | None:
    path = _read_exe(process, file)
    if path is None:
        return None
    try:
        running = os.stat(file, dir_fd=process)
    except ProcessLookupError:
        raise
    except OSError:
        return None
    path = path.removesuffix(DELETED)
    hosts = find(path, mounts)
    if hosts is None or not os.path.samestat(hosts.status, running):
        return Program(path)
    return Program(path, is_hosts=True, only_root_changes=hosts.only_root_changes)


def _read(directory: int, path: str, limit: int) -> bytes:
    fd = os.open(path, _READ, dir_fd=directory)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def _read_records(directory: int, path: str) -> bytes:
    """Read a file that the kernel returns in whole lines, some 4 KiB for each read (fs/seq_file.c)."""
    fd = os.open(path, _READ, dir_fd=directory)
    try:
        raw = bytearray()
        while chunk := os.read(fd, _CHUNK):
            raw += chunk
    finally:
        os.close(fd)
    return bytes(raw)


def _read_whole(directory: int, path: str) -> bytes:
    """Read a file of one record, which may be long.

    With 65,536 supplementary groups, later fields of a status are 400 KiB from its start.
    """
    fd = os.open(path, _READ, dir_fd=directory)
    try:
        chunk = raw = os.read(fd, _CHUNK)
        while len(chunk) == _CHUNK:
            chunk = os.read(fd, _CHUNK)
            raw += chunk
    finally:
        os.close(fd)
    return raw


def _write(directory: int, path: str, text: bytes) -> None:
    fd = os.open(path, _WRITE, dir_fd=directory)
    try:
        if os.fstat(fd).st_size:  # not the kernel's: its files have no size
            os.ftruncate(fd, 0)
        written = os.write(fd, text)
    finally:
        os.close(fd)
    if written != len(text):  # the kernel uses the start of a text that is too long
        raise OSError(22, f"only {written} of {len(text)} bytes were written")
