"""What 1,000 watched processes cost when nothing happens.

Only tenths of a second without an event count, and none up to 12 s after something waited for memory: after
that, the daemon checks every second.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target
from benchmarks.host import cpu_ns, switches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROCESSES = 1000
EXEC_UID_COMM = 0x206
WINDOW_SECONDS = 0.1
CALM_SECONDS = 12.0
"""How long after a stall it no longer checks what holds memory."""


def figures(host: "Host") -> "Iterator[Figure]":
    """Wait, beside a C guard that hears the same: what other programs of the host cause does not count."""
    seconds = host.idle_seconds
    with ExitStack() as stack:
        stack.enter_context(host.sleepers(PROCESSES))
        daemon = stack.enter_context(host.daemon(host.policy(PROCESSES)))
        time.sleep(5)  # until every process is watched
        guard = stack.enter_context(
            host.running(host.tool("guard", "", "-", hex(EXEC_UID_COMM)), ready="ready")
        )
        cpu, wakes, quiet = _quiet_time(daemon.pid, guard.pid, seconds)
    note = f"{PROCESSES:,} processes; the {quiet:.0f} of {seconds} s in which nothing happened"
    yield Figure("idle CPU", cpu / 1e6 / quiet * 60, "ms/min", None, Target(2, 10), note=note)
    yield Figure("idle wake-ups", wakes / quiet, "/s", None, Target(0, 1))


def _quiet_time(pid: int, guard_pid: int, seconds: float) -> tuple[int, int, float]:
    """Return CPU time, wake-ups and length of the time in which nothing happened."""
    cpu, wakes, quiet = 0, 0, 0.0
    end = time.monotonic() + seconds
    stalled_at = end - seconds
    at, heard, last = time.monotonic(), _happened(guard_pid), (cpu_ns(pid), switches(pid))
    while at < end:
        time.sleep(WINDOW_SECONDS)
        then, heard_then, now = time.monotonic(), _happened(guard_pid), (cpu_ns(pid), switches(pid))
        if heard_then[1] != heard[1]:
            stalled_at = then
        if heard_then == heard and then - stalled_at > CALM_SECONDS:
            cpu += now[0] - last[0]
            wakes += now[1] - last[1]
            quiet += then - at
        at, heard, last = then, heard_then, now
    return cpu, wakes, quiet or float("nan")


def _happened(guard_pid: int) -> tuple[int, str]:
    """Return how often the guard woke, and how long tasks have waited for memory: what wakes the daemon."""
    pressure = Path("/proc/pressure/memory")
    return switches(guard_pid), pressure.read_text().split()[4] if pressure.exists() else ""
