"""A real daemon and real programs on the real kernel, for tests that look from outside."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from oomguard.kernel.connector import Connector, ConnectorUnavailableError

PATIENCE_SECONDS = 60.0
"""How long anything may take before a test fails: long, since machines are busy."""


def _has_events() -> bool:
    try:
        connector = Connector()
    except ConnectorUnavailableError:
        return False
    connector.probe()
    connector.receive(set(), limit=100_000)
    connector.close()
    return connector.answer is True


needs_events = pytest.mark.skipif(not _has_events(), reason="process events do not reach this machine")


def wait_until(happened: Callable[[], bool], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something; fail with `what` if it does not come."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.01)


class Daemon:
    """`oomguard run` with a policy and a state folder of its own below `folder`."""

    def __init__(
        self, folder: Path, policy: str, *, name: str = "policy.yaml", wrapper: Sequence[str] = ()
    ) -> None:
        self.policy = folder / name
        self.state = folder / "state"
        self._log = folder / "daemon.log"
        self._wrapper = list(wrapper)
        self.policy.write_text(policy)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it keeps the policy."""
        command = [sys.executable, "-m", "oomguard", "run", "--policy", str(self.policy)]
        command += ["--state-dir", str(self.state)]
        with self._log.open("a") as log:
            self.process = subprocess.Popen([*self._wrapper, *command], stderr=log)
        try:
            wait_until(
                lambda: (self.state / "status.json").exists() or self.process.poll() is not None, "status"
            )
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def log(self) -> str:
        """Everything it said so far."""
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it says `text`."""
        wait_until(lambda: text in self.log, f"{text!r} in\n{self.log}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and return how it ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(
    folder: Path, policy: str, *, name: str = "policy.yaml", wrapper: Sequence[str] = ()
) -> Iterator[Daemon]:
    """Run a daemon, and end it whatever happens."""
    daemon = Daemon(folder, policy, name=name, wrapper=wrapper)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


class Program:
    """A program under a name that no other process has, so that rules reach it alone."""

    def __init__(self, folder: Path, name: str, source: str = "/bin/sleep") -> None:
        self.path = folder / name
        shutil.copy(source, self.path)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> int:
        """Start it once more and return its pid."""
        process = subprocess.Popen([self.path, *(arguments or ("60",))])
        self._started.append(process)
        return process.pid

    def end(self) -> None:
        """End all that were started."""
        while self._started:
            process = self._started.pop()
            process.kill()
            process.wait()


def oom_score_adj(pid: int) -> int:
    """Return the value a process has, by a single read: another would go on in the text of a later value."""
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDONLY)
    try:
        return int(os.read(fd, 16))
    finally:
        os.close(fd)


def write_oom_score_adj(pid: int, value: int) -> None:
    """Write a process's value as somebody else would."""
    Path(f"/proc/{pid}/oom_score_adj").write_text(f"{value}\n")


def wait_for_value(pid: int, value: int, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a process has a value."""
    wait_until(lambda: oom_score_adj(pid) == value, f"oom_score_adj {value}", seconds=seconds)


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def as_user(user: int) -> list[str]:
    """Return what runs a command as a user who can do no more than read this virtual environment."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user takes root and setpriv")
    return [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]
