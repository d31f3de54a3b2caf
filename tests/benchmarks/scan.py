"""A full pass over all processes."""

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
        _c_scan(host, 1, 0)
        at_first = [_c_scan(host, 1, VALUE)[0][0] for _ in range(3) if _c_scan(host, 1, 0)]
        _c_scan(host, 1, 0)
        with tempfile.TemporaryDirectory(dir=host.folder) as state:
            firsts = [_oomguard(host, rules, state)["passes"][0] for _ in range(3) if _c_scan(host, 1, 0)]
        yield Figure(
            f"{processes:,} processes valued, {rules:,} rules", middle(firsts) / 1e6, "ms",
            middle(at_first) / 1e6, Target(1.3, 2, ratio=True),
        )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=host.folder) as state:
        found = _oomguard(host, rules, state)
    floor = middle([ns / seen for ns, seen, _ in _c_scan(host, ROUNDS)])
    cost = middle(found["passes"][1:]) / found["processes"]
    best = 1.5 if processes == PROCESSES[0] else 1.25
    yield Figure(
        f"pass, nothing to do, a process; {processes:,} processes, {rules:,} rules", cost / 1000, "µs",
        floor / 1000, Target(best, 2, ratio=True),
    )  # fmt: skip
    if rules == RULES[0] and "psutil" in found:
        psutil = found["psutil"] / found["processes"]
        yield Figure(
            f"the same beside names by psutil; {processes:,} processes", cost / 1000, "µs", psutil / 1000,
            Target(0.2, ratio=True), floor_name="psutil",
        )  # fmt: skip


def _oomguard(host: "Host", rules: int, state: str) -> dict[str, Any]:
    output = subprocess.run(
        [host.python, str(HERE / "passes.py"), str(host.policy(rules)), state, str(ROUNDS)],
        check=True,
        stdout=subprocess.PIPE,
        env=host.environment,
    ).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def _c_scan(host: "Host", rounds: int, value: int | None = None) -> list[tuple[int, int, int]]:
    """Return of each round: nanoseconds, processes seen, values written."""
    write = () if value is None else (PREFIX, value)
    lines = host.output("scan", rounds, *write).splitlines()
    return [(int(ns), int(seen), int(written)) for ns, seen, written in map(str.split, lines)]
