"""What the OOM killer counts, from /proc, and on the real kernel held against what it says itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakeproc import FakeProc
from oom_score import oom_score
from oomguard.core.process import Identity, Process, UnknownFactError
from oomguard.core.trust import NOBODY
from oomguard.kernel.proc_files import parse_stat
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.slow_reads import patient_reads
from oomguard.kernel.sysctl_files import observe_memory
from oomguard.kernel.usage import PAGE_KIB, observe_candidate, parse_held
from oomguard.oom.badness import CURRENT, ERAS, Era, Usage, badness, era_of, global_pages

if TYPE_CHECKING:
    from oomguard.oom.ranking import Candidate

STAT = parse_stat(b"7 (a) b) S " + b" ".join(b"%d" % number for number in range(4, 53)) + b"\n")
STATUS = b"""Name:\tVmRSS:\\n99
CapEff:\t0000000000200000
VmPeak:\t    9000 kB
VmRSS:\t    4000 kB
RssAnon:\t    1000 kB
RssFile:\t    2500 kB
RssShmem:\t     500 kB
VmPTE:\t      88 kB
VmSwap:\t     400 kB
"""

OLD = next(era for era in ERAS if era.since == (5, 3, 0))


def test_the_resident_set_is_the_kernels_own_of_stat() -> None:
    """Field 24, not VmRSS; swap and page tables in whole pages."""
    held = parse_held(STAT, STATUS, page_kib=4)
    assert held is not None
    assert held.usage == Usage(24, 100, 22)
    assert held.freed_kib == 1000 + 400 + 88
    assert held.is_admin


def test_since_7_0_the_exact_resident_set_counts() -> None:
    """oom_badness adds up what each CPU holds back; field 24 of stat does not."""
    held = parse_held(STAT, STATUS, page_kib=4, is_exact=True)
    assert held is not None
    assert held.usage == Usage(1000, 100, 22)


def test_a_name_cannot_forge_a_field() -> None:
    """The kernel escapes the newline in a name and no other break."""
    forged = parse_held(STAT, STATUS.replace(b"\\n99", b"\rVmPMD:\t9 kB\x0bVm:\tx"), page_kib=4)
    assert forged == parse_held(STAT, STATUS, page_kib=4)


def test_before_4_15_page_tables_are_in_two_lines() -> None:
    """And before 4.5 nobody tells anonymous memory from the rest."""
    status = b"Name:\tx\nVmRSS:\t 4000 kB\nVmPTE:\t 88 kB\nVmPMD:\t 12 kB\nVmSwap:\t 0 kB\nCapEff:\t0\n"
    held = parse_held(STAT, status, page_kib=4)
    assert held is not None
    assert held.usage.page_tables == 25
    assert held.freed_kib == 4100
    assert not held.is_admin


def test_what_has_no_memory_is_no_candidate() -> None:
    """Kernel threads and zombies."""
    assert parse_held(STAT, b"Name:\tx\nCapEff:\t0\n") is None


def fill(proc: FakeProc, pid: int, *, score: int, value: int = 0) -> None:
    """Start a process that holds memory."""
    proc.process(Process(Identity(pid, 5), b"x", oom_score_adj=value))
    proc.hold(pid, rss_pages=1000, score=score)


@pytest.mark.parametrize(
    ("pid", "score", "value", "era", "exemption"),
    [
        (1, 0, 0, CURRENT, "init"),
        (1, 666, 0, CURRENT, ""),  # a container's own init is a process like others
        (9, 0, 0, CURRENT, "in vfork, or dying"),
        (9, 0, -999, CURRENT, ""),  # may be what the formula gives
        (9, 0, 0, OLD, ""),  # any small process has it there
    ],
)
def test_the_kernels_score_tells_whom_it_skips(
    proc: FakeProc, procfs: Procfs, pid: int, score: int, value: int, era: Era, exemption: str
) -> None:
    """What the formula cannot know, the score says."""
    fill(proc, pid, score=score, value=value)
    handle = procfs.open(pid)
    assert handle is not None
    with handle:
        candidate = observe_candidate(handle, era)
    assert candidate is not None
    assert candidate.exemption == exemption


def test_a_process_that_ended_is_left_out(proc: FakeProc, procfs: Procfs) -> None:
    """One whose files are gone, and one whose folder is."""
    fill(proc, 8, score=666)
    fill(proc, 9, score=666)
    (proc.root / "9" / "stat").unlink()
    assert [one.pid for one in procfs.processes([7, 8, 9]) if observe_candidate(one) is not None] == [8]


@pytest.mark.parametrize(("era", "score"), [(CURRENT, 766), (OLD, 150)])
def test_what_takes_too_long_to_read_is_estimated(
    proc: FakeProc, procfs: Procfs, unreadable: Callable[[], None], era: Era, score: int
) -> None:
    """From the kernel's score, less its value; the name and the value are read without delay, too."""
    proc.meminfo(MemTotal=900_000, SwapTotal=100_000)
    fill(proc, 9, score=score, value=100)
    unreadable()
    handle = procfs.open(9)
    assert handle is not None
    with handle:
        candidate = observe_candidate(handle, era)
    assert candidate is not None
    assert candidate.is_partial
    assert candidate.usage.rss * PAGE_KIB == pytest.approx(50_000, abs=2_000)
    assert candidate.freed_kib == candidate.usage.rss * PAGE_KIB
    assert (candidate.identity, candidate.comm, candidate.oom_score_adj) == (Identity(9, 0), b"x", 100)


