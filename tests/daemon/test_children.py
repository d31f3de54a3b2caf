"""What becomes of the children of a process that a rule holds: real programs, a real daemon.

The value is a raised one, so that to take it back is a lowering anybody may do.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from oomguard.daemon.work_queue import CHILD_SECONDS
from running import PATIENCE_SECONDS, Daemon, needs_events, oom_score_adj, running, wait_for_value, wait_until

NAME = "oomg-parent"
VALUE = 300
SOON = 5.0

QUIET = "resync_interval: 3600\n"
"""No pass comes to help: what happens, events made happen."""


def policy(**keys: str) -> str:
    """Return a policy that raises the parent."""
    more = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return f"{QUIET}rules:\n  - name: {NAME}\n    oom_score_adj: {VALUE}\n{more}"


PARENT = f"""
import ctypes, os, shlex, subprocess, sys
ctypes.CDLL(None).prctl(15, b"{NAME}", 0, 0, 0)
for line in sys.stdin:
    command = shlex.split(line)
    if command[0] == "run":
        print(subprocess.Popen(command[1:], stdin=subprocess.DEVNULL).pid, flush=True)
    elif command[0] == "daemonize":
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.setsid()
            child = os.fork()
            if child == 0:
                os.close(writer)
                os.closerange(3, 20)
                os.execvp(command[1], command[1:])
            os.write(writer, str(child).encode())
            os._exit(0)
        os.wait()
        print(os.read(reader, 20).decode(), flush=True)
    elif command[0] == "fork":
        child = os.fork()
        if child == 0:
            import time
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
"""


class Parent:
    """A process that the rule holds, and starts others when told."""

    def __init__(self, *, own: int = 0) -> None:
        command = ["choom", "-n", str(own), "--", sys.executable, "-c", PARENT]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._children: list[int] = []

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def tell(self, *command: str) -> int:
        """Have it start something and return the pid of that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(shlex.join(command) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        self._children.append(pid)
        return pid

    def end(self) -> None:
        """End it and what it started."""
        for pid in [*self._children, self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.process.communicate()


@contextmanager
def parent(*, own: int = 0) -> Iterator[Parent]:
    """Start one with a value of its own, end it whatever happens."""
    made = Parent(own=own)
    try:
        yield made
    finally:
        made.end()


@needs_events
def test_another_program_gets_back_what_its_parent_had(tmp_path: Path) -> None:
    """It inherits the value, and loses it as soon as it runs."""
    with running(tmp_path, policy()) as daemon, parent() as managed:
        wait_for_value(managed.pid, VALUE)
        child = managed.tell("run", "sleep", "60")
        wait_for_value(child, 0, seconds=SOON)
        assert oom_score_adj(managed.pid) == VALUE
        daemon.wait_for(f"sleep[{child}]: oom_score_adj 300 → 0 (restore, inherited from a managed process")


@needs_events
def test_a_daemon_that_forks_twice_is_found(tmp_path: Path) -> None:
    """It is a child of init by the time it is looked at; its forks were followed."""
    with running(tmp_path, policy()), parent() as managed:
        wait_for_value(managed.pid, VALUE)
        orphan = managed.tell("daemonize", "sleep", "60")
        wait_for_value(orphan, 0, seconds=SOON)


@needs_events
def test_children_of_the_topmost_are_reset_though_they_run_nothing_else(tmp_path: Path) -> None:
    """With `scope: main` the rule is for the parent alone. Children of one that is raised wait for a pass."""
    with running(tmp_path, policy(scope="main")), parent(own=500) as managed:
        wait_for_value(managed.pid, VALUE)
        time.sleep(0.1)  # its value was written; that its forks are told of comes a moment later
        wait_for_value(managed.tell("fork"), 500, seconds=SOON)


@needs_events
def test_children_inherit_if_the_rule_says_so(tmp_path: Path) -> None:
    """What is started after them is looked at in order, so they were looked at, too."""
    with running(tmp_path, policy(children="inherit")) as daemon, parent() as managed:
        wait_for_value(managed.pid, VALUE)
        child = managed.tell("run", "sleep", "60")
        orphan = managed.tell("daemonize", "sleep", "60")
        with parent() as later:
            wait_for_value(later.pid, VALUE)
            assert oom_score_adj(child) == VALUE
            assert oom_score_adj(orphan) == VALUE
            daemon.policy.write_text(policy())
            wait_for_value(child, 0)
            assert oom_score_adj(managed.pid) == VALUE


@needs_events
def test_children_forked_just_before_a_reload_inherit(tmp_path: Path) -> None:
    """The policy that counts is the one at the fork, though nobody has looked at the child yet."""
    with running(tmp_path, policy(children="inherit", scope="main")) as daemon, parent() as managed:
        wait_for_value(managed.pid, VALUE)
        child = managed.tell("fork")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("policy read again, unchanged")
        with parent() as later:
            wait_for_value(later.pid, VALUE)
            time.sleep(2 * CHILD_SECONDS)
            assert oom_score_adj(child) == VALUE


@needs_events
def test_a_value_that_a_child_gives_itself_is_its_own(tmp_path: Path) -> None:
    """As sessions of sshd and backends of PostgreSQL do: nobody fights with them."""
    with running(tmp_path, policy()) as daemon, parent() as managed:
        wait_for_value(managed.pid, VALUE)
        child = managed.tell("run", "choom", "-n", "555", "--", "sleep", "60")
        wait_for_value(child, 555)
        with parent() as later:
            wait_for_value(later.pid, VALUE)
        assert oom_score_adj(child) == 555
        assert f"[{child}]: oom_score_adj 555" not in daemon.log


def test_children_started_while_no_daemon_ran_are_found_by_their_parents(tmp_path: Path) -> None:
    """The ledger knows their ancestor, and they have its value still."""
    with running(tmp_path, policy()) as daemon, parent() as managed:
        wait_for_value(managed.pid, VALUE)
        daemon.process.kill()
        daemon.process.wait()
        (daemon.state / "status.json").unlink()
        child = managed.tell("run", "sh", "-c", "sleep 60; exit")
        wait_until(lambda: bool(_children(child)), "the grandchild")
        (grandchild,) = _children(child)
        assert oom_score_adj(grandchild) == VALUE
        daemon.start()
        wait_for_value(grandchild, 0)
        wait_for_value(child, 0)
        os.kill(grandchild, 9)


def test_a_restore_takes_the_children_along(tmp_path: Path) -> None:
    """Whichever comes first in the list of processes."""
    with running(tmp_path, policy(children="inherit")) as daemon, parent() as managed:
        wait_for_value(managed.pid, VALUE)
        child = managed.tell("run", "sleep", "60")
        daemon.stop()
        command = [sys.executable, "-m", "oomguard", "restore", "--state-dir", str(daemon.state)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_SECONDS)
        assert oom_score_adj(managed.pid) == 0
        assert oom_score_adj(child) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own takes root")
def test_without_events_the_parents_tell(tmp_path: Path) -> None:
    """Where no connector reaches, each pass looks through them."""
    with running(tmp_path, policy(), wrapper=["unshare", "--net"]) as daemon, parent() as managed:
        daemon.wait_for("checks for new processes every")
        wait_for_value(managed.pid, VALUE)
        wait_for_value(managed.tell("run", "sleep", "60"), 0)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


ZYGOTE = f"""
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(15, b"{NAME}", 0, 0, 0)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        time.sleep(float(line))
        start, end = map(int, open("/proc/self/stat").read().rpartition(")")[2].split()[45:47])
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, b"--type=renderer", 15)
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
"""


@needs_events
def test_a_child_that_rewrites_its_command_line_is_matched(tmp_path: Path) -> None:
    """Chromium's zygote forks its tabs: they run no program and keep its name, so no event tells of it.

    A busy host may take some time until it has done so.
    """
    text = f"{QUIET}rules:\n  - name: {NAME}\n    cmdline: ^--type=renderer\n    oom_score_adj: {VALUE}\n"
    command = [sys.executable, "-c", ZYGOTE]
    with (
        running(tmp_path, text),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote,
    ):
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        children = []
        try:
            for delay in (0, 0, 0.5):
                zygote.stdin.write(f"{delay}\n")
                zygote.stdin.flush()
                children.append(int(zygote.stdout.readline()))
                wait_for_value(children[-1], VALUE, seconds=SOON)
            assert oom_score_adj(zygote.pid) == 0
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
            zygote.stdin.close()


FUGITIVE = f"""
import ctypes, os, signal, sys
prctl = ctypes.CDLL(None).prctl
os.setuid(4242)
prctl(4, 1, 0, 0, 0)  # what changed its user is not dumpable, and its files are root's
prctl(15, b"{NAME}", 0, 0, 0)
print(flush=True)
sys.stdin.readline()
prctl(15, b"innocent", 0, 0, 0)
for _ in range(2):  # the second one's parent ends
    if os.fork():
        signal.pause() if _ == 0 else os._exit(0)
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("0")
print(os.getpid(), flush=True)
sys.stdin.readline()
os.execv("/bin/sleep", ["sleep", "60"])
"""


@needs_events
@pytest.mark.skipif(os.geteuid() != 0, reason="to become a user takes root")
def test_a_users_program_does_not_leave_its_rule_by_a_fork_under_another_name(tmp_path: Path) -> None:
    """Nor by ending the one that was raised. What it runs instead has its own value."""
    rules = policy().replace("3600", "1")
    with (
        running(tmp_path, rules) as daemon,
        subprocess.Popen(
            [sys.executable, "-c", FUGITIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        child = 0
        try:
            assert process.stdout.readline()
            wait_for_value(process.pid, VALUE)
            process.stdin.write("\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            wait_for_value(child, VALUE)
            before = passes(daemon)
            wait_until(lambda: passes(daemon) >= before + 3, "three passes")
            assert oom_score_adj(child) == VALUE
            process.stdin.write("\n")
            process.stdin.flush()
            wait_for_value(child, 0)
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def passes(daemon: Daemon) -> int:
    """Return how many passes the daemon has made."""
    count: int = json.loads((daemon.state / "status.json").read_text())["passes"]
    return count
