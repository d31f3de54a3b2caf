"""Processes made to mislead, on the real kernel: every log, file and table stays what it is."""

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from running import Daemon, Program, running, wait_for_value, wait_until

UID = 54321
POLICY = f"rules:\n  - user: {UID}\n    oom_score_adj: 400\n"

NAMES = [
    b"a\nb",
    b"\x1b[2J\x1b[31mred",
    b"[red]x[/red]",
    b"x) Z 1 1 1 0",
    b"\xff\xfe\x80",
    "\u202eexe\u2066".encode(),
    b"a\rb\tc",
    b"\nPRIORITY=0",
    b"\x9b31m",
    b"",
]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's processes take root")


class Crowd:
    """Children that call themselves whatever is asked, as another user."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._silence, self._end = os.pipe()

    def add(self, name: bytes, *, program: bytes = b"", arguments: Sequence[bytes] = ()) -> int:
        """Start one; one that runs a program may give it no arguments at all."""
        pid = os.fork()
        if pid == 0:
            try:
                os.setresuid(UID, UID, UID)
                ctypes.CDLL(None).prctl(15, name)  # PR_SET_NAME
                os.dup2(self._silence, 0)
                if program:
                    vector = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
                    resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, 64 << 20))
                    ctypes.CDLL(None).execve(program, vector, (ctypes.c_char_p * 1)(None))
                time.sleep(60)
            finally:
                os._exit(1)
        self.pids.append(pid)
        return pid

    def end(self) -> None:
        """End all of them."""
        os.close(self._silence)
        os.close(self._end)
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Start nobody yet, and end everybody."""
    made = Crowd()
    yield made
    made.end()


def shown(daemon: Daemon, verb: str, *more: str) -> str:
    """Return what a verb prints, as it is read: UTF-8."""
    places = ["--policy", str(daemon.policy)] + (
        ["--state-dir", str(daemon.state)] if verb != "explain" else []
    )
    command = [sys.executable, "-m", "oomguard", verb, *places, *more]
    run = subprocess.run(command, check=False, capture_output=True)
    assert run.returncode in (0, 3), run.stderr
    return run.stdout.decode("utf-8")


@needs_root
def test_no_name_gets_beyond_its_place(tmp_path: Path, crowd: Crowd) -> None:
    """An entry is one line, status.json is JSON, a row is a row, and all is printable."""
    with running(tmp_path, POLICY) as daemon:
        pids = [crowd.add(name) for name in NAMES]
        for pid in pids:
            wait_for_value(pid, 400)
        wait_until(lambda: b"400" in (daemon.state / "status.json").read_bytes(), "a status with them")
        status = json.loads((daemon.state / "status.json").read_bytes().decode("utf-8"))
        assert all(change["subject"].isprintable() for change in status["recent"])
        daemon.wait_for("oom_score_adj 0 → 400")
        assert all(line.isprintable() for line in daemon.log.splitlines())
        assert all(line[2:3] == ":" for line in daemon.log.splitlines()), daemon.log
        text = shown(daemon, "status") + shown(daemon, "plan")
        text += shown(daemon, "explain", *map(str, pids))
        documents = json.loads(shown(daemon, "explain", *map(str, pids), "--json"))
        assert len(documents) == len(NAMES)
        assert all(document["comm"].isprintable() for document in documents)
        assert text.replace("\n", "").isprintable()
        assert "[red]x[/red]" in text
        assert daemon.stop() == 0


@needs_root
def test_no_arguments_and_two_megabytes_of_them_are_read_alike(tmp_path: Path, crowd: Crowd) -> None:
    """A program may be started without even its name, or with as much as the kernel takes."""
    empty_rule = f"  - user: {UID}\n    cmdline: '^$'\n    oom_score_adj: 300\n"
    longest = b"9" * (32 * os.sysconf("SC_PAGE_SIZE") - 1)  # MAX_ARG_STRLEN
    with running(tmp_path, POLICY.replace("rules:\n", f"rules:\n{empty_rule}")) as daemon:
        huge = crowd.add(b"x", program=b"/bin/sleep", arguments=[b"sleep", *[longest] * 15])
        wait_until(lambda: len(Path(f"/proc/{huge}/cmdline").read_bytes()) > 1_900_000, "2 MB of arguments")
        wait_for_value(huge, 400)
        for arguments in ([], [b""]):  # argc 0, which newer kernels make one empty argument
            wait_for_value(crowd.add(b"x", program=b"/bin/cat", arguments=arguments), 300)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


def test_a_state_folder_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    """With everything that is to be put back, and readable by everyone."""
    program = Program(tmp_path, "oomguard-folder")
    try:
        first = program.start()
        policy = "rules:\n  - name: oomguard-folder\n    oom_score_adj: 400\nresync_interval: 1\n"
        with running(tmp_path, policy) as daemon:
            wait_for_value(first, 400)
            shutil.rmtree(daemon.state)
            second = program.start()
            wait_for_value(second, 400)
            wait_until((daemon.state / "status.json").exists, "a status file")
            wait_until((daemon.state / "ledger").exists, "a ledger")
            assert daemon.state.stat().st_mode & 0o777 == 0o755
            assert daemon.stop() == 0
            command = [sys.executable, "-m", "oomguard", "restore", "--state-dir", str(daemon.state)]
            assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
            wait_for_value(first, 0)
            wait_for_value(second, 0)
    finally:
        program.end()


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.6])
def test_ctrl_c_while_it_starts_ends_it_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    """A terminal sends it to the daemon and to what reads its policy."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []\n")
    command = [sys.executable, "-m", "oomguard", "run", "--policy", str(policy)]
    with subprocess.Popen(
        [*command, "--state-dir", str(tmp_path / "state")], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        is_daemon = b"oomguard.daemon"
        wait_until(lambda: is_daemon in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "the daemon")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert b"Traceback" not in said
    assert process.returncode == 0


def test_a_reload_while_it_starts_does_not_end_it(tmp_path: Path) -> None:
    """As a script does that edits the policy and has just restarted the daemon."""
    policy, state = tmp_path / "policy.yaml", tmp_path / "state"
    policy.write_text("rules: []\n")
    command = [sys.executable, "-m", "oomguard", "run", "--policy", str(policy), "--state-dir", str(state)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        is_daemon = b"oomguard.daemon"
        wait_until(lambda: is_daemon in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "the daemon")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: (state / "status.json").exists() or process.poll() is not None, "status")
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_end_of_its_working_folder_does_not_end_it(tmp_path: Path) -> None:
    """Even if the policy was in it: the previous one stays in force."""
    folder, log = tmp_path / "work", tmp_path / "log"
    folder.mkdir()
    (folder / "policy.yaml").write_text("rules: []\n")
    command = [sys.executable, "-m", "oomguard", "run", "--policy", "policy.yaml", "--state-dir", "../state"]
    with log.open("w") as said, subprocess.Popen(command, stderr=said, cwd=folder) as process:
        wait_until((tmp_path / "state" / "status.json").exists, "status")
        shutil.rmtree(folder)
        rejected = "the previous one stays in force"
        wait_until(lambda: rejected in log.read_text() or process.poll() is not None, rejected)
        process.terminate()
    assert process.returncode == 0
