"""What the benchmarks run: compiled floors, an interpreter as users have it, and the daemon.

Everything started here ends with this process, whatever becomes of it, and matches none but its
own: all names begin with `ogb`.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
PREFIX = "ogb"
VALUE = 300
"""What the rules set: above what any process here starts with, so nothing has to be trusted."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Have SIGTERM when this process ends: the daemon then still unsubscribes from the connector."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Scheduling(NamedTuple):
    """A way to be scheduled: its name, and the command that runs another so."""

    name: str
    command: tuple[str, ...]


PLAIN = Scheduling("plain", ())
NICE = Scheduling("nice -10", ("nice", "-n", "-10"))
FIFO = Scheduling("SCHED_FIFO 1", ("chrt", "--reset-on-fork", "--fifo", "1"))


class Host:
    """One run's folder with the floors in it, and the interpreter."""

    def __init__(
        self,
        folder: Path,
        source: Path,
        *,
        idle_seconds: int,
        reloads: int,
        attack: str = "",
        picture: Path | None = None,
    ) -> None:
        self.folder = folder
        self.picture = picture
        self.attack = attack
        self.idle_seconds = idle_seconds
        self.reloads = reloads
        folder.chmod(0o755)  # the policy is read as nobody
        self.python = _interpreter()
        self._policies = folder / "policies"
        self._policies.mkdir()
        shutil.copytree(source / "src" / "oomguard", folder / "lib" / "oomguard")
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder / "lib"), "LANG": "C.UTF-8"}
        subprocess.run([self.python, "-m", "compileall", "-q", folder / "lib"], check=True)
        for program in sorted((HERE / "floors").glob("*.c")):
            subprocess.run(
                ["cc", "-O2", "-Wall", "-static", "-o", folder / program.stem, program], check=True
            )

    def tool(self, name: str, *arguments: object) -> list[str]:
        """Return the command line of a floor."""
        return [str(self.folder / name), *map(str, arguments)]

    def named(self, tool: str, name: str) -> str:
        """Return a copy of a tool under another name, which is the process's name then."""
        path = self.folder / name
        if not path.exists():
            shutil.copy(self.folder / tool, path)
        return str(path)

    def output(self, name: str, *arguments: object) -> str:
        """Run a floor and return what it prints."""
        return subprocess.run(
            self.tool(name, *arguments), check=True, text=True, stdout=subprocess.PIPE
        ).stdout

    def oomguard(self, *arguments: str) -> list[str]:
        """Return the command line of oomguard."""
        return [self.python, "-P", "-m", "oomguard", *arguments]

    def policy(self, rules: int, *, resync_seconds: int = 3600, names: "Sequence[str]" = ()) -> Path:
        """Write a policy of `rules` rules with exact names, the given ones first."""
        listed = [*names, *(f"{PREFIX}{number:05d}" for number in range(rules - len(names)))]
        text = [f"resync_interval: {resync_seconds}\nrules:\n"]
        text += [f'  - name: "{name}"\n    oom_score_adj: {VALUE}\n' for name in listed]
        handle, path = tempfile.mkstemp(suffix=".yaml", dir=self._policies)
        with os.fdopen(handle, "w") as file:
            file.writelines(text)
        os.chmod(path, 0o644)
        return Path(path)

    @contextmanager
    def running(self, command: "Sequence[str]", *, ready: str = "") -> "Iterator[subprocess.Popen[str]]":
        """Run a program beside us; it is ended at the end. Waits for the line `ready`."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            if ready and process.stdout.readline().strip() != ready:
                raise RuntimeError(f"{command[0]} did not start")
            yield process
        finally:
            process.terminate()
            process.communicate()

    @contextmanager
    def sleepers(self, count: int, *, names: int = 1000) -> "Iterator[list[int]]":
        """Have `count` processes that sleep and share `names` names."""
        command = self.tool("sleepers", count, PREFIX, names)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            pids = [int(line) for line in iter(process.stdout.readline, "\n")]
            try:
                yield pids
            finally:
                process.stdin.close()

    @contextmanager
    def daemon(
        self, policy: Path, *, scheduling: Scheduling = PLAIN, state: Path | None = None
    ) -> "Iterator[Daemon]":
        """Have a daemon that said READY, with a state folder of its own, or one that another left."""
        daemon = Daemon(self, policy, scheduling, state)
        try:
            daemon.wait_ready()
            yield daemon
        finally:
            daemon.close()


class Daemon:
    """A running daemon. `ready_seconds` is the CPU time from start to READY, its reader's included."""

    def __init__(self, host: Host, policy: Path, scheduling: Scheduling, state: Path | None) -> None:
        self.state = state or Path(tempfile.mkdtemp(prefix="state-", dir=host.folder))
        self.state.chmod(0o755)
        (self.state / "notify").unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.state / "notify"))
        self._socket.settimeout(60)
        self._log = (self.state / "log").open("wb")
        self.ready_seconds = 0.0
        self._process = subprocess.Popen(
            [
                *scheduling.command,
                # As from the unit, whose plain `run` starts no second interpreter.
                *(host.python, "-P", "-s", "-m", "oomguard.daemon", str(policy), str(self.state), "/proc"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=host.environment | {"NOTIFY_SOCKET": str(self.state / "notify")},
            preexec_fn=end_with_parent,  # noqa: PLW1509  # one thread
        )
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Wait for READY=1: at the start, and after each reload."""
        while b"READY=1" not in self._socket.recv(4096):
            pass
        if not self.ready_seconds:
            ended = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[13:15]
            ticks = sum(map(int, ended))  # cutime and cstime: of the reader of the policy, if there was one
            self.ready_seconds = cpu_ns(self.pid) / 1e9 + ticks / os.sysconf("SC_CLK_TCK")

    def reload(self) -> None:
        """Have it read its policy again, and wait until it has."""
        os.kill(self.pid, signal.SIGHUP)
        self.wait_ready()

    def status(self) -> dict[str, Any]:
        """Return its status as it is now: what reloads also writes it."""
        self.reload()
        document: dict[str, Any] = json.loads((self.state / "status.json").read_text())
        return document

    def wait_for(self, key: str, least: int, *, seconds: float = 120.0) -> None:
        """Wait until a number in the status file is at least so much.

        Of 1,000 processes that rename themselves, some may be found only when renames are heard again.
        """
        end = time.monotonic() + seconds
        while (found := json.loads((self.state / "status.json").read_text())[key]) < least:
            if time.monotonic() > end:
                raise RuntimeError(f"{key} is {found}, not {least}\n{self.log()[-2000:]}")
            time.sleep(0.05)

    def log(self) -> str:
        """Return what it said."""
        return (self.state / "log").read_text()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._log.close()


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process's threads, in nanoseconds (sched-stats)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def switches(pid: int) -> int:
    """Return how often a process gave up the CPU to wait: its wake-ups."""
    found = re.search(
        r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


class Memory(NamedTuple):
    """Resident and proportional size, in MiB."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Return the memory of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (int(text.split(f"\n{key}:")[1].split()[0]) / 1024 for key in ("Rss", "Pss"))
    return Memory(rss, pss)


def own_folder() -> Path:
    """Return the folder of this user's runs, which has the interpreter."""
    folder = Path(tempfile.gettempdir()) / f"oomguard-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else")
    return folder


@contextmanager
def alone() -> "Iterator[None]":
    """Have no other run of this user beside this one; BlockingIOError: there is one."""
    folder = os.open(own_folder(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


def _interpreter() -> str:
    """Return an interpreter with oomguard's dependencies: the system's, as users have it."""
    base = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = "\n".join([base, *project["dependencies"]])
    cache = own_folder() / hashlib.sha256(wanted.encode()).hexdigest()[:12]  # checkouts may want others
    python, marker = cache / "bin" / "python", cache / "complete"
    if not marker.exists():
        print(f"building an environment in {cache} …", file=sys.stderr)
        subprocess.run([base, "-m", "venv", "--clear", cache], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *project["dependencies"]], check=True)
        subprocess.run([*pip, "psutil"], check=False)  # one more to compare with
        # It starts itself in every interpreter of the environment.
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"], check=True)
        marker.touch()
    return str(python)
