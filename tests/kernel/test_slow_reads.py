"""Reads that somebody else can delay cost a bounded time, and bounded threads."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import pytest

from oomguard.core.process import UnknownFactError
from oomguard.kernel.libc import libc
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.slow_reads import SlowReads, Spender, _Worker, patient_reads

_T = TypeVar("_T")
ROOT = Spender("pid 1", is_root=True)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Make a descriptor that nothing can be read from until something is written to the other."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def user(number: int) -> Callable[[], Spender]:
    """Return one of many users who each have a slice of their own."""
    return lambda: Spender(f"user-{number}.slice", is_root=False)


def never(fd: int) -> bytes:
    """Read what does not come."""
    return os.read(fd, 1)


def wait_until_free(reads: SlowReads, seconds: float = 10.0) -> None:
    """Wait until the threads that were stuck are found to be free."""
    end = time.monotonic() + seconds
    while reads.stuck and time.monotonic() < end:
        with suppress(UnknownFactError):
            reads.call(0, lambda _: None, lambda: Spender("somebody", is_root=False))
    assert not reads.stuck


ME = user(1)


def answer_later(
    reads: SlowReads, read: Callable[[int], _T], who: Callable[[], Spender] = ME, what: str = ""
) -> _T:
    """Ask until this machine has had the time to answer."""
    end = time.monotonic() + 10.0
    while True:
        try:
            return reads.call(0, read, who, what)
        except UnknownFactError:  # the thread before it may need a processor, or the interpreter, to end
            if time.monotonic() > end:
                raise
            time.sleep(0.001)


def test_what_answers_is_returned_and_what_fails_is_raised(pipe: tuple[int, int]) -> None:
    """A thread makes no difference to who calls, and leaves no descriptor open."""
    reads = SlowReads(deadline_seconds=5.0, is_patient=True)
    os.write(pipe[1], b"ab")
    before = os.listdir("/proc/self/fd")
    assert [reads.call(pipe[0], never, user(1)) for _ in range(2)] == [b"a", b"b"]
    with pytest.raises(ProcessLookupError):
        reads.call(pipe[0], lambda _: os.kill(2**22 + 1, 0), user(1))
    assert os.listdir("/proc/self/fd") == before


def test_a_read_that_never_returns_is_given_up_on_and_its_thread_is_used_again(pipe: tuple[int, int]) -> None:
    """What it returned in the end goes to nobody."""
    reads = SlowReads(deadline_seconds=0.02)
    answer_later(reads, lambda _: None)  # so that the thread is there, however busy this machine is
    begun = time.monotonic()
    with pytest.raises(UnknownFactError, match="more than 20 ms") as given_up:
        reads.call(pipe[0], never, user(1))
    assert not given_up.value.is_transient
    assert 0.02 <= time.monotonic() - begun < 2.0
    assert reads.stuck == 1
    os.write(pipe[1], b"x")
    wait_until_free(reads)
    threads = len(os.listdir("/proc/self/task"))
    assert answer_later(reads, lambda _: b"another", lambda: ROOT) == b"another"
    assert len(os.listdir("/proc/self/task")) == threads


def test_a_thousand_processes_of_one_user_cost_no_more_than_one(pipe: tuple[int, int]) -> None:
    """Only the first is waited for, and the others take no thread."""
    reads = SlowReads(deadline_seconds=0.1)
    begun = time.monotonic()
    for _ in range(1000):
        with pytest.raises(UnknownFactError):
            reads.call(pipe[0], never, user(1))
    assert reads.stuck == 1
    assert time.monotonic() - begun < 5.0
    assert answer_later(reads, lambda _: 7, user(2)) == 7
    os.write(pipe[1], b"x")
    wait_until_free(reads)


def test_users_cannot_take_the_threads_that_are_left_to_root(pipe: tuple[int, int]) -> None:
    """However many users work together, root's processes are read."""
    reads = SlowReads(deadline_seconds=0.01)
    for number in range(100):
        with pytest.raises(UnknownFactError):
            reads.call(pipe[0], never, user(number))
    assert reads.stuck < 8
    assert answer_later(reads, lambda _: 7, lambda: ROOT) == 7
    os.write(pipe[1], b"x" * 8)
    wait_until_free(reads)


