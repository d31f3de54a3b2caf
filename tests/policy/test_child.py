"""The process in which the daemon reads its policy, as the daemon sees it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oomguard.core.host import Host
from oomguard.core.serialize import decode
from oomguard.policy.load import load

from .conftest import Install, needs_root

_POLICY = "rules:\n- {name: [crond, 'ü*'], user: root, scope: main, oom_score_adj: {at_most: -1000}}\n"


def _child(*arguments: str, stdout: Any = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "oomguard.policy", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="ascii",
        timeout=60,
        check=False,
    )


def _python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        encoding="ascii",
        timeout=60,
        check=False,
    )


def test_a_good_policy_is_handed_over_in_lines(install: Install) -> None:
    """What the daemon decodes is the very policy that was loaded, with the number of its warnings."""
    path = install(_POLICY)
    child = _child(path)
    assert (child.returncode, child.stderr) == (0, "")
    header, *lines = child.stdout.splitlines()
    loaded = load(path, host=Host(16 << 20))
    assert json.loads(header)["ok"] is True
    assert [warning.code for warning in loaded.warnings] == ["immune"]
    assert decode(lines) == loaded.policy._replace(warnings=1)


def test_faults_are_handed_over_in_one_line(install: Install) -> None:
    """The exit code tells systemd not to try again."""
    child = _child(install("force: maybe\nvm: 3\n", a="nmae: x"))
    assert (child.returncode, child.stderr) == (78, "")
    (line,) = child.stdout.splitlines()
    said = json.loads(line)
    assert said["ok"] is False
    assert [os.path.basename(fault.partition(" (")[0]) for fault in said["lines"]] == [
        "a.yaml:1:1: unknown key nmae",
        "policy.yaml:1:8: force: must be true or false, got 'maybe'",
        "policy.yaml:2:5: vm: must be a mapping of sysctls and their values, got 3",
    ]


def test_warnings_are_not_among_the_errors(install: Install, tmp_path: Path) -> None:
    """The log and `status` show these lines as the reason for the rejection."""
    path = install("nmae: x", b="")
    (tmp_path / "policy.d" / "a.yml").touch()
    (line,) = json.loads(_child(path).stdout)["lines"]
    assert "policy.yaml:1:1: unknown key nmae" in line


def test_a_missing_policy_is_a_fault_like_others() -> None:
    """With its hint, and not a traceback."""
    child = _child("/nonexistent/policy.yaml")
    assert child.returncode == 78
    (line,) = json.loads(child.stdout)["lines"]
    assert line.startswith("/nonexistent/policy.yaml: no such file (create it: ")


def test_bad_usage_is_said_on_standard_error() -> None:
    """One path, and perhaps the facts of a host."""
    for arguments in ((), ("a", "{}", "c")):
        child = _child(*arguments)
        assert (child.returncode, child.stdout) == (2, "")
        assert child.stderr == "usage: python -m oomguard.policy PATH [HOST]\n"


def test_anything_else_that_fails_is_one_line_on_standard_error(install: Install) -> None:
    """As when the other end of the pipe is full or gone."""
    with open("/dev/full", "w") as full:
        child = _child(install(_POLICY), stdout=full)
    assert child.returncode == 1
    assert child.stderr.splitlines()[0] == (
        "reading the policy failed: OSError: [Errno 28] No space left on device"
    )
    assert "Traceback" not in child.stderr


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ("rules:\n- {cmdline: '(ü|a)+', user: [root, nosuch], oom_score_adj: 1}\n", 0),
        ("vm: {swapiness: 010, a: é}\nrules: [{cmdline: (, exe: a}, x: y]", 78),
        ("a: [", 78),
        (b"\xef\xbb\xbfa: \xff", 78),
    ],
)
def test_nothing_is_imported_once_privileges_are_dropped(
    install: Install, policy: str | bytes, status: int
) -> None:
    """Python's own folders may be closed to nobody, so all modules must be there before."""
    code = """
import sys
from oomguard.policy import child
before = set(sys.modules)
status = child.main(sys.argv[1:])
print(status, sorted(set(sys.modules) - before), file=sys.stderr)
"""
    assert _python(code, install(policy)).stderr == f"{status} []\n"


@needs_root
def test_what_parses_the_policy_is_nobody_and_has_limits(install: Install) -> None:
    """The file is root's alone, and after it is read no privilege is left to steal."""
    path = install(_POLICY)
    os.chmod(path, 0o600)
    code = """
import os, resource, sys
from oomguard.policy import child
status = child.main(sys.argv[1:])
limits = [resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("AS", "CPU", "NOFILE", "CORE")]
print(status, os.getresuid(), os.getresgid(), os.getgroups(), limits, file=sys.stderr)
"""
    child = _python(code, path)
    nobody = (65534,) * 3
    mib = 1024 * 1024
    limits = [(512 * mib, 512 * mib), (20, 20), (64, 64), (0, 0)]
    assert child.stderr == f"0 {nobody} {nobody} [] {limits}\n"


@needs_root
def test_what_cannot_become_nobody_loses_its_capabilities(install: Install) -> None:
    """The shipped unit has no CAP_SETUID (7)."""
    code = """
import os, sys
from oomguard.kernel.capability import drop_effective, own_sets
from oomguard.policy import child
drop_effective(7)
status = child.main(sys.argv[1:])
print(status, os.geteuid(), *own_sets(), file=sys.stderr)
"""
    assert _python(code, install(_POLICY)).stderr == "0 0 0 0 0\n"


@needs_root
def test_it_gives_up_the_priority_of_the_daemon(install: Install) -> None:
    """Before it loads anything: the daemon must react at once, and this can take a second."""
    code = (
        "import os, runpy, sys\n"
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\n"
        "os._exit = sys.exit\n"
        "try:\n    runpy.run_module('oomguard.policy', run_name='__main__')\n"
        "finally:\n    print(os.sched_getscheduler(0) == os.SCHED_OTHER, file=sys.stderr)\n"
    )
    child = _python(code, install(_POLICY))
    assert (child.returncode, child.stderr) == (0, "True\n")
