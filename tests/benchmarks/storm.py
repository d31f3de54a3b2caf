"""More events than anybody should have to read: a process renames itself, and the receiver's CPU time counts.

For ENOBUFS, the daemon is stopped until its buffer overflows.
"""

import os
import signal
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target
from benchmarks.host import VALUE, cpu_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

EXEC_AND_COMM = 0x202
SECONDS = 2
RATES = (100_000, 200_000)
OVERFLOW = 60_000
"""Events while the daemon stands still: three times what its buffer holds."""
SLEEPERS = 200


def figures(host: "Host") -> "Iterator[Figure]":
    """Send events at a rate, then more than fit while nobody reads."""
    for rate in RATES:
        yield from _drain(host, rate)
    yield from _overflow(host)


def _drain(host: "Host", rate: int) -> "Iterator[Figure]":
    with host.running(host.tool("guard", "", "-", hex(EXEC_AND_COMM)), ready="ready") as guard:
        floor = cost_of_events(host, guard.pid, rate)
    with host.daemon(host.policy(100)) as daemon:
        before = daemon.status()["losses"]
        sent, cost = _storm(host, daemon.pid, rate)
        lost = daemon.status()["losses"] - before
    at = f"event storm, {sent / SECONDS:,.0f} of {rate:,}/s sent"
    yield Figure(f"{at}: losses", lost, "", None, Target(0))
    yield Figure(f"{at}: CPU an event", cost, "µs", floor, Target(2.5, ratio=True))


def _storm(host: "Host", pid: int, rate: int) -> tuple[float, float]:
    """Return events sent a second, and the CPU time each cost, in µs."""
    time.sleep(0.3)
    before = cpu_ns(pid)
    sent = int(host.output("renamer", SECONDS, rate).split()[0])
    time.sleep(0.3)
    return sent, (cpu_ns(pid) - before) / sent / 1000


def cost_of_events(host: "Host", pid: int, rate: int) -> float:
    """Return the CPU time that each of many events costs a receiver, in µs."""
    return _storm(host, pid, rate)[1]


def _overflow(host: "Host") -> "Iterator[Figure]":
    """Stop the daemon, lose events, start processes that a rule names, and let it go on."""
    with host.daemon(host.policy(1000)) as daemon:
        before = daemon.status()
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            host.output("renamer", OVERFLOW / 200_000, 200_000)
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
