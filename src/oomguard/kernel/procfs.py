"""Processes through directory descriptors on /proc.

A process is opened once, and everything is read and written through that descriptor: after the
process is gone it answers ESRCH, never with somebody else's data, even when the pid is used again
(fs/proc/base.c). `GONE` are the errors that say so; they may come from open, read and write alike.

Reading is apart from parsing: `parse_*` take bytes and are pure.
"""

import errno
import os
import time
from contextlib import ExitStack, suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.cgroup import budget_key, in_user_slice, is_container, is_system_service, parse_cgroup
from oomguard.core.errors import OomguardError
from oomguard.core.process import DELETED, INIT_PID, Identity, Process, Program, UnknownFactError
from oomguard.core.trust import NOBODY
from oomguard.kernel.capability import CAP_SYS_RESOURCE, has, parse_effective
from oomguard.kernel.cgroup_folders import CgroupFolders, parse_systemd_mount
from oomguard.kernel.host_file import find
from oomguard.kernel.slow_reads import LONG_BYTES, SlowReads, Spender

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GONE = (ProcessLookupError, FileNotFoundError)
"""What a process that ended raises, from any call."""

HIDDEN = PermissionError
"""What reading raises where /proc is mounted with hidepid= and the process is another user's."""

PF_KTHREAD = 0x00200000
"""Flag of kernel threads in field 9 of stat (include/linux/sched.h)."""

PF_FORKNOEXEC = 0x00000040
"""Flag of processes that have run no program since they were forked: theirs is that of their parent."""

CMDLINE_LIMIT = 4096
"""Bytes read of a command line: its owner chooses how long it is."""

_CHUNK = LONG_BYTES
"""Bytes read at once of a file that mostly is shorter."""

_THREADS = 64
"""How many threads are asked whether they live: only a tracer keeps ended ones, and only to mislead."""

_ENDED = Spender("ended", is_root=False)

_TOO_DEEP = "too-deep"
"""Stands for the cgroups below one of a user's whose path is too long."""

_CONTAINED_LIMIT = 8192

_ANCESTORS = 64
"""How far up a tree is followed: deeper than any that is not made to mislead."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC
"""Not O_TRUNC: that counts as a modification, even if the write is then denied, and wakes our own watch."""


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are of use here."""

    state: str
    parent_pid: int
    flags: int
    num_threads: int
    start_time_ticks: int

    @property
    def is_zombie(self) -> bool:
        """Whether the whole process ended. The state alone is the main thread's, and others may live on."""
        return self.state in "ZX" and self.num_threads <= 1

    @property
    def is_kernel_thread(self) -> bool:
        """Whether the kernel runs it; a value written to one is accepted and does nothing."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def runs_its_parents_program(self) -> bool:
        """Whether it has run no other program since it was forked."""
        return bool(self.flags & PF_FORKNOEXEC)


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name may hold anything, so what counts is behind the last `)`."""
    fields = raw[raw.rindex(b")") + 2 :].split()
    state, parent_pid, flags = fields[0].decode("ascii"), int(fields[1]), int(fields[6])
    return Stat(state, parent_pid, flags, int(fields[17]), int(fields[19]))


class Status(NamedTuple):
    """The fields of /proc/PID/status that are of use here."""

    parent_pid: int
    real_uid: int
    saved_uid: int
    namespace_depth: int
    """Pids it has: 1 in the namespace /proc was mounted from, more in one below; 0 on kernels without."""
    lives_without_main_thread: bool
    """Whether its main thread ended while others run."""


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
    """Return what stands behind a key; nothing on a kernel that does not have it."""
    at = raw.find(b"\n%b:\t" % key)
    return b"" if at < 0 else raw[at + len(key) + 3 : raw.index(b"\n", at + 1)]


def parse_arguments(raw: bytes) -> tuple[bytes, ...]:
    """Parse /proc/PID/cmdline: arguments end in NUL; a rewritten title may lack it."""
    return tuple(raw.rstrip(b"\0").split(b"\0")) if raw else ()


