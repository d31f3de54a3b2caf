"""From exec to the value written, as the program itself sees it."""

import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target, middle, percentile
from benchmarks.host import FIFO, NICE, PLAIN, PREFIX, VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host, Scheduling

PROBE = f"{PREFIX}-probe"
EXEC = 0x2
WORK_US = 1000
"""CPU time of each program of the exec bomb: that of a small one, such as `ls`."""

_PATIENCE_US = 100_000
"""CPU time a probe waits where latency itself is asked."""

SITUATIONS = ("quiet", "4 spinning", "exec bomb")


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare with the C guard, scheduled the same way, in three situations."""
    policy = host.policy(100, names=[PROBE])
    for situation in SITUATIONS:
        for scheduling in (PLAIN, NICE, FIFO):
            guard = [*scheduling.command, *host.tool("guard", PROBE, VALUE, EXEC)]
            with host.running(guard, ready="ready"):
                floor = _measure(host, situation)
            with host.daemon(policy, scheduling=scheduling):
                time.sleep(0.3)
                found = _measure(host, situation)
            yield from _figures(situation, scheduling, found, floor)


def _figures(
    situation: str, scheduling: "Scheduling", found: list[float], floor: list[float]
) -> "Iterator[Figure]":
    seen, floor_seen = [v for v in found if v >= 0], [v for v in floor if v >= 0]
    name = f"exec → value, {situation}, {scheduling.name}"
    as_the_unit = scheduling is FIFO
    yield Figure(
        f"{name}: median", middle(seen), "µs", middle(floor_seen),
        Target(2.1, 3, ratio=True) if situation == "quiet" else None,
    )  # fmt: skip
    yield Figure(
        f"{name}: p99", percentile(_with_missed(found), 99), "µs", percentile(_with_missed(floor), 99),
        Target(300, 1000) if as_the_unit and situation != "quiet" else None,
    )  # fmt: skip
    if situation == "exec bomb":
        yield Figure(
            f"{name}: valued before they exit", 100 * len(seen) / len(found), "%",
            100 * len(floor_seen) / len(floor),
            Target(99, 95, at_least=True) if as_the_unit else None,
        )  # fmt: skip


def _measure(host: "Host", situation: str) -> list[float]:
    """Return the latencies in µs; -1 for a program that got no value."""
    probe = host.named("probe", PROBE)
    out = host.folder / "latencies"
    with ExitStack() as stack:
        if situation == "4 spinning":
            stack.enter_context(host.running(host.tool("spin", 4)))
            time.sleep(0.2)
        if situation == "exec bomb":
            command = host.tool("execer", 8000, 0, 32, probe, VALUE, WORK_US)
        else:
            command = host.tool("execer", 600, 200, 1, probe, VALUE, _PATIENCE_US)
        with out.open("wb") as file:
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL)
    return [value / 1000 if (value := int(line)) >= 0 else -1.0 for line in out.read_text().split()]


def _with_missed(values: list[float]) -> list[float]:
    return [value if value >= 0 else float("inf") for value in values]
