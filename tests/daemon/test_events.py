"""The daemon hears of what starts, changes and drifts, and what it does where it cannot."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from running import (
    PATIENCE_SECONDS,
    Daemon,
    Program,
    needs_events,
    oom_score_adj,
    running,
    wait_for_value,
    wait_until,
    write_oom_score_adj,
)

NAME = "oomguard-probe"
POLICY = f"rules:\n  - name: {NAME}\n    oom_score_adj: 400\n"
SOON = 5.0
"""Seconds: longer than an event takes on a busy machine, far less than the time between two passes."""

QUIET = "resync_interval: 3600\n"
"""Passes so rare that only events can explain what happens."""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Return a program that the rules of these tests match."""
    made = Program(tmp_path, NAME)
    yield made
    made.end()


def status(daemon: Daemon) -> dict[str, Any]:
    """Return the daemon's status file."""
    document: dict[str, Any] = json.loads((daemon.state / "status.json").read_text())
    return document


def settle(daemon: Daemon) -> None:
    """Wait until the daemon watches a process: those that lived a few seconds are worth it."""
    wait_until(lambda: status(daemon)["watches"] > 0, "a watch")


@needs_events
def test_a_started_program_is_valued_at_once(tmp_path: Path, program: Program) -> None:
    """Not at the next pass, which is an hour away."""
    with running(tmp_path, QUIET + POLICY):
        wait_for_value(program.start(), 400, seconds=SOON)


