"""CPU time of a full pass, in turn with a C program that reads the name and value of each process."""

import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure, Target, middle
from benchmarks.host import HERE, PREFIX, VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROCESSES = (1000, 10_000)
RULES = (10, 1000, 15_000)
ROUNDS = 7


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare passes, in-process, with as many names and values read in C."""
    for processes in PROCESSES:
        with host.sleepers(processes):
            for rules in RULES:
                yield from _passes(host, processes, rules)


def _passes(host: "Host", processes: int, rules: int) -> "Iterator[Figure]":
    if processes == PROCESSES[-1] and rules == RULES[-1]:
        yield _valued(host, processes, rules)
    found = _oomguard(host, rules, ROUNDS)
    cost, floor, psutil = (
        middle(found[key][1:]) / found["processes"] / 1000 for key in ("passes", "floors", "psutil")
    )
    name = f"pass, nothing to do, a process; {processes:,} processes, {rules:,} rules"
    yield Figure(name, cost, "µs", floor, Target(1.25, 1.6, ratio=True))
    if rules == RULES[0] and psutil:
        yield Figure(name, cost, "µs", psutil, None, "psutil, names")


def _valued(host: "Host", processes: int, rules: int) -> Figure:
    """Value every process: the first pass of a daemon, with its ledger on file."""
    found, floor = [], []
    for _ in range(3):
        _reset(host)
        floor.append(int(host.output("scan", 1, PREFIX, VALUE).split()[0]))
        _reset(host)
        found.append(_oomguard(host, rules, 1)["passes"][0])
    return Figure(
        f"{processes:,} processes valued, {rules:,} rules", middle(found) / 1e6, "ms", middle(floor) / 1e6,
        Target(3, 4, ratio=True),
    )  # fmt: skip


def _reset(host: "Host") -> None:
    host.output("scan", 1, PREFIX, 0)


def _oomguard(host: "Host", rules: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=host.folder) as state:
        output = subprocess.run(
            [
                host.python,
                str(HERE / "passes.py"),
                str(host.policy(rules)),
                state,
                str(rounds),
                *host.tool("scan", 1),
            ],
            check=True,
            stdout=subprocess.PIPE,
            env=host.environment,
        ).stdout
    found: dict[str, Any] = json.loads(output)
    return found
