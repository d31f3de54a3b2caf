"""From exec to the value written, as the program itself reads it from `main` on: the median of three rounds.

In the exec bomb 32 workers start 8,000 programs as fast as possible; each ends after 1 ms of CPU time, like
an `ls`. The C floor has the same scheduling.
"""

import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

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

NEVER = float("inf")
ROUNDS = 3
SITUATIONS = ("quiet", "4 spinning", "exec bomb")


class Latencies(NamedTuple):
    """In µs, by the clock and of the program's own CPU time; NEVER for one that got no value."""

    wall: list[float]
    ran: list[float]

    @classmethod
    def read(cls, text: str) -> "Latencies":
        """Parse what `execer` prints: two times a program, in ns."""
        values = [int(word) / 1000 if word != "-1" else NEVER for word in text.split()]
        return cls(values[::2], values[1::2])


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare with the C guard, scheduled the same way, in three situations."""
    policy = host.policy(100, names=[PROBE])
    for situation in SITUATIONS:
        for scheduling in (PLAIN, NICE, FIFO):
            guard = [*scheduling.command, *host.tool("guard", PROBE, VALUE, EXEC)]
            found, floor = [], []
            for _ in range(ROUNDS):  # in turn: what else the host does hits both
                with host.running(guard, ready="ready"):
                    floor.append(_measure(host, situation))
                with host.daemon(policy, scheduling=scheduling):
                    time.sleep(0.3)
                    found.append(_measure(host, situation))
            yield from _figures(situation, scheduling, found, floor)


def _figures(
    situation: str, scheduling: "Scheduling", found: list[Latencies], floor: list[Latencies]
) -> "Iterator[Figure]":
    name = f"exec → value, {situation}, {scheduling.name}"
    as_the_unit = scheduling is FIFO
    wall, floor_wall = [each.wall for each in found], [each.wall for each in floor]
    yield Figure(
        f"{name}: median", over(wall, 50), "µs", over(floor_wall, 50),
        Target(1.3, 2, ratio=True) if situation == "quiet" else None,
    )  # fmt: skip
    yield Figure(f"{name}: p99", over(wall, 99), "µs", over(floor_wall, 99))
    ran, floor_ran = [each.ran for each in found], [each.ran for each in floor]
    yield Figure(
        f"{name}: p99 of the time it ran", over(ran, 99), "µs", over(floor_ran, 99),
        Target(100, 300) if as_the_unit else None,
    )  # fmt: skip
    if situation == "exec bomb":
        yield Figure(
            f"{name}: valued before they exit", _valued(wall), "%", _valued(floor_wall),
            Target(99, 95, at_least=True) if as_the_unit else None,
        )  # fmt: skip


def over(rounds: list[list[float]], percent: float) -> float:
    """Return the percentile of each round, and of these the median."""
    return middle([percentile(values, percent) for values in rounds])


def _valued(rounds: list[list[float]]) -> float:
    return middle([100 * sum(value < NEVER for value in values) / len(values) for values in rounds])


def _measure(host: "Host", situation: str) -> Latencies:
    probe = host.named("probe", PROBE)
    out = host.folder / "latencies"
    with ExitStack() as stack:
        if situation == "4 spinning":
            stack.enter_context(host.running(host.tool("spin", 4)))
            time.sleep(0.2)
        if situation == "exec bomb":
            command = host.tool("execer", 8000, 0, 32, probe, VALUE, WORK_US)
        else:
            command = host.tool("execer", 400, 200, 1, probe, VALUE, _PATIENCE_US)
        with out.open("wb") as file:
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL)
    return Latencies.read(out.read_text())
