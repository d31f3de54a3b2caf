"""How cost grows: with processes, rules of each kind, matched processes and events.

Processes are files, since few machines have 100,000 of them: `tree.py` decides on each as the daemon does.
Processor time counts, not the clock. Nothing may grow faster than linearly, and an exec must cost the same
whatever the policy's size. `run.py growth --picture FILE` also draws it.
"""

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.events import cost_of_execs
from benchmarks.figure import Figure, Target
from benchmarks.host import HERE, PREFIX, VALUE, cpu_ns
from benchmarks.plot import Panel, draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROCESSES = (100, 1000, 10_000, 100_000)
RULES = (10, 100, 1000, 10_000, 50_000)
MATCHED = (1, 10, 100, 1000, 10_000)
EXECS = (30, 100, 300, 1000)
RENAMES = (1000, 10_000, 50_000, 100_000, 200_000)
RENAME_SECONDS = 2
ROUNDS = 3
KINDS = {
    "exact names": 'name: "rule{:05d}"',
    "globs": 'name: "rule{:05d}-*"',
    "name and cmdline": 'name: "rule{:05d}", cmdline: "--id={:05d}"',
    "unit": 'unit: "rule{:05d}.service"',
    "user": "user: {}",
}
FLAT = 1.5
"""The most that a process, an exec or an event may cost, in what it costs at the cheapest smaller size."""

_STAT = b"7 (%s) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 50 0 300 0\n"
_STATUS = b"Name:\tx\nState:\tS (sleeping)\nPPid:\t1\nUid:\t4242\t4242\t4242\t4242\nNSpid:\t7\nThreads:\t1\n"
_NAMES = 1000


def figures(host: "Host") -> "Iterator[Figure]":
    """Measure each size, and compare the cost of one with the least."""
    panels = []
    for title, unit, measure in (
        ("A pass, for each process", "processes", _of_processes),
        ("An exec that no rule matches", "rules", _of_rules),
        ("A process that gets its value in a pass", "processes matched", _of_matched),
        ("An event", "events a second", _of_events),
    ):
        panel = Panel(title, unit, measure(host))
        panels.append(panel)
        for name, points in panel.lines.items():
            least = float("inf")
            for size, cost in sorted(points.items()):
                least = min(least, cost)
                figure = f"{panel.title}; {size:,} {panel.unit}, {name}"
                yield Figure(figure, cost, "µs", least, Target(FLAT, ratio=True), "the least so far")
    if host.picture is not None:
        host.picture.write_text(draw(panels, "µs of CPU"))


def _of_processes(host: "Host") -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for count in PROCESSES:
        with _tree(host, count) as proc:
            for rules in (10, 10_000):
                passes = _measure(host, "exact names", rules, proc)["passes"][1:]
                found.setdefault(f"{rules:,} rules", {})[count] = min(passes) / count / 1000
    return found


def _of_rules(host: "Host") -> dict[str, dict[int, float]]:
    with _tree(host, _NAMES) as proc:
        return {
            kind: {rules: min(_measure(host, kind, rules, proc)["execs"]) / 1000 for rules in RULES}
            for kind in KINDS
        }


def _of_matched(host: "Host") -> dict[str, dict[int, float]]:
    """Measure the first pass, which sets the values."""
    found = {}
    for matched in MATCHED:
        with _tree(host, matched, matched) as proc:
            found[matched] = (
                _measure(host, "exact names", _NAMES, proc, rounds=1)["passes"][0] / matched / 1000
            )
    return {f"{_NAMES:,} rules": found}


def _of_events(host: "Host") -> dict[str, dict[int, float]]:
    name = f"{PREFIX}-brief"
    with host.daemon(host.policy(100, names=[f"{PREFIX}-other"])) as daemon:
        execs = {
            rate: min(cost_of_execs(host, daemon.pid, name, programs=2 * rate, rate=rate) for _ in range(3))
            for rate in EXECS
        }
        renames = {rate: min(_cost_of_renames(host, daemon.pid, rate) for _ in range(2)) for rate in RENAMES}
    return {"programs started": execs, "renames of one process": renames}


def _cost_of_renames(host: "Host", pid: int, rate: int) -> float:
    """Return the CPU time that each of many renames by one process costs a receiver, in µs."""
    time.sleep(0.3)
    before = cpu_ns(pid)
    sent = int(host.output("renamer", RENAME_SECONDS, rate).split()[0])
    time.sleep(0.3)
    return (cpu_ns(pid) - before) / sent / 1000


def _measure(host: "Host", kind: str, rules: int, proc: Path, *, rounds: int = ROUNDS) -> dict[str, Any]:
    policy = host.folder / "growth.yaml"
    lines = (f"- {{{KINDS[kind].format(one, one)}, oom_score_adj: {VALUE}}}" for one in range(rules))
    policy.write_text("rules:\n" + "\n".join(lines) + "\n")
    command = [host.python, str(HERE / "tree.py"), str(policy), str(proc), str(rounds)]
    found: dict[str, Any] = json.loads(subprocess.check_output(command, env=host.environment))
    return found


@contextmanager
def _tree(host: "Host", count: int, matched: int = 0) -> "Iterator[Path]":
    """Have `count` processes of 1,000 names; rules with exact names match the first `matched`."""
    root, shared = host.folder / "proc", host.folder / "shared"
    for folder in (root, root / "self", shared):
        folder.mkdir()
    contents = {
        "status": _STATUS,
        "cgroup": b"0::/system.slice/x.service\n",
        "cmdline": b"/usr/bin/other\0",
        "oom_score_adj": b"0\n",
    }
    for number in range(_NAMES):
        for kind in ("rule", "other"):
            comm = b"%s%05d" % (kind.encode(), number)
            contents |= {f"{kind}{number}-comm": comm + b"\n", f"{kind}{number}-stat": _STAT % comm}
    for name, content in contents.items():
        (shared / name).write_bytes(content)
    for number in range(count):
        folder = root / str(number + 2)
        folder.mkdir()
        name = f"{'rule' if number < matched else 'other'}{number % _NAMES}"
        for file in ("comm", "stat"):
            os.link(shared / f"{name}-{file}", folder / file)
        for file in ("status", "cgroup", "cmdline", "oom_score_adj"):
            os.link(shared / file, folder / file)
        if number < matched:  # then it is written
            (folder / "oom_score_adj").unlink()
            (folder / "oom_score_adj").write_bytes(b"0\n")
    try:
        yield root
    finally:
        shutil.rmtree(root)
        shutil.rmtree(shared)
