"""What the daemon does to its own process."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from oomguard.kernel.capability import CAP_IPC_LOCK, has, own_sets
from oomguard.kernel.own import descriptor_limit, parse_limit, python_command

LIMITS = b"""\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 524288               files
Max locked memory         unlimited            unlimited            bytes
"""


def test_limits_are_parsed() -> None:
    """Numbers, and the word for none."""
    assert parse_limit(LIMITS, b"Max open files") == (1024, 524288)
    assert parse_limit(LIMITS, b"Max locked memory")[0] > 1 << 60


def test_the_descriptor_limit_is_this_process_s() -> None:
    """Read from /proc, it is what getrlimit says."""
    assert descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def in_child(code: str) -> str:
    """Run code in a process of its own: what it does to itself must not stay with the tests."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_the_descriptor_limit_is_raised_as_far_as_it_goes() -> None:
    """To the hard limit."""
    code = (
        "import resource as r; from oomguard.kernel.own import raise_descriptor_limit as f\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 200)); f(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    assert in_child(code) == "(200, 200)"


def test_pages_are_locked_as_they_are_touched_or_the_reason_is_told() -> None:
    """Where they are, the kernel counts them as locked; where not, it is said why."""
    code = (
        "from oomguard.kernel.own import lock_pages\n"
        "print(lock_pages(privileged=True)); print(open('/proc/self/status').read())"
    )
    output = in_child(code)
    why, _, status = output.partition("\n") if not output.startswith("Name:") else ("", "", output)
    locked = next(line.split()[1] for line in status.splitlines() if line.startswith("VmLck"))
    assert (not why) == (int(locked) > 0)
    is_hosts = "4294967295" in Path("/proc/self/uid_map").read_text()
    if is_hosts and has(own_sets().effective, CAP_IPC_LOCK):  # that of a user namespace does not count
        assert not why


def test_no_transparent_huge_pages_are_taken() -> None:
    """The kernel says so of the process."""
    code = (
        "from oomguard.kernel.own import use_small_pages\n"
        "use_small_pages(); print(open('/proc/self/status').read())"
    )
    assert "THP_enabled:\t0\n" in in_child(code)


def test_too_low_a_limit_on_locked_memory_is_told_instead_of_met() -> None:
    """With pages locked for the future, allocations beyond it would fail."""
    code = (
        "import resource as r; from oomguard.kernel.own import lock_pages\n"
        "r.setrlimit(r.RLIMIT_MEMLOCK, (65536, 65536)); print(lock_pages(privileged=False))"
    )
    assert in_child(code) == "RLIMIT_MEMLOCK is 64 KiB"


def test_its_own_limits_are_there_to_be_read() -> None:
    """The file that is parsed has the lines that are looked for."""
    raw = Path("/proc/self/limits").read_bytes()
    assert b"Max open files" in raw
    assert b"Max locked memory" in raw


@pytest.mark.skipif(os.geteuid() != 0, reason="users may have oomguard in their own ~/.local")
def test_nothing_is_imported_that_whoever_starts_it_wrote(tmp_path: Path) -> None:
    """Neither from the working directory nor from the ~/.local of whoever's HOME it is."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    user_site = tmp_path / ".local" / "lib" / version / "site-packages"
    user_site.mkdir(parents=True)
    for folder in (tmp_path, user_site):
        for name in ("json", "usercustomize"):
            (folder / f"{name}.py").write_text("print('owned', __file__)")
    python = os.path.realpath(sys.executable)  # the system's: an environment has no packages of a user
    code = "import json, oomguard.kernel.own; print('clean')"
    environment = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    plain = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "owned" in plain.stdout
    options = python_command("m")[1:-2]
    done = subprocess.run(
        [python, *options, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("clean")
