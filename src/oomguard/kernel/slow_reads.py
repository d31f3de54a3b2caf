"""Reads that the process being read can delay, in threads with a deadline.

Reading /proc/PID/cmdline takes that process's mmap_lock. Its owner can hold the lock during a page fault that
never ends (a FUSE file in a user namespace); then the reader sleeps until the process ends, and only SIGKILL
interrupts it. A stat of the executable may reach a file system that the owner serves. While the kernel prints
stat and status, it pins the process's memory (get_task_mm); if the process ends meanwhile, the reader frees
that, and waits for the owner's FUSE server to write back a page: not even SIGKILL interrupts it. So such
reads have a deadline, each user has a budget, and a read without an answer in time raises `UnknownFactError`.
"""

import _thread
import os
import time
from collections.abc import Callable
from contextlib import suppress

from oomguard.core.budget import Budget
from oomguard.core.process import UnknownFactError
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.kernel.libc import libc

if TYPE_CHECKING:
    from typing import Any, TypeVar

    _T = TypeVar("_T")

DEADLINE_SECONDS = 0.02
"""How long the daemon waits for one read; most take 30 µs."""

STARVED_SECONDS = 0.005
"""How long the daemon waits for a thread that gets no processor: other processes wait meanwhile."""

VERB_SECONDS = 0.25
"""How long a verb waits, plus any wait for a processor: a person should see a complete answer."""

REFILL = 0.01
"""The share of time that one user can take once the budget is spent."""

LONG_BYTES = 8192
"""Longer files take the kernel long, such as 20 ms for a `status` with 65,536 supplementary groups."""

_SECONDS_A_BYTE = 50e-9
_LONG_SECONDS = 0.2
_LONG_VERB_SECONDS = 1.0
"""Processor time that one user's long files can take at once: nine such processes in each pass, 45 in a
verb."""

_PINNING_DEADLINES = 5
"""How many deadlines a file that pins a process's memory has."""

_LATE_SECONDS = 1.0
"""How long a late answer is kept after its request."""

_STUCK_LIMIT = 8
_STUCK_OTHERS = 6
"""Threads that can be stuck at once: in all, and on processes that are not root's."""

_RAN_SECONDS = 0.005
"""A thread that has run for longer is slow by itself. The kernel counts in ticks of up to 10 ms."""

UNNOTICED_SECONDS = 0.001
"""Shorter waits are not charged."""

_STACK_BYTES = 256 * 1024
_M_ARENA_MAX = -8  # malloc.h


class Spender(NamedTuple):
    """The account that is charged for a read. Some threads are reserved for root."""

    key: str
    is_root: bool


def patient_reads() -> "SlowReads":
    """Return an instance for verbs."""
    return SlowReads(deadline_seconds=VERB_SECONDS, is_patient=True)