def test_without_a_score_there_is_nothing_to_estimate(
    proc: FakeProc, procfs: Procfs, unreadable: Callable[[], None]
) -> None:
    """The kernel would not kill it."""
    fill(proc, 9, score=0)
    unreadable()
    assert [observe_candidate(one) for one in procfs.processes([9])] == [None]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, every read that pins a process's memory takes too long."""

    def read(*_: object) -> None:
        raise UnknownFactError("reading a process took more than 100 ms")

    def change() -> None:
        monkeypatch.setattr(ProcessHandle, "read_stat", read)
        monkeypatch.setattr(ProcessHandle, "read_status", read)

    return change


# The real kernel


@contextmanager
def python(code: str, *arguments: str) -> Iterator[int]:
    """Run a program that prints a line when it is ready."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def predicted_and_stated(procfs: Procfs, pid: int) -> tuple[int, int] | None:
    """Return the score that follows from the formula, and the kernel's; None for what is no candidate."""
    memory = observe_memory(procfs)
    era = era_of(os.uname().release)
    handle = procfs.open(pid)
    if handle is None or memory is None or era is None:
        return None
    total = global_pages(memory.total_kib, memory.swap_total_kib, page_kib=PAGE_KIB)
    with handle:
        one = observe_candidate(handle, era)
    if one is None or one.kernel_score is None:
        return None
    points = badness(one.usage, one.oom_score_adj, total, era=era, is_admin=one.is_admin)
    return oom_score(None if one.exemption else points, total, era=era), one.kernel_score


def agrees(procfs: Procfs, pid: int) -> bool:
    """Tell whether both are the same; again where a process changes between the two reads."""
    for _ in range(20):
        found = predicted_and_stated(procfs, pid)
        if found is None or found[0] == found[1]:
            return True
        time.sleep(0.01)
    return False


def test_the_formula_gives_the_kernels_score_of_every_process() -> None:
    """All processes of this host, and some made to stand out; those with a long `status`, too."""
    procfs = Procfs(slow_reads=patient_reads())
    hold = "import time; kept = b'x' * (150 << 20); print(flush=True); time.sleep(60)"
    raised = (
        "open('/proc/self/oom_score_adj', 'w').write('777'); print(flush=True); import time; time.sleep(60)"
    )
    with python(hold) as large, python(raised) as marked:
        pids = procfs.pids()
        assert {large, marked, os.getpid()} <= set(pids)
        wrong = [pid for pid in pids if not agrees(procfs, pid)]
        assert not wrong
        assert predicted_and_stated(procfs, large) != predicted_and_stated(procfs, marked)
    procfs.close()


