"""A running daemon and the real OOM killer: one entry for each that dies, with the rule that held it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import memcg
from running import Daemon, running, wait_for_value, wait_until

POLICY = """\
rules:
  - name: ok-victim
    oom_score_adj: {at_least: 700}
  - name: ok-other
    oom_score_adj: {at_least: 0}
"""

needs_cgroup = pytest.mark.skipif(bool(memcg.missing()), reason=memcg.missing() or "there can be")
needs_log = pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg cannot be read here")


def kills(daemon: Daemon) -> list[str]:
    """Return what the daemon said of kills."""
    return [
        line
        for line in daemon.log.splitlines()
        if "killed by the kernel" in line or "the kernel killed" in line
    ]


def counted(daemon: Daemon) -> list[dict[str, object]]:
    """Return the kills of the status file."""
    found: list[dict[str, object]] = json.loads((daemon.state / "status.json").read_text())["kills"]
    return found


@contextmanager
def stdin_from(path: str) -> Iterator[None]:
    """Give what is started meanwhile another standard input."""
    before = os.dup(0)
    fd = os.open(path, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@needs_cgroup
@needs_log
def test_kill_is_told_soon_with_its_rule(tmp_path: Path) -> None:
    """Which of two dies is decided by the value that the daemon gave it; it says so."""
    with (
        running(tmp_path, POLICY) as daemon,
        memcg.memory_cgroup("oomguard-kills", limit_mib=64) as cgroup,
        cgroup.hog("ok-other", 36),
        cgroup.hog("ok-victim", 6) as victim,
    ):
        wait_for_value(victim.pid, 700)
        with cgroup.hog("ok-third", 30):
            victim.wait(10)
        wait_until(lambda: len(kills(daemon)) >= 1, daemon.log, seconds=3)
        (said, *_) = kills(daemon)
        assert f"ok-victim[{victim.pid}] was killed by the kernel: " in said
        assert "; uid 0; " in said
        assert "oom_score_adj 700, name=ok-victim, " in said
        assert "/oomguard-kills reached its limit" in said
        wait_until(lambda: bool(counted(daemon)), "the status file")
        assert {"rule": "name=ok-victim", "protected": False, "count": 1} in counted(daemon)
        last = json.loads((daemon.state / "status.json").read_text())["last_kills"]
        assert (victim.pid, "ok-victim", 0) in [(one["pid"], one["comm"], one["uid"]) for one in last]


def descriptors(pid: int, file: str) -> list[str]:
    """Return which descriptors of a process are of that file; others come and go meanwhile."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(fd) == file:
                found.append(fd.name)
    return found


@needs_cgroup
@needs_log
def test_log_may_come_as_standard_input(tmp_path: Path) -> None:
    """As systemd gives it to a service that may not open it; the policy's reader does not get it."""
    with (
        stdin_from("/dev/kmsg"),
        running(tmp_path, POLICY) as daemon,
        memcg.memory_cgroup("oomguard-kills", limit_mib=32) as cgroup,
    ):
        assert descriptors(daemon.process.pid, "/dev/kmsg") == ["0"]
        with cgroup.hog("x) UID:7", 60) as hog:
            hog.wait(10)
        daemon.wait_for(f"x) UID:7[{hog.pid}] was killed by the kernel: ")
        assert "no rule" in kills(daemon)[0]


@needs_cgroup
@needs_log
def test_burst_is_counted_exactly(tmp_path: Path) -> None:
    """The kernel reports ten in five seconds in full, and of the others a line; nobody is forgotten."""
    with running(tmp_path, POLICY) as daemon:
        with memcg.memory_cgroup("oomguard-kills", limit_mib=16) as cgroup:
            for _ in range(14):
                with cgroup.hog("ok-victim", 40):
                    pass
        wait_until(lambda: sum(int(str(row["count"])) for row in counted(daemon)) == 14, "all of them")
        assert len(kills(daemon)) == 14
        assert len(set(kills(daemon))) == 14
        # Some die before they are valued; but whoever had the value had it by the rule, however soon it died.
        valued = [said for said in kills(daemon) if "oom_score_adj 700" in said]
        assert all("name=ok-victim" in said for said in valued), daemon.log


@needs_log
def test_forged_kills_are_not_believed(tmp_path: Path) -> None:
    """Root may write to the log as a program, and what it writes is not the kernel's."""
    forged = b"<0>Out of memory: Killed process 1 (init) total-vm:9kB, anon-rss:9kB, file-rss:0kB"
    with running(tmp_path, POLICY) as daemon:
        try:
            fd = os.open("/dev/kmsg", os.O_WRONLY)
        except OSError:
            pytest.skip("/dev/kmsg cannot be written here")
        os.write(fd, forged)
        os.write(fd, b"<1>a second line, so that there is one to wait for")
        os.close(fd)
        time_of_reading = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > time_of_reading, "the daemon to read it")
        assert kills(daemon) == []


@needs_log
def test_log_that_is_never_quiet_costs_little(tmp_path: Path) -> None:
    """A thousand lines a second wake the daemon five times a second, and take it little time."""
    with running(tmp_path, POLICY) as daemon:
        stat = Path(f"/proc/{daemon.process.pid}/stat")
        status = Path(f"/proc/{daemon.process.pid}/status")
        try:
            fd = os.open("/dev/kmsg", os.O_WRONLY)
        except OSError:
            pytest.skip("/dev/kmsg cannot be written here")
        for _ in range(3):  # other programs that start meanwhile wake it, too
            begun, ticks, switches = time.monotonic(), _ticks(stat), _switches(status)
            for _ in range(20):
                for _ in range(100):
                    os.write(fd, b"<7>oomguard: a line of a log that is never quiet")
                time.sleep(0.1)
            seconds = time.monotonic() - begun
            ticks, switches = _ticks(stat) - ticks, _switches(status) - switches
            assert ticks <= 0.1 * seconds * os.sysconf("SC_CLK_TCK")
            if switches <= 30 * seconds:
                break
        os.close(fd)
        assert switches <= 30 * seconds


def _ticks(stat: Path) -> int:
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _switches(status: Path) -> int:
    waits = "voluntary_ctxt_switches:"
    return sum(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(waits))


@needs_cgroup
def test_without_the_log_kills_are_counted(tmp_path: Path) -> None:
    """In a container that has /dev/null in its place: how many, at each pass, and why not who."""
    mask = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/kmsg && exec "$@"', "sh"]
    if subprocess.run([*mask, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no mount namespace can be made here, as in a chroot")
    policy = "resync_interval: 5\n" + POLICY
    with running(tmp_path, policy, wrapper=mask) as daemon:
        daemon.wait_for("kills are counted, but not their names: /dev/kmsg is not the kernel's log here")
        with memcg.memory_cgroup("oomguard-kills", limit_mib=16) as cgroup:
            for _ in range(2):
                with cgroup.hog("ok-victim", 40):
                    pass
        daemon.wait_for("names unknown: /dev/kmsg")
        said = kills(daemon)[0]
        assert "the kernel killed 2 processes" in said or "the kernel killed 1 process" in said