class SlowReads:
    """Runs reads in threads: normally in one, and another for each that is stuck.

    A stuck thread is used again once its read returns. With `is_patient`, time that a thread waits for a
    processor does not count.
    """

    def __init__(
        self,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        is_patient: bool = False,
        is_pinning: bool = False,
    ) -> None:
        with suppress(AttributeError):  # another C library has no mallopt
            libc.mallopt(_M_ARENA_MAX, 1)  # or an arena for each thread locks 64 MiB of address space
        self._deadline = deadline_seconds
        self._is_patient = is_patient
        self._is_pinning = is_pinning
        self._starved_after = deadline_seconds if is_pinning else STARVED_SECONDS
        self._budget = Budget(capacity=deadline_seconds, refill=REFILL)
        self._long = Budget(capacity=_LONG_VERB_SECONDS if is_patient else _LONG_SECONDS, refill=REFILL)
        self._idle: list[_Worker] = []
        self._stuck: dict[_Worker, tuple[Spender, _Read]] = {}
        self._late: dict[tuple[int, str], _Read] = {}

    def for_pinning(self) -> "SlowReads":
        """Return an instance with its own threads and accounts, for files that pin a process's memory.

        Everything about a process takes these, so what else its user delays must not keep them from being
        read. A long one takes long (`read_long` charges it), and a late one may be of another program.
        """
        deadline = _PINNING_DEADLINES * self._deadline
        return SlowReads(deadline_seconds=deadline, is_patient=self._is_patient, is_pinning=True)

    @property
    def stuck(self) -> int:
        """How many reads that missed their deadline have not returned yet."""
        return len(self._stuck)

    def call(
        self, fd: int, read: "Callable[[int], _T]", spender: Callable[[], Spender], what: str = ""
    ) -> "_T":
        """Return what `read` returns, called in a thread with a duplicate of `fd`.

        `spender` is only called if a read was slow lately. Raises what `read` raises, and UnknownFactError
        if there is no answer in time, or the budget is spent. If the thread only lacked a processor, the
        next call for the same file (`what` names it) gets the answer.
        """
        who: Spender | None = None
        if self._stuck or self._late or self._budget:
            self._reap()
            late = self._late.pop(_key(fd, what), None)
            if late is not None:
                found: _T = late.answer()
                return found
            who = spender()  # while it lives: afterwards nobody knows whose it was
            self._admit(who)
        if not self._idle:
            self._idle.append(_Worker())
        job = _Read(fd, read, what)
        worker = self._idle.pop()
        is_done = worker.run(job, min(self._deadline, self._starved_after))
        is_starved = not is_done and worker.waits_for_a_processor()
        while not is_done and (self._is_patient if is_starved else not self._is_pinning):
            is_done = worker.wait(self._deadline)
            is_starved = not is_done and worker.waits_for_a_processor()
            if not is_starved:
                break
        if is_done:
            self._idle.append(worker)
            if job.took > UNNOTICED_SECONDS:
                # `read_long` charges the time that a long file takes the kernel.
                waited = job.took - worker.lost_seconds() - (job.ran if self._is_pinning else 0.0)
                if waited > UNNOTICED_SECONDS:
                    self._budget.charge((who or spender()).key, waited, time.monotonic())
            answer: _T = job.answer()
            return answer
        who = who or spender()
        self._stuck[worker] = who, job
        if is_starved:
            job.is_wanted = not self._is_pinning
            raise UnknownFactError("this host is too busy to read it", is_transient=True)
        self._budget.charge(who.key, self._deadline, time.monotonic())
        raise UnknownFactError(f"reading a process took more than {self._deadline * 1000:.0f} ms")

    def disregard(self, fd: int, before: float) -> None:
        """Drop answers about a process that were requested `before` this monotonic time."""
        if not self._stuck and not self._late:
            return
        inode = os.fstat(fd).st_ino
        for key, late in list(self._late.items()):
            if late.key[0] == inode and late.begun < before:
                del self._late[key]
        for _, job in self._stuck.values():
            if job.key[0] == inode and job.begun < before:
                job.is_wanted = False

    def read_long(self, read: Callable[[], bytes], payer: Callable[[], str]) -> bytes:
        """Return a file that is usually short, read without a thread; a long one is charged.

        Raises UnknownFactError if the payer's budget is spent; the payer is "" for root.
        """
        if self._long.has_spent:
            now = time.monotonic()
            self._long.forget_paid(now)
            key = payer()
            if key and self._long.is_spent(key, now):
                raise UnknownFactError("reading other processes of this user took too much CPU time")
        raw = read()
        if len(raw) > LONG_BYTES and (key := payer()):
            self._long.charge(key, len(raw) * _SECONDS_A_BYTE, time.monotonic())
        return raw

    def _admit(self, who: Spender) -> None:
        """Raise UnknownFactError if this spender must wait."""
        now = time.monotonic()
        self._budget.forget_paid(now)
        # An account of root's is of one process (ProcessHandle.spender).
        waits = f"reading {'it' if who.is_root else 'another process of this user'} took too long"
        if self._budget.is_spent(who.key, now):
            raise UnknownFactError(waits)
        is_full = len(self._stuck) >= (_STUCK_LIMIT if who.is_root else _STUCK_OTHERS)
        own = [worker for worker, (whose, _) in self._stuck.items() if whose == who]
        if own or is_full:
            is_starved = any(worker.waits_for_a_processor() for worker in own or self._stuck)
            why = waits if own else "reading processes of other users takes too long"
            raise UnknownFactError(why, is_transient=is_starved)

    def _reap(self) -> None:
        """Reuse threads that are done, and keep answers that are still wanted."""
        for worker in [worker for worker in self._stuck if worker.wait(0)]:
            who, job = self._stuck.pop(worker)
            self._idle.append(worker)
            if job.is_wanted:
                self._late[job.key] = job
            unpaid = job.ran - (0.0 if job.is_wanted else self._deadline)
            if unpaid > UNNOTICED_SECONDS:  # the delay was not only the host's
                self._budget.charge(who.key, unpaid, time.monotonic())
        since = time.monotonic() - _LATE_SECONDS
        for key in [key for key, late in self._late.items() if late.begun < since]:
            del self._late[key]


