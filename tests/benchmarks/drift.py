"""From a foreign write to the value back."""

import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target, middle, percentile
from benchmarks.host import FIFO, PLAIN, PREFIX, VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROCESSES = 100
ROUNDS = 2
"""Writes a process. Each costs its user one of the 600 checks and corrections that it has at once. Beyond
them, only a pass corrects a value."""


def figures(host: "Host") -> "Iterator[Figure]":
    """Write over the values of processes that are watched."""
    for scheduling, target in ((PLAIN, None), (FIFO, Target(300, 1000))):
        with host.sleepers(PROCESSES) as pids:
            host.output("scan", 1, PREFIX, VALUE)
            healer = [*scheduling.command, *host.tool("healer", VALUE, *pids)]
            with host.running(healer, ready="ready"):
                floor = _poke(host, pids)
            with host.daemon(host.policy(PROCESSES), scheduling=scheduling) as daemon:
                time.sleep(4)  # a process is watched once it is 3 s old
                daemon.status()
                daemon.wait_for("watches", PROCESSES)
                found = _poke(host, pids)
        name = f"foreign write healed, {PROCESSES} watched, {scheduling.name}"
        yield Figure(f"{name}: median", middle(found), "µs", middle(floor), target)
        yield Figure(f"{name}: p99", percentile(found, 99), "µs", percentile(floor, 99))


def _poke(host: "Host", pids: list[int]) -> list[float]:
    lines = [line for _ in range(ROUNDS) for line in host.output("poke", VALUE, *pids).split()]
    return [int(line) / 1000 if int(line) >= 0 else float("inf") for line in lines]
