"""What it costs when nothing happens."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target
from benchmarks.host import cpu_ns, switches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROCESSES = 1000
EXEC_UID_COMM = 0x206


def figures(host: "Host") -> "Iterator[Figure]":
    """Wait, beside a C guard that hears the same: other programs of the host are not held against us."""
    seconds = host.idle_seconds
    with ExitStack() as stack:
        stack.enter_context(host.sleepers(PROCESSES))
        daemon = stack.enter_context(host.daemon(host.policy(PROCESSES)))
        time.sleep(5)  # until every process is watched
        guard = stack.enter_context(
            host.running(host.tool("guard", "", "-", hex(EXEC_UID_COMM)), ready="ready")
        )
        before = [(cpu_ns(pid), switches(pid)) for pid in (daemon.pid, guard.pid)]
        time.sleep(seconds)
        after = [(cpu_ns(pid), switches(pid)) for pid in (daemon.pid, guard.pid)]
        guard.terminate()
        assert guard.stdout is not None
        events = int(guard.stdout.readline().split()[0])
    (cpu, wakes), (floor_cpu, floor_wakes) = (
        (b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)
    )
    note = f"{PROCESSES:,} processes, {seconds} s, {events} execs of others"
    scale = 60 / seconds
    yield Figure("idle CPU", cpu / 1e6 * scale, "ms/min", floor_cpu / 1e6 * scale, Target(2, 10), note=note)
    yield Figure("idle wake-ups", wakes / seconds, "/s", floor_wakes / seconds, Target(0, 1), note=note)
