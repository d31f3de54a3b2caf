"""How long 100 MB of kernel log takes `oomguard postmortem`, beside `grep`, and how much memory."""

import os
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.figure import Figure, Target, middle
from benchmarks.host import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.host import Host

MEGABYTES = 100
REPORTS = 200
TABLE_ROWS = 160
ROUNDS = 3
_NOISE = '[{:12.6f}] audit: type=1400 audit(1.2:{}): apparmor="ALLOWED" operation="open" profile="x" pid={}\n'


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare with grep, for a log of mostly other lines and for one of nothing but reports."""
    report = (REPOSITORY / "tests" / "reports" / "6.12-host.txt").read_text()
    sparse, dense = host.folder / "sparse.log", host.folder / "dense.log"
    _write_sparse(sparse, report)
    _write_dense(dense, report)
    for path, what in ((sparse, f"{REPORTS} reports in it"), (dense, "nothing but reports")):
        grep = ["grep", "-c", "Killed process", str(path)]
        found = [run(host, host.oomguard("postmortem", str(path))) for _ in range(ROUNDS)]
        floor = [run(host, grep).seconds for _ in range(ROUNDS)]
        name = f"postmortem of {MEGABYTES} MB, {what}"
        seconds = middle([one.seconds for one in found])
        yield Figure(name, seconds, "s", middle(floor), Target(5, 10), "grep")
        yield Figure(f"{name}: RSS at most", max(one.rss_mib for one in found), "MiB", None, Target(64, 128))
        path.unlink()


class Done(NamedTuple):
    """What a command took; its largest resident set is at least what started it had."""

    seconds: float
    cpu_seconds: float
    rss_mib: float


def run(host: "Host", command: "Sequence[str]") -> Done:
    """Run a command to its end."""
    start = time.monotonic()
    with subprocess.Popen(command, env=host.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 20):  # grep does not count for /dev/null
            pass
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: lines that name a kill are in no report
        raise RuntimeError(f"{command} ended with {process.returncode}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Done(time.monotonic() - start, cpu_seconds, usage.ru_maxrss / 1024)


def _write_sparse(path: "Path", report: str) -> None:
    lines = MEGABYTES * 1_000_000 // REPORTS // len(_NOISE.format(0, 0, 0))
    noise = "".join(_NOISE.format(number / 7, number, number % 32768) for number in range(lines))
    with path.open("w") as log:
        for _ in range(REPORTS):
            log.write(noise + report)


def _write_dense(path: "Path", report: str) -> None:
    row = next(line for line in report.splitlines(keepends=True) if "systemd-journal" in line)
    larger = report.replace(row, row * TABLE_ROWS)
    with path.open("w") as log:
        for _ in range(MEGABYTES * 1_000_000 // len(larger)):
            log.write(larger)
