#!/usr/bin/env python3
"""Predicts a victim, runs out of memory for real, and compares: rank_rounds.py cgroup|host ROUNDS SEED.

Each round has a random population, random values, and one process that grows. When it has nearly
reached the limit, `rank` says who goes first; then it grows on, and the kernel log says who went. Prints
one line of JSON a round, with the numbers of both, so that a miss can be explained. Needs root and
oomguard's Python.
"""

import json
import mmap
import os
import random
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from oomguard.core.policy import Policy
from oomguard.diagnose.ranker import Ranker
from oomguard.diagnose.this_host import ThisHost
from oomguard.kernel.memcg import open_memcg
from oomguard.kernel.mountinfo import Mount, find_cgroups, parse_mounts
from oomguard.kernel.procfs import Procfs
from oomguard.oom.ranking import Ranked
from oomguard.reconcile.preview import Preview

MIB = 1 << 20
CGROUP = "/rank-rounds"
CGROUP_LIMIT_MIB = 96
CGROUP_MARGIN = MIB
HOST_MARGIN_KIB = 24 * 1024
STEP = 256 * 1024
PATIENCE_SECONDS = 240.0

KILLED = re.compile(r"Killed process (\d+)")
ROW = re.compile(r"\[ *(\d+)\] +\d+ +\d+ +\d+ +(.*?) +(-?\d+) +\S*$")


class Member(NamedTuple):
    """A process of the population: how much it takes, and the value it has."""

    mib: int
    value: int


def main() -> int:
    """Play the rounds."""
    domain, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    Path("/proc/self/oom_score_adj").write_text("-1000" if can_protect() else "0")
    preview = ThisHost("/nonexistent").open_preview(Policy())
    for number in range(rounds):
        chance = random.Random(f"{domain}-{seed}-{number}")
        outcome = play(preview, domain, chance)
        print(json.dumps({"round": number} | outcome), flush=True)
    return 0


