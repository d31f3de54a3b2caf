"""What a program that starts costs, in system calls: a figure that no busy machine changes."""

import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from running import needs_events, running

_QUIET = "resync_interval: 3600\n"
_CALL = re.compile(r"^(\w+)\(")


@needs_events
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: sh .ci/extras")
def test_a_program_that_needs_nothing_costs_five_system_calls(tmp_path: Path) -> None:
    """Wait, receive its exec, and read its name. The host's other programs cost the same."""
    trace, folder = tmp_path / "trace", tmp_path / "policy"
    folder.mkdir()  # what happens beside the policy wakes the daemon
    with running(folder, f"{_QUIET}rules: [{{name: og-none, oom_score_adj: 100}}]\n") as daemon:
        time.sleep(1.2)  # the status file is written a second after the pass
        command = ["strace", "--quiet=all", "-o", str(trace), "-p", str(daemon.process.pid)]
        with subprocess.Popen(command) as strace:
            time.sleep(0.5)
            for _ in range(200):
                subprocess.run(["true"], check=True)
            time.sleep(0.2)
            strace.terminate()
    calls = Counter(found[1] for line in trace.read_text().splitlines() if (found := _CALL.match(line)))
    del calls["clock_gettime"]  # the CPU time used so far, 20 times a second at most
    assert calls["openat"] >= 200
    # Half a call for what else may wake the daemon: timers, and other subscribers' requests. That makes it
    # read the forks, too: one more to receive for each.
    assert calls.total() - calls["recvfrom"] <= 4.5 * calls["openat"], calls
    assert calls["recvfrom"] <= 2.5 * calls["openat"], calls
