"""What a user can do to have the daemon work, done on the real kernel, and what CPU time it takes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_events import NAME, POLICY, QUIET, settle, status

from attacking import ATTACKS
from oomguard.daemon.ceiling import LIMIT_PERCENT
from running import Program, needs_events, running, wait_for_value, wait_until

SECONDS = 3.0


@contextmanager
def attacking(code: str) -> Iterator[tuple[int, Callable[[], None]]]:
    """Run Python under a name that the rule matches; return its pid, and what has it begin with `code`."""
    name = f"import os, sys\nopen('/proc/self/comm', 'w').write('{NAME}')\n"
    with subprocess.Popen(
        [sys.executable, "-c", f"{name}sys.stdin.read()\n{code}"], stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        try:
            yield process.pid, process.stdin.close
            assert process.poll() is None, "it ended by itself"
        finally:
            process.kill()


def cpu_percent(pid: int, seconds: float) -> float:
    """Return how much of a CPU a process uses from now on."""

    def used() -> int:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])

    before, start = used(), time.monotonic_ns()
    time.sleep(seconds)
    return 100 * (used() - before) / (time.monotonic_ns() - start)


@needs_events
@pytest.mark.parametrize("how", ["rename", "rewrite", "open"])
def test_a_process_in_a_loop_takes_no_cpu_from_others(tmp_path: Path, how: str) -> None:
    """Nor does it delay the value of another program."""
    other = Program(tmp_path, NAME)
    with running(tmp_path, QUIET + POLICY) as daemon, attacking(ATTACKS[how]) as (pid, begin):
        wait_for_value(pid, 400)
        settle(daemon)
        begin()
        time.sleep(1.0)
        assert cpu_percent(daemon.process.pid, SECONDS) < LIMIT_PERCENT
        wait_for_value(other.start(), 400, seconds=5.0)
        other.end()
        assert not status(daemon)["throttled"]


def test_values_that_are_denied_take_no_cpu_and_no_room(tmp_path: Path) -> None:
    """As to root without CAP_SYS_RESOURCE. Their files are watched, and a try must not wake the daemon."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not there")
    program = Program(tmp_path, NAME)
    rules = f"rules:\n  - name: {NAME}\n    oom_score_adj: -100\n    trust: name\n"
    without = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
    for _ in range(5):
        program.start()
    with running(tmp_path, rules, wrapper=without) as daemon:
        wait_until(lambda: status(daemon)["watches"] >= 5, "five watches")
        assert cpu_percent(daemon.process.pid, SECONDS) < 10
        assert (daemon.state / "ledger").stat().st_size < 8_000
        assert daemon.log.count(" denied: ") == 1, daemon.log
        assert "CAP_SYS_RESOURCE" in daemon.log
        assert status(daemon)["outcomes"]["denied"] < 40
    program.end()
