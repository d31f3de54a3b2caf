"""Reads that the process being read can delay, done by threads that nobody has to wait for.

Reading /proc/PID/cmdline takes that process's mmap_lock. Its owner can hold it over a page fault that never
ends (a FUSE file in a user namespace of his own), and then the reader sleeps until the process ends; only
SIGKILL interrupts it. A stat of its executable may ask a file system that he serves. So such reads have a
deadline, each user has a budget, and what did not answer in time is an `UnknownFactError`.
"""

import _thread
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from oomguard.core.budget import Budget
from oomguard.core.process import UnknownFactError
from oomguard.kernel.libc import libc

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

DEADLINE_SECONDS = 0.02
"""The daemon waits this long for one read: answers take some 30 µs."""

STARVED_SECONDS = 0.005
"""It does not wait any longer where the thread gets no processor: others must not wait for that, too."""

VERB_SECONDS = 0.25
"""A verb waits this long, and for a processor as long as it takes: a person should see a whole answer."""

REFILL = 0.01
"""Share of the time that any one user can take, once his budget is spent."""

LONG_BYTES = 8192
"""A longer file takes the kernel long to write, 20 ms for a `status` with 65,536 supplementary groups."""

_SECONDS_A_BYTE = 50e-9
_LONG_SECONDS = 0.2
"""Processor time that one user's long files may take at once: nine such processes in each pass."""

_LATE_SECONDS = 1.0
"""An answer that came late is kept for so long after it was asked for."""

_STUCK_LIMIT = 8
_STUCK_OTHERS = 6
"""Threads that may be stuck at once, in all and on processes that are not root's."""

_RAN_SECONDS = 0.005
"""A thread that has run for longer is slow by itself. The kernel accounts by ticks of up to 10 ms."""

UNNOTICED_SECONDS = 0.001
"""Waits up to this are nobody's fault."""

_STACK_BYTES = 256 * 1024
_M_ARENA_MAX = -8  # malloc.h


class Spender(NamedTuple):
    """Who pays for the time a read takes. For root some threads are left when users have taken theirs."""

    key: str
    is_root: bool


def patient_reads() -> "SlowReads":
    """Return what verbs read with."""
    return SlowReads(deadline_seconds=VERB_SECONDS, is_patient=True)


class SlowReads:
    """Runs reads in threads: one when all is well, another for each that is stuck.

    A thread that is stuck is used again once its read returns, and dies with this process. `is_patient`
    waits for as long as all that is missing is a processor.
    """

    def __init__(self, *, deadline_seconds: float = DEADLINE_SECONDS, is_patient: bool = False) -> None:
        with suppress(AttributeError):  # another C library has none
            libc.mallopt(_M_ARENA_MAX, 1)  # an arena a thread would be 64 MiB of locked address space
        self._deadline = deadline_seconds
        self._is_patient = is_patient
        self._budget = Budget(capacity=deadline_seconds, refill=REFILL)
        self._long = Budget(capacity=_LONG_SECONDS, refill=REFILL)
        self._idle: list[_Worker] = []
        self._stuck: dict[_Worker, tuple[Spender, _Read[Any]]] = {}
        self._late: dict[tuple[int, str], _Read[Any]] = {}

    @property
    def stuck(self) -> int:
        """How many reads were given up on and have not returned, as far as is known."""
        return len(self._stuck)

    def call(
        self, fd: int, read: "Callable[[int], _T]", spender: "Callable[[], Spender]", what: str = ""
    ) -> _T:
        """Return what `read` returns, called in a thread with a duplicate of `fd`.

        `spender` is only asked if somebody was slow lately. Raises UnknownFactError if there was no
        answer in time, or the spender has used up his time; otherwise what `read` raises. If all that was
        missing was a processor, the next call for the same file, which is called `what`, gets the answer.
        """
        if self._stuck or self._late or self._budget:
            self._reap()
            late = self._late.pop(_key(fd, what), None)
            if late is not None:
                return cast("_Read[_T]", late).answer()
            self._admit(spender())
        if not self._idle:
            self._idle.append(_Worker())
        job = _Read(fd, read, what)
        worker = self._idle.pop()
        is_done = worker.run(job, min(self._deadline, STARVED_SECONDS))
        is_starved = not is_done and worker.waits_for_a_processor()
        while not is_done and (self._is_patient or not is_starved):
            is_done = worker.wait(self._deadline)
            is_starved = not is_done and worker.waits_for_a_processor()
            if not is_starved:
                break
        if is_done:
            self._idle.append(worker)
            if job.took > UNNOTICED_SECONDS:
                waited = max(0.0, job.took - worker.lost_seconds())
                self._budget.charge(spender().key, waited, time.monotonic())
            return job.answer()
        who = spender()
        self._stuck[worker] = who, job
        if is_starved:
            job.is_wanted = True
            raise UnknownFactError("this host is too busy to read it", is_transient=True)
        self._budget.charge(who.key, self._deadline, time.monotonic())
        raise UnknownFactError(f"reading a process took more than {self._deadline * 1000:.0f} ms")

    def disregard(self, fd: int, before: float) -> None:
        """Drop answers about a process that were asked for `before` this monotonic time."""
        if not self._stuck and not self._late:
            return
        inode = os.fstat(fd).st_ino
        for key, late in list(self._late.items()):
            if late.key[0] == inode and late.begun < before:
                del self._late[key]
        for _, job in self._stuck.values():
            if job.key[0] == inode and job.begun < before:
                job.is_wanted = False

    def read_long(self, read: "Callable[[], bytes]", payer: "Callable[[], str]") -> bytes:
        """Return a file that is mostly short, read at once; who makes it long pays for it.

        Raises UnknownFactError if the payer, "" for root, has used up his time.
        """
        if self._long and not self._is_patient:
            now = time.monotonic()
            self._long.settle(now)
            key = payer()
            if key and self._long.is_spent(key, now):
                raise UnknownFactError("reading other processes of this user took too much CPU time")
        raw = read()
        if len(raw) > LONG_BYTES and (key := payer()):
            self._long.charge(key, len(raw) * _SECONDS_A_BYTE, time.monotonic())
        return raw

    def _admit(self, who: Spender) -> None:
        """Raise UnknownFactError unless another read may be tried for this spender."""
        now = time.monotonic()
        self._budget.settle(now)
        waits = "reading another process of this user took too long"
        if self._budget.is_spent(who.key, now):
            raise UnknownFactError(waits)
        is_full = len(self._stuck) >= (_STUCK_LIMIT if who.is_root else _STUCK_OTHERS)
        ahead = [worker for worker, (whose, _) in self._stuck.items() if is_full or whose == who]
        if ahead:
            is_starved = any(worker.waits_for_a_processor() for worker in ahead)
            raise UnknownFactError(waits, is_transient=is_starved)

    def _reap(self) -> None:
        """Have threads that are done work again, and keep the answers that somebody still waits for."""
        for worker in [worker for worker in self._stuck if worker.wait(0)]:
            who, job = self._stuck.pop(worker)
            self._idle.append(worker)
            if job.is_wanted:
                self._late[job.key] = job
            unpaid = job.ran - (0.0 if job.is_wanted else self._deadline)
            if unpaid > UNNOTICED_SECONDS:  # not only the host was slow
                self._budget.charge(who.key, unpaid, time.monotonic())
        since = time.monotonic() - _LATE_SECONDS
        for key in [key for key, late in self._late.items() if late.begun < since]:
            del self._late[key]