@needs_events
def test_a_process_that_takes_the_name_is_valued(tmp_path: Path) -> None:
    """A rename is an event of its own."""
    code = f"input(); open('/proc/self/comm', 'w').write('{NAME}'); input()"
    with (
        running(tmp_path, QUIET + POLICY),
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        wait_for_value(process.pid, 400)
        process.kill()


@needs_events
@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes root")
def test_a_process_that_becomes_another_user_is_valued(tmp_path: Path) -> None:
    """A rule for a user holds from the moment on that it is that user's."""
    policy = f"{QUIET}rules:\n  - name: {NAME}\n    user: 65534\n    oom_score_adj: 400\n"
    code = f"open('/proc/self/comm', 'w').write('{NAME}'); import os; input(); os.setuid(65534); input()"
    with (
        running(tmp_path, policy),
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert oom_score_adj(process.pid) == 0
        process.stdin.write("\n")
        process.stdin.flush()
        wait_for_value(process.pid, 400)
        process.kill()


@needs_events
def test_an_exec_by_a_thread_is_valued(tmp_path: Path, program: Program) -> None:
    """The thread becomes the process, pid and all."""
    target = f"target=os.execv, args=('{program.path}', ['x', '60'])"
    code = f"import os, threading; threading.Thread({target}).start()"
    with running(tmp_path, QUIET + POLICY), subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for_value(process.pid, 400)
        process.kill()


@needs_events
def test_a_foreign_write_is_healed_at_once(tmp_path: Path, program: Program) -> None:
    """It is heard of through the watch, and its cause is drift."""
    pid = program.start()
    with running(tmp_path, QUIET + POLICY) as daemon:
        settle(daemon)
        write_oom_score_adj(pid, 100)
        wait_for_value(pid, 400, seconds=SOON)
        daemon.wait_for("100 → 400 (drift")


@needs_events
@pytest.mark.skipif(os.geteuid() != 0, reason="dropping caches takes root")
def test_a_watch_survives_drop_caches(tmp_path: Path, program: Program) -> None:
    """The kernel drops what nothing holds; the daemon holds what it watches."""
    pid = program.start()
    with running(tmp_path, QUIET + POLICY) as daemon:
        settle(daemon)
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
        write_oom_score_adj(pid, 100)
        wait_for_value(pid, 400, seconds=SOON)


@needs_events
@pytest.mark.skipif(os.geteuid() != 0, reason="sysctls take root")
def test_a_drifted_sysctl_is_healed_at_once(tmp_path: Path) -> None:
    """And put back when it is gone from the policy."""
    path = Path("/proc/sys/vm/stat_interval")
    before = path.read_text()
    wanted = int(before) + 1
    try:
        with running(tmp_path, f"{QUIET}vm: {{stat_interval: {wanted}}}\n") as daemon:
            path.write_text(before)
            wait_until(lambda: path.read_text() == f"{wanted}\n", "the wanted value", seconds=SOON)
            daemon.policy.write_text(QUIET)
            wait_until(lambda: path.read_text() == before, "the value of before")
    finally:
        path.write_text(before)


@needs_events
@pytest.mark.skipif(os.geteuid() != 0, reason="sysctls take root")
def test_a_bound_follows_what_another_tool_sets_beyond_it(tmp_path: Path) -> None:
    """Less is raised again at once, and what was there first is restored."""
    path = Path("/proc/sys/vm/stat_interval")
    before = int(path.read_text())
    least = before + 2
    try:
        with running(tmp_path, f"{QUIET}vm: {{stat_interval: {{at_least: {least}}}}}\n") as daemon:
            assert int(path.read_text()) == least
            for beyond in (least + 5, least + 3):
                path.write_text(f"{beyond}\n")
            path.write_text(f"{before + 1}\n")
            wait_until(lambda: int(path.read_text()) == least, "the bound", seconds=SOON)
            daemon.wait_for(f"{before + 1} → {least} (drift, at least {least}, ")
            assert daemon.log.count("drift") == 1
            daemon.policy.write_text(QUIET)
            wait_until(lambda: int(path.read_text()) == before, "the value of before")
    finally:
        path.write_text(f"{before}\n")


@needs_events
def test_what_is_no_longer_managed_is_no_longer_watched(tmp_path: Path, program: Program) -> None:
    """After the pass that finds so."""
    program.start()
    with running(tmp_path, QUIET + POLICY) as daemon:
        settle(daemon)
        daemon.policy.write_text(QUIET)
        wait_until(lambda: status(daemon)["watches"] == 0, "no watch")


@needs_events
def test_a_contended_value_is_given_way_to_and_said_once(tmp_path: Path, program: Program) -> None:
    """Six times in a minute: something else wants it, too. It rests, and is corrected when that is over."""
    pid = program.start()
    with running(tmp_path, QUIET + POLICY) as daemon:
        settle(daemon)
        for _ in range(5):
            write_oom_score_adj(pid, 100)
            wait_for_value(pid, 400)
        write_oom_score_adj(pid, 100)
        daemon.wait_for("contended: something else keeps rewriting it")
        wait_until(lambda: bool(status(daemon)["contended"]), "contention in the status")
        assert status(daemon)["watches"] == 0
        wait_for_value(pid, 400)  # the first pause is short
        write_oom_score_adj(pid, 100)
        wait_for_value(pid, 400)  # the second is not long either
        assert daemon.log.count("contended: something") == 1


@needs_events
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace takes root")
def test_without_events_it_looks_every_second_and_says_why(tmp_path: Path, program: Program) -> None:
    """In a container's network namespace, say."""
    with running(tmp_path, POLICY, wrapper=["unshare", "--net"]) as daemon:
        daemon.wait_for("there are no process events in this network namespace")
        wait_for_value(program.start(), 400)
        assert not status(daemon)["events"]
        assert "network namespace" in " ".join(status(daemon)["limits"])


@needs_events
def test_lost_events_are_made_up_for(tmp_path: Path, program: Program) -> None:
    """A stopped daemon hears nothing; what it missed is found when it goes on."""
    with running(tmp_path, QUIET + POLICY) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        pid = program.start()
        storm = "import os\nfor _ in range(25000):\n open('/proc/self/comm', 'w').write('storm')\n"
        subprocess.run([sys.executable, "-c", storm], check=True)
        daemon.process.send_signal(signal.SIGCONT)
        wait_for_value(pid, 400)
        daemon.wait_for("the kernel dropped process events")
        wait_until(lambda: status(daemon)["losses"] > 0, "the loss in the status")
        wait_for_value(program.start(), 400, seconds=5)


@needs_events
def test_programs_that_end_between_any_two_steps_do_no_harm(tmp_path: Path) -> None:
    """Hundreds that live for a millisecond: none stops the daemon, and none is left behind in it."""
    program = Program(tmp_path, NAME, "/bin/true")
    with running(tmp_path, QUIET + POLICY) as daemon:
        for _ in range(300):
            program.start()
        program.end()
        survivor = Program(tmp_path, NAME)
        last = survivor.start()
        wait_for_value(last, 400)
        assert daemon.process.poll() is None
        wait_until(lambda: status(daemon)["processes_held"] <= 1, "the dead to be forgotten")
        survivor.end()


SHORTAGE = """
import sys
if "oomguard.daemon" in sys.orig_argv:
    import errno
    from oomguard.reconcile.reconciler import Reconciler

    calls, process = 0, Reconciler.process

    def short(self, *arguments, **options):
        global calls
        calls += 1
        if calls in (3, 9, 27):
            raise MemoryError if calls == 9 else OSError(errno.ENFILE, "too many open files")
        return process(self, *arguments, **options)

    Reconciler.process = short
"""


def test_a_shortage_of_memory_or_descriptors_costs_time_only(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It drops what it can have again, waits a moment, and checks everything. It is ready only then."""
    (tmp_path / "sitecustomize.py").write_text(SHORTAGE)
    pid = program.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, ExitStack() as stack:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = stack.enter_context(running(tmp_path, POLICY, wrapper=["env", f"PYTHONPATH={tmp_path}"]))
        assert listener.recv(4096).decode().endswith("; 1 managed process")
        assert oom_score_adj(pid) == 400
        wait_until(lambda: status(daemon)["losses"] >= 2, "two shortages")
        daemon.wait_for("oomguard ran out of resources (")
        wait_for_value(program.start(), 400)
        assert daemon.process.poll() is None


LOSSES = """
import sys
if "oomguard.daemon" in sys.orig_argv:
    from oomguard.daemon.worker import Worker

    listed = Worker._list_pids

    def lossy(self):
        self._lost("an event was lost")
        return listed(self)

    Worker._list_pids = lossy
"""


def test_who_makes_each_pass_lose_events_delays_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another pass follows each, and never ends; systemd would end a daemon that is not ready by then."""
    (tmp_path / "sitecustomize.py").write_text(LOSSES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with running(tmp_path, POLICY, wrapper=["env", f"PYTHONPATH={tmp_path}"]):
            assert listener.recv(4096).startswith(b"READY=1\n")


def test_a_command_line_made_to_stall_a_pattern_stalls_nothing(tmp_path: Path, program: Program) -> None:
    """Anyone may start a program with any arguments; the daemon must not stop for it."""
    rules = f"  - name: {NAME}\n    oom_score_adj: 400\n  - cmdline: '(a+)+$'\n    oom_score_adj: 1\n"
    trap = Program(tmp_path, "oomguard-trap", sys.executable)
    with running(tmp_path, f"rules:\n{rules}") as daemon:
        trap.start("-c", "import time; time.sleep(60)", "a" * 64 + "!")
        wait_for_value(program.start(), 400)
        daemon.wait_for("pattern takes too long")
        trap.end()
        assert daemon.stop() == 0
