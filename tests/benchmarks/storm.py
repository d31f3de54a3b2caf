"""Programs started as fast as the host can, and more events than a stopped daemon's buffer holds.

The programs are those that no rule matches, by 32 workers, in turn with C. Events of execs are never dropped
by the daemon's own filter, as a storm of renames is.
"""

import os
import signal
import time
from typing import TYPE_CHECKING

from benchmarks.events import EXEC, cost_of_execs
from benchmarks.figure import Figure, Target, middle
from benchmarks.host import FIFO, PREFIX, VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROGRAMS, WORKERS, ROUNDS = 8000, 32, 3
OVERFLOW_SECONDS, RATE = 2, 200_000
"""Of renames while the daemon stands still: its buffer holds 20,000."""
SLEEPERS = 200


def figures(host: "Host") -> "Iterator[Figure]":
    """Start programs, then send more events than fit while nobody reads."""
    yield from _execs(host)
    yield from _overflow(host)


def _execs(host: "Host") -> "Iterator[Figure]":
    def cost(pid: int) -> float:
        return cost_of_execs(host, pid, f"{PREFIX}-brief", programs=PROGRAMS, rate=0, workers=WORKERS)

    found, floor, lost, seconds = [], [], 0, []
    guard = [*FIFO.command, *host.tool("guard", "", VALUE, EXEC)]
    policy = host.policy(100, names=[f"{PREFIX}-other"])
    for _ in range(ROUNDS):
        with host.running(guard, ready="ready") as process:
            floor.append(cost(process.pid))
        with host.daemon(policy, scheduling=FIFO) as daemon:
            before, start = daemon.status()["losses"], time.monotonic()
            found.append(cost(daemon.pid))
            seconds.append(time.monotonic() - start)
            lost += daemon.status()["losses"] - before
    storm = f"{PROGRAMS:,} programs by {WORKERS} workers"
    yield Figure(f"{storm}: losses", lost, "", None, Target(0), note=f"{PROGRAMS / middle(seconds):,.0f}/s")
    yield Figure(f"{storm}: CPU each", middle(found), "µs", middle(floor), Target(2.5, ratio=True))


def _overflow(host: "Host") -> "Iterator[Figure]":
    """Stop the daemon, lose events, start processes that a rule names, and let it go on."""
    with host.daemon(host.policy(1000)) as daemon:
        before = daemon.status()
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            host.output("renamer", OVERFLOW_SECONDS, RATE)
            with host.sleepers(SLEEPERS) as pids:
                os.kill(daemon.pid, signal.SIGCONT)
                start = time.monotonic()
                seconds = _until_valued(pids, start)
                time.sleep(1)
                after = daemon.status()
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
    # Each status takes a reload, which is a pass of its own.
    passes = after["passes"] - before["passes"] - 1
    yield Figure("after ENOBUFS: all valued again", seconds * 1000, "ms", note=f"{SLEEPERS} processes")
    yield Figure("after ENOBUFS: scans", passes, "", None, Target(2), note=f"{after['losses']} losses")


def _until_valued(pids: list[int], start: float) -> float:
    waiting = set(pids)
    while waiting and time.monotonic() - start < 10:
        waiting = {pid for pid in waiting if _value(pid) != VALUE}
    return time.monotonic() - start if not waiting else float("inf")


def _value(pid: int) -> int:
    # One read: a second one, at the first one's length, could see the tail of another value.
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDONLY)
    try:
        return int(os.read(fd, 16))
    finally:
        os.close(fd)
