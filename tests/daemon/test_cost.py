"""What a program that starts costs, in system calls, and what the daemon imports: figures of any machine."""

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from test_events import status

from running import Daemon, Program, needs_events, running, wait_until

_QUIET = "resync_interval: 3600\npressure: off\nrecorder: off\n"
_CALL = re.compile(r"^(\w+)\(")


_VALUE = 300


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: sh .ci/extras")


def _lines(
    tmp_path: Path, rules: str, start: Callable[[Daemon], None], is_over: Callable[[str], bool]
) -> list[str]:
    """Return the system calls of a daemon with these rules from `start` until its trace `is_over`."""
    trace, folder = tmp_path / "trace", tmp_path / "policy"
    folder.mkdir()  # what happens beside the policy wakes the daemon
    with running(folder, f"{_QUIET}rules: [{rules}]\n") as daemon:
        time.sleep(1.2)  # the status file is written a second after the pass
        own = Path(f"/proc/{daemon.process.pid}/status")
        command = ["strace", "--quiet=all", "-o", str(trace), "-p", str(daemon.process.pid)]
        with subprocess.Popen(command) as strace:
            try:
                wait_until(lambda: "TracerPid:\t0\n" not in own.read_text(), "the tracer")
                start(daemon)
                wait_until(lambda: is_over(trace.read_text()), "what is to be traced")
            finally:
                strace.terminate()
    return [line for line in trace.read_text().splitlines() if _CALL.match(line)]


@needs_events
@needs_strace
def test_a_program_that_needs_nothing_costs_five_system_calls(tmp_path: Path) -> None:
    """Wait, receive its exec, and read its name. The host's other programs cost the same."""

    def start(_daemon: Daemon) -> None:
        for _ in range(200):
            subprocess.run(["true"], check=True)

    def is_over(trace: str) -> bool:
        return trace.count("openat(") >= 200

    lines = _lines(tmp_path, "{name: og-none, oom_score_adj: 100}", start, is_over)
    calls = Counter(line.partition("(")[0] for line in lines)
    del calls["clock_gettime"]  # the CPU time used so far, 20 times a second at most
    assert calls["openat"] >= 200
    # Half a call for what else may wake the daemon: timers, and other subscribers' requests. That makes it
    # read the forks, too: one more to receive for each.
    assert calls.total() - calls["recvfrom"] <= 4.5 * calls["openat"], calls
    assert calls["recvfrom"] <= 2.5 * calls["openat"], calls


@needs_events
@needs_strace
def test_a_program_that_gets_a_value_costs_22_system_calls(tmp_path: Path) -> None:
    """One straight line from its name to the log, besides waiting and receiving."""
    program = Program(tmp_path, "og-cost")

    def start(_daemon: Daemon) -> None:
        program.start()

    def is_over(trace: str) -> bool:
        return "epoll_wait(" in trace.partition(" og-cost[")[2]  # the log

    try:
        lines = _lines(tmp_path, f"{{name: og-cost, oom_score_adj: {_VALUE}}}", start, is_over)
    finally:
        program.end()
    first = next(at for at, line in enumerate(lines) if 'og-cost\\n"' in line) - 1
    length = next(at for at, line in enumerate(lines[first:]) if line.startswith("epoll_wait("))
    # The first time it reads all forks that wait, and at any time what CPU it has used.
    others = {"recvfrom", "clock_gettime"}
    # Which of the two a C library calls for an open file is its choice.
    calls = [line.partition("(")[0].replace("newfstatat", "fstat") for line in lines[first : first + length]]
    name = ["openat", "read", "close"]
    assert [call for call in calls if call not in others] == [
        *name,
        "openat",  # its folder
        *("fstat", *("openat", "read", "close") * 2),  # whose it is, by its cgroup, too; stat
        *("fstat", "openat", "read", "close"),  # status
        *("openat", "pread64"),  # its value
        "write",  # the ledger: what will be done
        "pwrite64",  # its value
        *("close", "close"),
        "write",  # the log
    ]


@needs_events
@needs_strace
def test_a_rewritten_value_is_corrected_after_16_system_calls(tmp_path: Path) -> None:
    """Among them those that tell whether its owner may delay its reader."""
    program = tmp_path / "og-cost"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:

        def start(daemon: Daemon) -> None:
            wait_until(lambda: status(daemon)["watches"] > 0, "a watch")
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("5")

        def is_over(trace: str) -> bool:
            return "epoll_wait(" in trace.partition("pwrite64(")[2]

        lines = _lines(tmp_path, f"{{name: og-cost, oom_score_adj: {_VALUE}}}", start, is_over)
        process.kill()
    written = next(at for at, line in enumerate(lines) if line.startswith("pwrite64("))
    woken = max(at for at, line in enumerate(lines[:written]) if line.startswith("epoll_wait("))
    calls = [line.partition("(")[0].replace("newfstatat", "fstat") for line in lines[woken + 1 : written]]
    assert [call for call in calls if call != "clock_gettime"] == [
        "read",  # the watches
        "openat",  # its folder
        *("openat", "pread64"),  # its value
        *("fstat", *("openat", "read", "close") * 2),  # whose it is, by its cgroup, too; stat
        *("fstat", "openat", "read", "close"),  # status
        "pread64",
    ]
