"""CPU time for each program started: /proc/PID/schedstat around 800 programs at 200/s.

The median of three rounds, in turn with C.
"""

import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target, middle
from benchmarks.host import HERE, PREFIX, VALUE, cpu_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

EXEC = 0x2
PROGRAMS = 800
RATE = 200
ROUNDS = 3
UNMATCHED, MATCHED = "no rule matches", "a rule matches"


def figures(host: "Host") -> "Iterator[Figure]":
    """Start programs at a steady rate, one that no rule names and one that a rule does."""
    for case, target in ((UNMATCHED, Target(1.7, 2.5, ratio=True)), (MATCHED, Target(3.5, 5, ratio=True))):
        name = f"{PREFIX}-brief"
        is_matched = case == MATCHED
        policy = host.policy(100, names=[name if is_matched else f"{PREFIX}-other"])
        found, floor, python = [], [], []
        guard = host.tool("guard", name if is_matched else "", VALUE, EXEC)
        for _ in range(ROUNDS):
            with host.running(guard, ready="ready") as process:
                floor.append(cost_of_execs(host, process.pid, name))
            if not is_matched:
                command = [host.python, "-I", str(HERE / "guard.py"), f"{PREFIX}-none"]
                with host.running(command, ready="ready") as process:
                    python.append(cost_of_execs(host, process.pid, name))
            with host.daemon(policy) as daemon:
                found.append(cost_of_execs(host, daemon.pid, name))
        figure = f"CPU per exec at {RATE}/s, {case}"
        yield Figure(figure, middle(found), "µs", middle(floor), target)
        if python:
            yield Figure(figure, middle(found), "µs", middle(python), None, "Python")


def cost_of_execs(
    host: "Host", pid: int, name: str, *, programs: int = PROGRAMS, rate: int = RATE, workers: int = 1
) -> float:
    """Return the CPU time that each program costs the process `pid`, in µs; at rate 0, flat out."""
    program = host.named("probe", name)
    time.sleep(0.3)
    before = cpu_ns(pid)
    # It lives for 300 µs of CPU time: what is gone before it is looked at would cost nothing.
    subprocess.run(
        host.tool("execer", programs, rate, workers, program, -1001, 300),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return (cpu_ns(pid) - before) / programs / 1000