def test_a_process_whose_main_thread_ended_still_counts() -> None:
    """Its own status has no memory; the kernel looks at its other threads, and so does this."""
    code = (
        "import ctypes, threading, time\n"
        "kept = b'x' * (20 << 20)\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print(flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    procfs = Procfs()
    with python(code) as pid:
        deadline = time.monotonic() + 10
        while "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        handle = procfs.open(pid)
        assert handle is not None
        with handle:
            candidate = observe_candidate(handle)
        assert candidate is not None
        assert candidate.usage.rss * PAGE_KIB > 20 << 10
        assert not candidate.exemption
    procfs.close()


MANY_GROUPS = """
import ctypes, os, sys, threading, time
os.setgroups(range(100000, 165536))
os.setresuid(4242, 4242, 4242)
if sys.argv[1] == "leaderless":
    threading.Thread(target=time.sleep, args=(60,)).start()
    print(flush=True)
    ctypes.CDLL(None).pthread_exit(None)
print(flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="setting groups takes CAP_SETGID")
@pytest.mark.parametrize("how", ["plain", "leaderless"])
def test_nobody_hides_from_the_kill_order_by_being_slow_to_read(how: str) -> None:
    """The time of who has 65,536 groups is used up after some reads; what stat tells gives it a place."""
    procfs = Procfs(slow_reads=patient_reads())
    with python(MANY_GROUPS, how) as pid:
        while how == "leaderless" and parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).state != "Z":
            time.sleep(0.001)
        found: list[Candidate] = []
        while not found or (not found[-1].is_partial and len(found) < 200):
            handle = procfs.open(pid)
            assert handle is not None
            with handle:
                candidate = observe_candidate(handle)
            assert candidate is not None
            found.append(candidate)
    procfs.close()
    first, last = found[0], found[-1]
    assert last.is_partial
    assert not first.is_partial
    assert len(found) < 60
    assert first.uid == 4242
    assert last.uid in (4242, NOBODY)  # root owns the files of one that is not dumpable
    assert last.usage.rss == pytest.approx(first.usage.rss, rel=0.2)


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes CAP_SETUID")
def test_nobody_hides_from_the_kill_order_by_a_stat_that_never_comes(
    unreadable: Callable[[], None],
) -> None:
    """The estimate is what the process has, to a thousandth of the host's memory."""
    procfs = Procfs()
    memory = observe_memory(procfs)
    assert memory is not None
    thousandth_kib = (memory.total_kib + memory.swap_total_kib) / 1000
    hold = (
        "import os, time; os.setresuid(4242, 4242, 4242); kept = b'x' * (300 << 20);"
        " print(flush=True); time.sleep(60)"
    )
    with python(hold) as pid:
        (exact,) = [observe_candidate(one) for one in procfs.processes([pid])]
        unreadable()
        (estimate,) = [observe_candidate(one) for one in procfs.processes([pid])]
    procfs.close()
    assert exact is not None
    assert not exact.is_partial
    assert estimate is not None
    assert estimate.is_partial
    assert estimate.uid in (4242, NOBODY)  # root owns the files of one that is not dumpable
    used_kib = PAGE_KIB * (exact.usage.rss + exact.usage.swap + exact.usage.page_tables)
    assert abs(estimate.usage.rss * PAGE_KIB - used_kib) <= 2 * thousandth_kib


def test_a_child_in_vfork_is_skipped() -> None:
    """Until it has executed something, the kernel cannot kill the child without its parent's memory."""
    code = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        "stack = ctypes.create_string_buffer(1 << 16)\n"
        "said = lambda _: os.write(1, b'\\n') and libc.pause()\n"
        "nap = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(said)\n"
        "libc.clone(nap, ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16) - 64), 0x4100 | 17, None)\n"
    )
    procfs = Procfs()
    with python(code) as parent:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        assert len(children) == 1
        try:
            handle = procfs.open(int(children[0]))
            assert handle is not None
            with handle:
                candidate = observe_candidate(handle)
            assert candidate is not None
            assert candidate.exemption == "in vfork, or dying"
        finally:
            os.kill(int(children[0]), 9)
    procfs.close()