def test_one_hung_process_of_root_hides_no_other(pipe: tuple[int, int]) -> None:
    """And it takes one thread, however often it is asked."""
    reads = SlowReads(deadline_seconds=0.01)
    with pytest.raises(UnknownFactError):
        reads.call(pipe[0], never, lambda: ROOT)
    for _ in range(9):
        with pytest.raises(UnknownFactError, match="reading it took too long"):
            reads.call(pipe[0], never, lambda: ROOT)
    assert reads.stuck == 1
    assert answer_later(reads, lambda _: 7, lambda: Spender("pid 2", is_root=True)) == 7
    os.write(pipe[1], b"x")
    wait_until_free(reads)


def test_a_process_that_ends_while_it_is_waited_for_is_paid_for_all_the_same(pipe: tuple[int, int]) -> None:
    """It can share its memory with another, on which the read hangs after it is gone."""
    reads, procfs = SlowReads(deadline_seconds=0.05), Procfs(slow_reads=patient_reads())
    begun, before = time.monotonic(), len(os.listdir("/proc/self/task"))
    for _ in range(50):
        with subprocess.Popen(["/bin/sleep", "60"], user=65534 if os.geteuid() == 0 else None) as process:
            handle = procfs.open(process.pid)
            assert handle is not None
            with handle:
                assert handle.uid, "as a rule would have asked"

                def end(_: int, process: "subprocess.Popen[bytes]" = process) -> bytes:
                    process.kill()
                    process.wait()
                    return os.read(pipe[0], 1)

                with pytest.raises(UnknownFactError):
                    reads.call(handle.fd, end, handle.spender)
                process.kill()
    assert reads.stuck <= 2, "one of an unknown user's, and one of that user's"
    assert len(os.listdir("/proc/self/task")) <= before + 3, "and the one that reads stat and status"
    os.write(pipe[1], b"xx")
    wait_until_free(reads)
    procfs.close()
    assert time.monotonic() - begun < 20.0


@pytest.mark.parametrize("is_patient", [True, False])
def test_a_file_that_pins_memory_has_one_deadline(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, *, is_patient: bool
) -> None:
    """A verb waits longer for a thread that lacks a processor, but this one sleeps."""
    reads = SlowReads(deadline_seconds=0.5, is_patient=is_patient, is_pinning=True)
    answer_later(reads, lambda _: None)
    waits: list[float] = []
    wait = _Worker.wait

    def noted(worker: _Worker, seconds: float) -> bool:
        waits.append(seconds)
        return wait(worker, seconds)

    monkeypatch.setattr(_Worker, "wait", noted)
    with pytest.raises(UnknownFactError, match="more than 500 ms"):
        reads.call(pipe[0], never, user(1))
    assert waits == [0.5]
    os.write(pipe[1], b"x")
    wait_until_free(reads)


def test_waits_below_the_deadline_add_up() -> None:
    """Who always answers just in time is not asked for long."""
    reads = SlowReads(deadline_seconds=0.05)
    answered = 0
    for _ in range(100):
        with suppress(UnknownFactError):
            reads.call(0, lambda _: time.sleep(0.02), user(1))
            answered += 1
    assert 1 <= answered < 10


def test_a_host_without_a_free_processor_is_nobodys_fault() -> None:
    """The thread could go on at any time: worth asking again, no user pays for it, and the answer is kept."""
    reads = SlowReads(deadline_seconds=5)
    calls = 0

    def starve(_: int) -> int:
        nonlocal calls
        calls += 1
        starving(cpu)
        return 7

    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", SPIN, str(cpu)], stdout=subprocess.PIPE) as spinning:
        assert spinning.stdout is not None
        spinning.stdout.readline()
        try:
            begun = time.monotonic()
            with pytest.raises(UnknownFactError) as given_up:
                reads.call(0, starve, user(1), "a")
            assert time.monotonic() - begun < 4, "others wait meanwhile"
            assert given_up.value.is_transient
            with pytest.raises(UnknownFactError) as another:
                reads.call(0, lambda _: 8, user(1), "b")
            assert another.value.is_transient
        finally:
            spinning.kill()
    assert answer_later(reads, starve, what="a") == 7
    assert calls == 1
    assert answer_later(reads, lambda _: 8, what="b") == 8


