"""A process lives as long as one of its threads, on the real kernel.

When the main thread ends first, /proc shows the process as a zombie without a command line, and on cgroup v1
without a cgroup.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from oomguard.core.change import SetOomScoreAdj
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy
from oomguard.core.process import UnknownFactError
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.slow_reads import patient_reads
from oomguard.kernel.usage import observe_candidate
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from running import wait_until, write_oom_score_adj

CODE = """
import ctypes, platform, sys, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
sys.stdin.readline()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)
"""
"""The main thread ends by the system call, which leaves the other running."""


@pytest.fixture
def procfs() -> Iterator[Procfs]:
    """Open the kernel's /proc."""
    opened = Procfs(slow_reads=patient_reads())
    yield opened
    opened.close()


@contextmanager
def program() -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process whose main thread ends at a newline."""
    process = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) == 2, "the second thread")
        yield process
    finally:
        process.kill()
        process.communicate()


def end_main_thread(process: "subprocess.Popen[bytes]") -> None:
    """End the main thread."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    wait_until(lambda: ") Z " in Path(f"/proc/{process.pid}/stat").read_text(), "the main thread to end")


def opened(procfs: Procfs, pid: int) -> ProcessHandle:
    """Open a process that is there."""
    handle = procfs.open(pid)
    assert handle is not None
    return handle


def arguments(handle: ProcessHandle) -> tuple[bytes, ...]:
    """Return the command line, however busy this machine is."""
    found: list[tuple[bytes, ...]] = []

    def is_read() -> bool:
        with suppress(UnknownFactError):
            found.append(handle.arguments)
        return bool(found)

    wait_until(is_read, "the command line")
    return found[0]


def change(procfs: Procfs, pid: int, ledger: Ledger, **terms: object) -> SetOomScoreAdj | None:
    """Return the change that a rule with these terms makes due."""
    rule = Rule(0, (), Terms(Value("exact", 700))._replace(**terms), "p.yaml", 1)  # type: ignore[arg-type]  # by name
    reconciler = Reconciler(Policy(rules=(rule,)), ledger, procfs)
    with opened(procfs, pid) as handle:
        return reconciler.next_change(handle, "resync")


def test_a_process_without_its_main_thread_keeps_its_value(procfs: Procfs) -> None:
    """It is no zombie: the rule still matches, and nothing is restored."""
    with program() as process:
        with opened(procfs, process.pid) as handle:
            own = handle.read_oom_score_adj()
            handle.write_oom_score_adj(700)
            identity, before = handle.identity, arguments(handle)
        ledger = Ledger()
        ledger.record(identity, Entry(own, 700))
        end_main_thread(process)
        assert change(procfs, process.pid, ledger, cmdlines=(r"ctypes\.CDLL",)) is None
        assert ledger.entry(identity) is not None
        with opened(procfs, process.pid) as handle:
            assert not handle.stat.is_zombie
            assert arguments(handle) == before
            assert handle.exe == os.path.realpath(sys.executable)
            assert observe_candidate(handle) is not None


def test_nobody_leaves_a_raising_rule_by_ending_the_main_thread(procfs: Procfs) -> None:
    """Its cgroup is that of a thread that lives."""
    mount = procfs.cgroups.mount
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("cannot make a cgroup here")
    folder = Path(mount, f"oomguard-test-{os.getpid()}")
    with program() as process:
        folder.mkdir()
        try:
            (folder / "cgroup.procs").write_text(str(process.pid))
            end_main_thread(process)
            due = change(procfs, process.pid, Ledger(), cgroups=(f"/{folder.name}",))
            assert due is not None
            assert due.after == 700
        finally:
            process.kill()
            process.wait()
            wait_until(lambda: not (folder / "cgroup.procs").read_text(), "an empty cgroup")
            folder.rmdir()


def test_a_process_that_ended_is_a_zombie(procfs: Procfs) -> None:
    """Until its parent has waited for it: no rule matches it, it is no candidate, and gets nothing back."""
    with subprocess.Popen(["/bin/true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with opened(procfs, process.pid) as handle:
            assert handle.stat.is_zombie
            assert observe_candidate(handle) is None
            write_oom_score_adj(process.pid, 700)
            ledger = Ledger()
            ledger.record(handle.identity, Entry(0, 700))
        assert change(procfs, process.pid, ledger, cgroups=("*",)) is None
        assert ledger.processes == {}