class Procfs:
    """A mounted proc file system, or a tree that looks like one.

    `slow_reads` does what a process can delay.
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
        """By pid, the inode of a process that lives in a container."""
        self.dynamic_uids = "/run/systemd/dynamic-uid"
        """Where systemd keeps a file for each uid that it made up (src/core/dynamic-user.c)."""

    def close(self) -> None:
        """Close the descriptor; nothing can be read afterwards."""
        os.close(self.fd)

    def pids(self) -> list[int]:
        """Return the pids there are now, in the kernel's order."""
        return [int(name) for name in os.listdir(self.fd) if name.isdecimal()]

    def open(self, pid: int) -> "ProcessHandle | None":
        """Open a process, or return None if there is none of that pid, or none to be seen."""
        try:
            fd = os.open(str(pid), _DIRECTORY, dir_fd=self.fd)
        except (*GONE, HIDDEN):
            return None
        return ProcessHandle(pid, fd, self)

    def processes(self, pids: "Iterable[int] | None" = None) -> "Iterator[ProcessHandle]":
        """Yield each process there is, or each of `pids`, held open; it closes on the next step."""
        for pid in self.pids() if pids is None else pids:
            handle = self.open(pid)
            if handle is not None:
                with handle:
                    yield handle

    def ancestors(self, pid: int) -> "Iterator[ProcessHandle]":
        """Yield the process of this pid, its parent, and so on up to init, each held open until the next.

        Raises one of GONE, or HIDDEN, if one ends or hides meanwhile.
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
        """Return which process has a pid now, or None if there is none, or none to be seen."""
        handle = self.open(pid)
        if handle is None:
            return None
        with handle:
            try:
                return handle.identity
            except (*GONE, HIDDEN):  # hidden: with hidepid=1, it became another user's just now
                return None

    def is_alive(self, identity: Identity) -> bool:
        """Tell whether exactly this process still is there."""
        return self.identity(identity.pid) == identity

    def now_ticks(self) -> int:
        """Return the time in the clock of process start times, CLOCK_BOOTTIME in ticks."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND)

    def is_in_container(self, handle: "ProcessHandle") -> bool:
        """Tell whether a process in a PID namespace below that of /proc lives in a container.

        The namespace's first process tells, or the one that entered it from outside. Where that is a
        sandbox, its maker may live in a container. What is decided from parents, which an attacker
        can arrange, is never more than what `is_container` asks of cgroups.
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
                    # An ancestor ended: its children have another parent by now. Begin again.
                    inner, passed = handle, [handle]
                    handle.forget_status()
        return False

    def _remember_contained(self, handles: "list[ProcessHandle]") -> None:
        """Keep that these live in a container, for as long as they live: no process leaves one."""
        if len(self._contained) >= _CONTAINED_LIMIT:
            self._contained.clear()
        with suppress(*GONE):
            self._contained.update({one.pid: one.inode for one in handles})

    def own_mounts(self) -> bytes:
        """Return the mountinfo of the mount namespace that we are in; b"" in a tree that has none."""
        try:
            return _read_records(self.fd, "self/mountinfo")
        except FileNotFoundError:
            return b""

    def init_mounts(self) -> bytes | None:
        """Return the mountinfo of the host's first process; None where we may not see it."""
        try:
            return _read_records(self.fd, f"{INIT_PID}/mountinfo")
        except (*GONE, HIDDEN):
            return None

    def boot_id(self) -> str:
        """Return what tells this boot from others; "" in a tree that has none."""
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
    """One process, held open. Facts are read when first asked for, and kept.

    Close it, or use it in a `with` block. Every property may raise one of `GONE`. What the process can delay
    may raise UnknownFactError as well: `arguments`, `program`, and all that `status` tells.
    """

    __slots__ = ("_arguments", "_cgroup", "_comm", "_procfs", "_stat", "_status", "_thread", "fd", "pid")

    def __init__(self, pid: int, fd: int, procfs: Procfs) -> None:
        self.pid = pid
        self.fd = fd
        self._procfs = procfs
        self._comm: bytes | None = None
        self._stat: Stat | None = None
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
        """The name; the kernel ends it with one newline of its own."""
        if self._comm is None:
            self._comm = self.read_comm()
        return self._comm

    def read_comm(self) -> bytes:
        """Read the name that the process has now."""
        return _read(self.fd, "comm", 128).removesuffix(b"\n")

    @property
    def stat(self) -> Stat:
        """The parsed stat file."""
        if self._stat is None:
            self._stat = parse_stat(_read(self.fd, "stat", 4096))
        return self._stat

    @property
    def inode(self) -> int:
        """The inode of the directory: as long as it is the same, so is the process.

        The kernel makes a new one when a pid is used again, and now and then for the same process
        (fs/proc/base.c:pid_revalidate), so that it differs tells nothing. Far cheaper than `stat`.
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
        """Return who pays for the time that this process can make others wait. Raises nothing.

        A process can end while it is waited for: those that did before it was known whose they are share
        one account.
        """
        try:
            with suppress(UnknownFactError):
                if self.uid == 0 and not self.in_pid_namespace and not self.in_user_namespace:
                    # Root does not attack itself: where one of its processes hangs, others are still read.
                    return Spender(f"pid {self.pid}", is_root=True)
            return Spender(self.budget_key, is_root=False)
        except GONE:
            return _ENDED

    @property
    def status(self) -> Status:
        """The parsed status file."""
        if self._status is None:
            self._status = parse_status(self._read_status())
        return self._status

    def _read_status(self) -> bytes:
        return self._procfs.slow_reads.read_long(lambda: _read_whole(self.fd, "status"), self._payer)

    def _payer(self) -> str:
        """Return who pays for a long `status`, told without it; "" for root of the host, who pays nothing."""
        owner = os.fstat(self.fd).st_uid
        if owner == 0 and not self.in_user_namespace:  # else it may be root's because it is not dumpable
            return ""
        return budget_key(parse_cgroup(_read_whole(self.fd, "cgroup")), owner or NOBODY)

    def forget_status(self) -> None:
        """Have the status read again, as the parent in it may have ended."""
        self._status = None

    @property
    def _living(self) -> str:
        """The folder of facts that a main thread loses when it ends: its own, or that of a living thread.

        Without one it has no command line, no executable, and on cgroup v1 no cgroup: a process could
        leave any rule that asks for those.
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
        """Whether it lives in a container, and not merely in a PID namespace that anybody can make."""
        try:
            is_nested = self.in_pid_namespace
        except UnknownFactError:
            if in_user_slice(self.cgroup):
                return False
            raise
        if not is_nested or in_user_slice(self.cgroup) or is_system_service(self.cgroup):
            return False  # what a runtime has put into a cgroup never gets to these
        return self._procfs.is_in_container(self)

    @property
    def in_pid_namespace(self) -> bool:
        """Whether it has a pid in a namespace below that of /proc."""
        return self.status.namespace_depth > 1

    @property
    def in_user_namespace(self) -> bool:
        """Whether its uids are mapped otherwise than those of the reader."""
        host = self._procfs.uid_map
        try:
            return _read(self.fd, "uid_map", 4096) != host
        except FileNotFoundError:
            if host:
                raise
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:  # it ended while the file was opened
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
            raise

    @property
    def cgroup(self) -> str:
        """The cgroup path that systemd manages.

        A user can make it longer than the kernel prints. It then is one below a cgroup that a user owns: that
        of the service manager of its own user, if there is one.
        """
        if self._cgroup is None:
            folder = ""  # on cgroup v2, a main thread that ended keeps its own
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
        """What its cost is charged to: its user's slice, its system unit, "root" or "untrusted"."""
        try:
            return budget_key(self.cgroup, self.uid)
        except UnknownFactError:
            return self._payer()

    @property
    def cgroup_is_roots(self) -> bool | None:
        """Whether nobody but root can have made its cgroup; None where that cannot be seen."""
        return self._procfs.cgroups.are_roots(self.cgroup)

    @property
    def has_dynamic_uid(self) -> bool:
        """Whether systemd made up its real uid for a service that runs now."""
        return os.path.lexists(f"{self._procfs.dynamic_uids}/{self.uid}")

    @property
    def exe(self) -> str | None:
        """The executable's path; None for others' processes without CAP_SYS_PTRACE."""
        return _read_exe(self.fd, f"{self._living}exe")

    @property
    def program(self) -> Program | None:
        """The executable itself, followed by the kernel and not by its path; None as `exe`."""
        if self.exe is None:
            return None
        file = f"{self._living}exe"
        # A user may mount 1,000 file systems (fusermount3) at paths so long that to read them takes 0.2 s.
        mounts = self._procfs.own_mounts
        return self._procfs.slow_reads.call(
            self.fd, lambda process: _find_program(process, file, mounts()), self.spender, "exe"
        )

    def read(self, path: str) -> bytes:
        """Return the whole of one of its files, by the path below the process's folder; nothing is cached."""
        return _read_whole(self.fd, path)

    def threads(self, limit: int | None = None) -> list[int]:
        """Return the tids of its threads, or of the first of them: to list 8,000 takes 9 ms."""
        fd = os.open("task", _DIRECTORY, dir_fd=self.fd)
        try:
            with os.scandir(fd) as found:
                return [int(entry.name) for entry in islice(found, limit)]
        finally:
            os.close(fd)

    @property
    def may_lower_itself(self) -> bool:
        """Whether it has CAP_SYS_RESOURCE on the host, and so chooses its value and its floor freely."""
        raw = self._read_status()
        return has(parse_effective(raw), CAP_SYS_RESOURCE) and not self.in_user_namespace

    def read_oom_score_adj(self) -> int:
        """Read the value the process has now."""
        return int(_read(self.fd, "oom_score_adj", 16))

    def value_owner(self) -> int:
        """Return the uid that may write the value: the effective one, or root's if it cannot be traced."""
        return os.stat("oom_score_adj", dir_fd=self.fd).st_uid

    def write_oom_score_adj(self, value: int) -> None:
        """Write a value. EACCES: below the process's floor, or another user's; EINVAL: out of range."""
        _write(self.fd, "oom_score_adj", b"%d\n" % value)

    def snapshot(self) -> Process:
        """Read everything, for showing and replaying. What cannot be had in time is left out."""
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
        # No right, none at all, longer than a path can be, or on a file system that does not answer:
        # its user may choose which.
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
    """Read a file that the kernel hands out in whole lines, some 4 KiB a read (fs/seq_file.c)."""
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

    Its 65,536 supplementary groups push what a process does not want known 400 KiB down its status.
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
        if os.fstat(fd).st_size:  # a file of a tree that only looks like /proc: the kernel's have no size
            os.ftruncate(fd, 0)
        written = os.write(fd, text)
    finally:
        os.close(fd)
    if written != len(text):  # the kernel takes what it understands of too long a text
        raise OSError(22, f"only {written} of {len(text)} bytes were written")
