"""How much memory it takes (`smaps_rollup`), and whether it grows.

The floor is `python -I -c 'import time; time.sleep(...)'`.
"""

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target
from benchmarks.host import Memory, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Daemon, Host

RULES = (10, 1000, 15_000)
ROUNDS, SLEEPERS = 10, 1000
GROWTH = Target(5, 10)


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare with an interpreter that sleeps."""
    with _bare(host) as pid:
        bare = memory(pid)
        for rules in RULES:
            target = Target(13.2, 15) if rules > 1000 else Target(1.65, 1.9, ratio=True)
            with host.daemon(host.policy(rules)) as daemon:
                time.sleep(1)
                found = memory(daemon.pid)
            yield Figure(f"RSS, {rules:,} rules", found.rss, "MiB", bare.rss, target, "bare Python")
            yield Figure(f"PSS, {rules:,} rules", found.pss, "MiB", bare.pss, None, "bare Python")
        with host.daemon(host.policy(SLEEPERS)) as daemon:
            time.sleep(1)
            before = memory(daemon.pid)
            _come_and_go(host, daemon)
            # What it takes to keep that many at once is no growth; what more each time takes is.
            once = memory(daemon.pid)
            yield _growth(f"{SLEEPERS:,} kept processes at once", before, once, None)
            for _ in range(ROUNDS - 1):
                _come_and_go(host, daemon)
            yield _growth(
                f"{(ROUNDS - 1) * SLEEPERS:,} more, one lot after the other", once, memory(daemon.pid)
            )
        with host.daemon(host.policy(SLEEPERS)) as daemon:
            time.sleep(1)
            before = memory(daemon.pid)
            for _ in range(host.reloads):
                daemon.reload()
            yield _growth(f"{host.reloads:,} reloads", before, memory(daemon.pid))


def _growth(name: str, before: Memory, after: Memory, target: Target | None = GROWTH) -> Figure:
    growth = 100 * (after.rss / before.rss - 1)
    note = f"{before.rss:.1f} → {after.rss:.1f} MiB"
    return Figure(f"RSS growth after {name}", growth, "%", None, target, note=note)


def _come_and_go(host: "Host", daemon: "Daemon") -> None:
    with host.sleepers(SLEEPERS):
        daemon.wait_for("processes_held", SLEEPERS)
        time.sleep(3.5)  # long enough to be watched, too
    daemon.reload()


@contextmanager
def _bare(host: "Host") -> "Iterator[int]":
    process = subprocess.Popen([host.python, "-I", "-c", "import time; time.sleep(3600)"])
    try:
        time.sleep(0.5)
        yield process.pid
    finally:
        process.kill()
        process.wait()