def test_an_answer_from_before_a_program_was_run_is_dropped() -> None:
    """What the process was called then says nothing of it now."""
    reads = SlowReads(deadline_seconds=0.5)
    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", SPIN, str(cpu)], stdout=subprocess.PIPE) as spinning:
        assert spinning.stdout is not None
        spinning.stdout.readline()
        try:
            with pytest.raises(UnknownFactError):
                reads.call(0, lambda _: starving(cpu), user(1), "a")
            reads.disregard(0, before=time.monotonic())
        finally:
            spinning.kill()
    assert answer_later(reads, lambda _: 8, what="a") == 8


SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


def starving(cpu: int) -> None:
    """Have this thread run on one processor, when nobody else wants it (SCHED_IDLE), and give it up."""
    os.sched_setaffinity(0, {cpu})
    libc.sched_setscheduler(0, 5, ctypes.byref(ctypes.c_int(0)))
    for _ in range(30):
        libc.sched_yield()  # through ctypes, which lets go of the interpreter meanwhile


def test_a_thread_that_runs_and_runs_is_slow_by_itself() -> None:
    """As for a list of mounts without end: whose process it is pays for it."""
    reads = SlowReads(deadline_seconds=0.05)
    stop = time.monotonic() + 0.5

    def busy(_: int) -> None:
        while time.monotonic() < stop:
            pass

    with pytest.raises(UnknownFactError):
        reads.call(0, busy, user(1))
    wait_until_free(reads)
    with pytest.raises(UnknownFactError) as spent:
        reads.call(0, lambda _: 7, user(1), "another")
    assert not spent.value.is_transient
    assert answer_later(reads, lambda _: 7, user(2)) == 7


def test_a_descriptor_that_cannot_be_duplicated_loses_no_thread() -> None:
    """As where the limit on open files is reached, again and again."""
    reads = SlowReads()
    assert answer_later(reads, lambda _: 7, user(1)) == 7
    threads = len(os.listdir("/proc/self/task"))
    for _ in range(3):
        with pytest.raises(OSError, match="Bad file descriptor"):
            reads.call(-1, never, user(1))
    assert answer_later(reads, lambda _: 7, user(1)) == 7
    assert len(os.listdir("/proc/self/task")) == threads


def test_who_ends_while_it_is_read_is_charged_to_its_user(pipe: tuple[int, int]) -> None:
    """Afterwards nobody knows whose it was: one user could take all threads in the name of the ended."""
    reads = SlowReads(deadline_seconds=0.04).for_pinning()
    for _ in range(10):
        begun: list[int] = []

        def read(fd: int, begun: list[int] = begun) -> bytes:
            begun.append(fd)
            return os.read(fd, 1)

        def who(begun: list[int] = begun) -> Spender:
            return Spender("ended" if begun else "user-1.slice", is_root=False)

        asked = time.monotonic()
        with pytest.raises(UnknownFactError):
            reads.call(pipe[0], read, who)
        assert time.monotonic() - asked < 0.38, "one deadline of 0.2 s, and not two"
    assert reads.stuck <= 2
    assert answer_later(reads, lambda _: 7, user(2)) == 7
    os.write(pipe[1], b"xx")
    wait_until_free(reads)


def test_waits_of_pinning_files_are_charged_and_work_is_not() -> None:
    """A file server may answer just before the deadline, each time; a long file is charged by its length."""
    reads = SlowReads(deadline_seconds=0.02).for_pinning()
    refused = 0
    for _ in range(20):
        try:
            reads.call(0, lambda _: time.sleep(0.05), user(1))
        except UnknownFactError:
            refused += 1
    assert refused >= 10

    def work(_: int) -> int:
        end = time.thread_time() + 0.015
        while time.thread_time() < end:
            pass
        return 7

    assert [answer_later(reads, work, user(2)) for _ in range(20)] == [7] * 20