def can_protect() -> bool:
    """Whether this process may give negative values, and be immune itself."""
    effective = re.search(r"^CapEff:\t(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) & 1 << 24)


def population(chance: random.Random, domain: str) -> tuple[str, list[Member], Member]:
    """Return the kind of round, its processes, and the one that grows: to 0 MiB if it fills files only."""
    largest = 8 if domain == "cgroup" else 40
    kind = chance.choice(("wide", "narrow", "sizes", "equal"))
    members = []
    for _ in range(chance.randint(3, 7)):
        value = {"wide": chance.randint(-900, 1000), "narrow": chance.randint(-40, 40)}.get(kind, 0)
        mib = 4 if kind == "equal" else chance.randint(1, largest)
        members.append(Member(mib, max(value, 0) if not can_protect() else value))
    if domain == "host":
        members[0] = Member(members[0].mib, abs(members[0].value))  # or the scenario may lose its agent
    grower = Member(chance.choice((0, 0, 1)), chance.randint(0, 300))
    return kind, members, grower


def play(preview: Preview, domain: str, chance: random.Random) -> dict[str, Any]:
    """Play one round."""
    kind, members, grower = population(chance, domain)
    procfs = preview.planner.procfs
    folder = make_cgroup(procfs) if domain == "cgroup" else None
    memcg = open_memcg(procfs, CGROUP) if folder else None
    ranker = Ranker(preview, memcg, has_policy=False)
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    children: list[int] = []
    go, told = os.pipe()
    try:
        for member in members:
            children.append(start(folder, member.value, lambda mib=member.mib: hold(mib)))  # type: ignore[misc]
        limit = nearly_full(procfs, folder)
        children.append(
            start(folder, grower.value, lambda: grow(limit, go, take if grower.mib else Filler()))
        )
        view = ranker.look()
        ranked = view.ranked
        os.write(told, b"x")
        report, victim = wait_for_kill(log)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
        for fd in (log, go, told):
            os.close(fd)
        if folder:
            remove_cgroup(folder)
    first = ranked[0]
    taken = next((one for one in ranked if one.candidate.identity.pid == victim), None)
    return {
        "kind": kind,
        "total_pages": view.domain.total_pages,
        "grows": "itself" if grower.mib else "a file",
        "hit": victim == first.candidate.identity.pid,
        "equal": taken is not None and taken.now.badness == first.now.badness,
        "predicted": describe(first, children),
        "second": describe(ranked[1], children),
        "victim": None if taken is None else describe(taken, children),
        "victim_pid": victim,
        "kernel": {pid: row for pid, row in report.items() if pid in (victim, first.candidate.identity.pid)},
    }


def describe(one: Ranked, children: list[int]) -> dict[str, Any]:
    """Return a process's numbers as `rank` saw them. The last that was started is the one that grows."""
    candidate = one.candidate
    pid = candidate.identity.pid
    return {
        "pid": pid,
        "role": "grower" if pid == children[-1] else "member" if pid in children else "bystander",
        "badness": one.now.badness,
        "usage": list(candidate.usage),
        "value": candidate.oom_score_adj,
    }


def start(folder: str | None, value: int, act: Callable[[], None]) -> int:
    """Fork a process of that value, in the cgroup; return when it says that it is ready."""
    ready, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if folder:
                Path(folder, "cgroup.procs").write_text(str(os.getpid()))
            Path("/proc/self/oom_score_adj").write_text(str(value))
            os.dup2(says, 9)
            act()
        finally:
            os._exit(1)
    os.close(says)
    select.select([ready], [], [], PATIENCE_SECONDS)
    os.close(ready)
    return pid


def hold(mib: int) -> None:
    """Take memory and keep it."""
    kept = [take(MIB) for _ in range(mib)]
    os.write(9, b"x")
    while kept:
        signal.pause()


def grow(nearly_full: Callable[[], bool], go: int, take: Callable[[int], object]) -> None:
    """Take memory until there is little left; then, when told, until somebody dies."""
    kept = []
    while not nearly_full():
        kept.append(take(STEP))
    os.write(9, b"x")
    os.read(go, 1)
    while True:
        kept.append(take(STEP))


class Filler:
    """Takes memory for a file that it does not map, so that its own badness does not move."""

    def __init__(self) -> None:
        self._file = os.memfd_create("filler")

    def __call__(self, size: int) -> None:
        """Take more."""
        os.write(self._file, b"x" * size)


def take(size: int) -> mmap.mmap:
    """Map memory, and write to it all."""
    chunk = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    chunk.write(b"x" * size)
    return chunk


def nearly_full(procfs: Procfs, folder: str | None) -> Callable[[], bool]:
    """Return what tells that memory is all but gone."""
    if folder is None:
        return lambda: available_kib() < HOST_MARGIN_KIB
    name = "memory.current" if is_v2(procfs) else "memory.usage_in_bytes"
    used = Path(folder, name)
    return lambda: int(used.read_text()) > CGROUP_LIMIT_MIB * MIB - CGROUP_MARGIN


def available_kib() -> int:
    """Return what the kernel thinks can still be had."""
    found = re.search(r"^MemAvailable: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def find_memory(procfs: Procfs) -> Mount:
    """Find the mount of the memory controller."""
    mount = find_cgroups(parse_mounts(procfs.own_mounts()), "memory")
    assert mount is not None
    return mount


def is_v2(procfs: Procfs) -> bool:
    """Tell which version the memory controller is of."""
    return find_memory(procfs).kind == "cgroup2"


def make_cgroup(procfs: Procfs) -> str:
    """Make an empty cgroup with a limit, and return its folder."""
    mount = find_memory(procfs).point
    folder = mount + CGROUP
    if is_v2(procfs):
        Path(mount, "cgroup.subtree_control").write_text("+memory")
    os.makedirs(folder, exist_ok=True)
    name = "memory.max" if is_v2(procfs) else "memory.limit_in_bytes"
    Path(folder, name).write_text(str(CGROUP_LIMIT_MIB * MIB))
    return folder


def remove_cgroup(folder: str) -> None:
    """Remove it; the last process may take a moment to leave."""
    for _ in range(100):
        try:
            os.rmdir(folder)
        except OSError:
            time.sleep(0.05)
        else:
            return


def wait_for_kill(log: int) -> tuple[dict[int, str], int]:
    """Return the kernel's table of tasks, by pid, and the first that it killed."""
    rows: dict[int, str] = {}
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        select.select([log], [], [], 1.0)
        try:
            record = os.read(log, 8192).decode("utf-8", "replace")
        except (BlockingIOError, BrokenPipeError):
            continue
        if row := ROW.search(record.splitlines()[0]):
            rows[int(row[1])] = f"{row[2]} {row[3]}"
        if killed := KILLED.search(record):
            return rows, int(killed[1])
    raise TimeoutError("nobody was killed")


if __name__ == "__main__":
    sys.exit(main())