def _key(fd: int, what: str) -> tuple[int, str]:
    """Return a key for a file of one process (see ProcessHandle.inode)."""
    return os.fstat(fd).st_ino, what


class _Read:
    """One read, with its own descriptor, because the caller may close the original."""

    __slots__ = ("_answers", "_errors", "_fd", "_read", "begun", "is_wanted", "key", "ran", "took")

    def __init__(self, fd: int, read: "Callable[[int], Any]", what: str) -> None:
        self._fd = os.dup(fd)
        self._read = read
        self._answers: list[Any] = []
        self._errors: list[BaseException] = []
        self.begun = time.monotonic()
        self.key = _key(fd, what)
        self.took = self.ran = 0.0
        self.is_wanted = False

    def __call__(self) -> None:
        """Read; keep the result or the exception."""
        begun, ran_before = time.monotonic(), time.thread_time()
        try:
            self._answers.append(self._read(self._fd))
        except BaseException as error:  # noqa: BLE001  # `answer` raises it again
            self._errors.append(error)
        finally:
            self.took, self.ran = time.monotonic() - begun, time.thread_time() - ran_before
            os.close(self._fd)

    def answer(self) -> "Any":
        """Return the result, or raise the exception."""
        if self._errors:
            raise self._errors.pop()
        return self._answers[0]


class _Worker:
    """A thread that does one read after another."""

    def __init__(self) -> None:
        self._begin, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._begin.acquire()
        self._done.acquire()
        self._job: Callable[[], None] | None = None
        self._tid = 0
        self._ran_before: float | None = None
        """Processor time of the thread when it started its job, None if it has not started."""
        self._lost_seconds = 0.0
        before = _thread.stack_size(_STACK_BYTES)
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError as error:  # the limit on tasks (TasksMax=)
            raise UnknownFactError("cannot start a thread to read it") from error
        finally:
            _thread.stack_size(before)

    def run(self, job: Callable[[], None], seconds: float) -> bool:
        """Do a job, which must raise nothing; return whether it was done in time."""
        self._job, self._ran_before = job, None
        self._begin.release()
        return self.wait(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait for the job; return whether it is done."""
        return self._done.acquire(timeout=seconds)

    def waits_for_a_processor(self) -> bool:
        """Return whether the thread only lacks a processor: it is runnable, but has hardly run."""
        if self._own("stat").rpartition(b") ")[2][:1] not in (b"R", b""):
            return False
        ran = self._own("schedstat").split()
        return self._ran_before is None or not ran or int(ran[0]) / 1e9 - self._ran_before < _RAN_SECONDS

    def lost_seconds(self) -> float:
        """Return how long it has waited for a processor since the last call."""
        waited = self._own("schedstat").split()
        before = self._lost_seconds
        if len(waited) > 1:
            self._lost_seconds = int(waited[1]) / 1e9
        return self._lost_seconds - before

    def _own(self, name: str) -> bytes:
        if not self._tid:
            return b""  # not started yet
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
            self._job = None  # free the result
            self._done.release()