def _key(fd: int, what: str) -> tuple[int, str]:
    """Return what tells a file of one process from all others; as in ProcessHandle.inode."""
    return os.fstat(fd).st_ino, what


class _Read(Generic[_T]):
    """One read, with a descriptor of its own: that of the caller may be closed, and its number used again."""

    __slots__ = ("_answers", "_errors", "_fd", "_read", "begun", "is_wanted", "key", "ran", "took")

    def __init__(self, fd: int, read: "Callable[[int], _T]", what: str) -> None:
        self._fd = os.dup(fd)
        self._read = read
        self._answers: list[_T] = []
        self._errors: list[BaseException] = []
        self.begun = time.monotonic()
        self.key = _key(fd, what)
        self.took = self.ran = 0.0
        self.is_wanted = False

    def __call__(self) -> None:
        """Read, and raise nothing."""
        begun, ran_before = time.monotonic(), time.thread_time()
        try:
            self._answers.append(self._read(self._fd))
        except BaseException as error:  # noqa: BLE001  # raised again by who called
            self._errors.append(error)
        finally:
            self.took, self.ran = time.monotonic() - begun, time.thread_time() - ran_before
            os.close(self._fd)

    def answer(self) -> _T:
        """Return what was read, or raise what that raised."""
        if self._errors:
            raise self._errors.pop()
        return self._answers[0]


class _Worker:
    """A thread that does one read after the other."""

    def __init__(self) -> None:
        self._begin, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._begin.acquire()
        self._done.acquire()
        self._job: Callable[[], None] | None = None
        self._tid = 0
        self._ran_before: float | None = None
        """Processor time that the thread had used when it began its job; None while it has not begun."""
        self._lost_seconds = 0.0
        before = _thread.stack_size(_STACK_BYTES)
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError as error:  # the limit on tasks (TasksMax=)
            raise UnknownFactError("cannot start a thread to read it") from error
        finally:
            _thread.stack_size(before)

    def run(self, job: "Callable[[], None]", seconds: float) -> bool:
        """Do a job, which raises nothing, and tell whether it was done in time."""
        self._job, self._ran_before = job, None
        self._begin.release()
        return self.wait(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait for the job, and tell whether it is done."""
        return self._done.acquire(timeout=seconds)

    def waits_for_a_processor(self) -> bool:
        """Tell whether the thread could go on, if only it got a processor: ready, it has hardly run."""
        if self._own("stat").rpartition(b") ")[2][:1] not in (b"R", b""):
            return False
        ran = self._own("schedstat").split()
        return self._ran_before is None or not ran or int(ran[0]) / 1e9 - self._ran_before < _RAN_SECONDS

    def lost_seconds(self) -> float:
        """Return how long it has waited for a processor since this was asked last."""
        waited = self._own("schedstat").split()
        before = self._lost_seconds
        if len(waited) > 1:
            self._lost_seconds = int(waited[1]) / 1e9
        return self._lost_seconds - before

    def _own(self, name: str) -> bytes:
        if not self._tid:
            return b""  # not even begun
        with suppress(OSError), open(f"/proc/self/task/{self._tid}/{name}", "rb", buffering=0) as file:
            return file.read(512)
        return b""

    def _work(self) -> None:
        self._tid = _thread.get_native_id()
        while True:
            self._begin.acquire()
            assert self._job is not None
            self._ran_before = time.thread_time()
            self._job()
            self._job = None  # what was read is not kept alive
            self._done.release()
