"""No value reaches another process than the one it was decided for, however fast pids are used again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("recycling.py")
DECISIONS = "OOMGUARD_STRESS_DECISIONS"
"""How many decisions the test makes: a million takes about a minute."""


def recycle(decisions: int, way: str) -> dict[str, int]:
    """Run the script in a PID namespace of its own and return what it counted."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    tried = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no PID namespace can be made here: {tried.stderr.strip()}")
    command = [*namespace, sys.executable, str(SCRIPT), str(decisions), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="choosing the next pid takes root")
def test_no_write_reaches_who_has_the_pid_next() -> None:
    """Each of six pids is somebody else every other millisecond."""
    found = recycle(int(os.environ.get(DECISIONS, "50_000")), "SAFE")
    print(found)
    assert found["wrong"] == 0
    assert found["writes"] > 5
    assert found["forks"] > 50


@pytest.mark.skipif(os.geteuid() != 0, reason="choosing the next pid takes root")
def test_writes_by_path_would_be_noticed() -> None:
    """The same with a writer that goes by the pid: it does harm, so the test above can fail."""
    found = recycle(2_000_000, "NAIVE")
    assert found["wrong"] > 0
