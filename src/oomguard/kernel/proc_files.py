"""Reads, writes and parses single files of /proc, below an open directory.

Reading is separate from parsing: the `parse_*` functions take bytes and are pure.
"""

import errno
import os
from collections.abc import Iterator

from oomguard.core.typed import NamedTuple
from oomguard.kernel.slow_reads import LONG_BYTES

GONE = (ProcessLookupError, FileNotFoundError)
"""Errors of any call if the process has ended."""

HIDDEN = PermissionError
"""The error of reading another user's process if /proc is mounted with hidepid=."""

SHORTAGE = frozenset((errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN))
"""The kernel's errors when it is short of memory or descriptors: a reason to wait, not to exit."""

PF_KTHREAD = 0x00200000
"""Flag of kernel threads in field 9 of stat (include/linux/sched.h)."""

PF_FORKNOEXEC = 0x00000040
"""Flag of processes that still run their parent's program (include/linux/sched.h)."""

PF_EXITING = 0x00000004
"""Flag of threads that end (include/linux/sched.h)."""

_CHUNK = LONG_BYTES
"""Bytes read at once of a file that is usually shorter."""

READ = os.O_RDONLY | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CLOEXEC
READ_WRITE = os.O_RDWR | os.O_CLOEXEC
"""Not O_TRUNC: that counts as a modification even if the write is denied, and would wake our own watch."""


def read_file(directory: int, path: str, limit: int) -> bytes:
    """Read a file in one read of at most `limit` bytes."""
    fd = os.open(path, READ, dir_fd=directory)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def read_records(directory: int, path: str) -> bytes:
    """Read a file that the kernel returns in whole lines, some 4 KiB for each read (fs/seq_file.c)."""
    with open(os.open(path, READ, dir_fd=directory), "rb", buffering=0) as file:
        return file.readall()


def read_lines(directory: int, path: str) -> Iterator[bytes]:
    """Yield the lines of such a file, without having all of it in memory."""
    with open(os.open(path, READ, dir_fd=directory), "rb", buffering=_CHUNK) as file:
        yield from file


def read_whole(directory: int, path: str) -> bytes:
    """Read a file of one record, which may be long.

    With 65,536 supplementary groups, later fields of a status are 400 KiB from its start.
    """
    fd = os.open(path, READ, dir_fd=directory)
    try:
        chunk = raw = os.read(fd, _CHUNK)
        while len(chunk) == _CHUNK:
            chunk = os.read(fd, _CHUNK)
            raw += chunk
    finally:
        os.close(fd)
    return raw


def write_file(directory: int, path: str, text: bytes) -> None:
    """Write a file in one write. OSError: it did not take all of the text."""
    fd = os.open(path, WRITE, dir_fd=directory)
    try:
        if os.fstat(fd).st_size:  # not the kernel's: its files have no size
            os.ftruncate(fd, 0)
        written = os.write(fd, text)
    finally:
        os.close(fd)
    if written != len(text):  # the kernel uses the start of a text that is too long
        raise OSError(22, f"only {written} of {len(text)} bytes were written")


_LAST_FIELD = 19
"""Behind the name, of those that are used: splitting all 50 takes three times as long."""


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are used."""

    comm: bytes
    state: str
    parent_pid: int
    flags: int
    num_threads: int
    start_time_ticks: int
    memory: bytes = b""
    """The fields behind, unparsed: the size, the resident pages, and more."""

    @property
    def resident_pages(self) -> int:
        """The pages in RAM, as the kernel's lagging counters have it."""
        return int(self.memory.split(None, 2)[1])

    @property
    def is_zombie(self) -> bool:
        """Whether the whole process has ended: the state is the main thread's, and others may be alive."""
        return self.state in "ZX" and self.num_threads <= 1

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it is a kernel thread, where a written value has no effect."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def thread_ends(self) -> bool:
        """Whether the thread has ended, or is about to: its user can serve a file, and delay its close.

        By then it has no command line, no executable, and on cgroup v1 no cgroup.
        """
        return self.state in "ZX" or bool(self.flags & PF_EXITING)

    @property
    def lives_without_main_thread(self) -> bool:
        """Whether its main thread has ended or ends, and others run."""
        return self.thread_ends and self.num_threads > 1

    @property
    def runs_its_parents_program(self) -> bool:
        """Whether it has run no other program since its fork."""
        return bool(self.flags & PF_FORKNOEXEC)


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name may contain anything, so start after the last `)`."""
    end = raw.rindex(b")")
    fields = raw[end + 2 :].split(None, _LAST_FIELD + 1)
    comm, state = raw[raw.index(b"(") + 1 : end], fields[0].decode("ascii")
    parent, flags, threads, start = fields[1], fields[6], fields[17], fields[_LAST_FIELD]
    return Stat(comm, state, int(parent), int(flags), int(threads), int(start), fields[_LAST_FIELD + 1])


class Status(bytes):
    """/proc/PID/status, parsed as far as it is asked. The kernel escapes newlines in its `Name:` line."""

    __slots__ = ()

    @property
    def parent_pid(self) -> int:
        """The pid of its parent."""
        return int(status_line(self, b"PPid"))

    @property
    def uids(self) -> tuple[int, int]:
        """The real and the saved uid."""
        real, _, saved, *_ = status_line(self, b"Uid").split()
        return int(real), int(saved)

    @property
    def namespace_depth(self) -> int:
        """The number of its pids: 1 in the namespace of /proc, more in a nested one, 0 without such."""
        return len(status_line(self, b"NSpid").split())


def status_line(raw: bytes, key: bytes) -> bytes:
    """Return the value of a key, b"" if the kernel lacks it."""
    at = raw.find(b"\n" + key + b":\t")
    return b"" if at < 0 else raw[at + len(key) + 3 : raw.index(b"\n", at + 1)]


def parse_arguments(raw: bytes) -> tuple[bytes, ...]:
    """Parse /proc/PID/cmdline: each argument ends with a NUL, which a rewritten title may lack."""
    return tuple(raw.rstrip(b"\0").split(b"\0")) if raw else ()
