"""How many leaks in a cgroup are warned of, and how long before: `python tests/benchmarks/leaks.py 15 60`.

For each number, eight leaks fill new cgroups of 110 MiB in so many seconds; they begin at eight moments of a
minute, because passes are a minute apart. As root, on a host whose kills nobody else counts.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAK = ROOT / "tests" / "vm" / "leak.py"
COUNT, LIMIT_MIB = 8, 110
V1 = Path("/sys/fs/cgroup/memory")
BASE, LIMIT = (V1, "memory.limit_in_bytes") if V1.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")


class Daemon:
    """A daemon without rules, and when it said what."""

    def __init__(self, folder: Path) -> None:
        policy = folder / "policy.yaml"
        policy.write_text("rules: []\n")
        command = [
            sys.executable,
            "-m",
            "oomguard",
            "run",
            f"--policy={policy}",
            f"--state-dir={folder}/state",
        ]
        as_a_unit = os.environ | {"WATCHDOG_USEC": "30000000"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=as_a_unit)
        self.said: list[tuple[float, str]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend((time.monotonic(), line) for line in self.process.stderr)

    def before(self, begun: float, ended: float, text: str) -> tuple[float, str] | None:
        """Return how long before the end it said that, and what."""
        said = ((ended - at, line) for at, line in self.said if begun <= at <= ended and text in line)
        return next(said, None)


def leak(daemon: Daemon, seconds: float, number: int, found: list[tuple[float, bool] | None]) -> None:
    """Fill a cgroup; add how long before its kill there was a warning, and whether of this victim."""
    cgroup = BASE / f"ogbleak-{os.getpid()}-{seconds:.0f}-{number}"
    time.sleep(60 / COUNT * number)
    cgroup.mkdir()
    (cgroup / LIMIT).write_text(str(LIMIT_MIB << 20))
    begun = time.monotonic()
    enter = f'echo $$ >{cgroup}/cgroup.procs; exec "$@"'
    command = ["sh", "-c", enter, "sh", sys.executable, str(LEAK), str(LIMIT_MIB / seconds)]
    with subprocess.Popen(command) as process:
        process.wait()
    said = daemon.before(begun, time.monotonic(), f" in /{cgroup.name}: ")
    found.append(None if said is None else (said[0], f"[{process.pid}] next" in said[1]))
    time.sleep(1)
    cgroup.rmdir()


def main() -> int:
    """Print a line for each number of seconds."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # the policy is read as nobody
        daemon = Daemon(Path(folder))
        time.sleep(5)
        for seconds in map(float, sys.argv[1:]):
            found: list[tuple[float, bool] | None] = []
            threads = [
                threading.Thread(target=leak, args=(daemon, seconds, number, found))
                for number in range(COUNT)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            warned = [one for one in found if one is not None]
            before = statistics.median(one[0] for one in warned) if warned else 0
            right = sum(is_right for _, is_right in warned)
            print(
                f"full in {seconds:.0f} s: {len(warned)} of {COUNT} warned, {before:.1f} s before (median), "
                f"{right} of the right victim",
                flush=True,
            )
            time.sleep(15)  # the episode ends
        daemon.process.terminate()
        daemon.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
