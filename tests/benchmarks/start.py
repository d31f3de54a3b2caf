"""CPU time from start to the `READY=1` datagram, and of whole commands.

The floor imports pydantic with a model, and PyYAML.
"""

import resource
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target, middle
from benchmarks.host import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.host import Host

ROUNDS = 7
COMPILE = """\
import sys
from oomguard.core.host import Host
from oomguard.daemon.loop import Loop
from oomguard.daemon.reload import Reloader
from oomguard.reconcile.policy_cache import PolicyCache
policy, state = sys.argv[1:]
cache = PolicyCache(state)
Reloader(policy, Loop(), adopt=print, reject=print, limited=print, cache=cache, observe=Host).first()
"""
IMPORTS = "import yaml, pydantic\nclass Model(pydantic.BaseModel):\n    field: int\n"


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare with importing what reads the policy."""
    imports = [host.python, "-I", "-c", IMPORTS]
    for rules, target in ((100, Target(50, 100)), (15_000, Target(100, 200))):
        policy = host.policy(rules)
        time.sleep(0.2)  # what has just changed is not kept
        floor, found, kept = [], [], []
        for _ in range(ROUNDS):
            floor.append(_cpu(host, imports))
            with host.daemon(policy) as daemon:
                found.append(daemon.ready_seconds)
            with host.daemon(policy, state=daemon.state) as daemon:
                kept.append(daemon.ready_seconds)
        name = f"start to READY, {rules:,} rules: CPU"
        yield _figure(name, found, floor, Target(1.3, ratio=True) if rules == 100 else None)
        yield _figure(f"{name}, compiled before", kept, floor, target)
    yield from _verbs(host, imports)


def _verbs(host: "Host", imports: list[str]) -> "Iterator[Figure]":
    """CPU time of whole commands: with the shipped policy, and with many processes and rules.

    As on a host with a daemon, which has compiled the policy; `check` reads it in any case.
    """
    shipped = REPOSITORY / "etc" / "90-default.yaml"
    for processes, kind, policy, targets in (
        (
            1000,
            "the shipped policy",
            shipped,
            {"check": Target(200, 400), "plan": Target(250, 500), "rank": Target(200, 400)},
        ),
        (
            10_000,
            "15,000 rules",
            host.policy(15_000),
            {"plan": Target(1000, 2000), "rank": Target(500, 1000)},
        ),
    ):
        time.sleep(0.2)
        state = host.folder / f"compiled-{processes}"
        _cpu(host, [host.python, "-P", "-c", COMPILE, str(policy), str(state)])
        with host.sleepers(processes):
            for verb, target in targets.items():
                where = [] if verb == "check" else ["--state-dir", str(state)]
                command = host.oomguard(verb, "--policy", str(policy), *where)
                _cpu(host, command)
                floor, found = [], []
                for _ in range(ROUNDS):
                    floor.append(_cpu(host, imports))
                    found.append(_cpu(host, command))
                name = f"oomguard {verb}, {processes:,} processes, {kind}: CPU"
                yield _figure(name, found, floor, target)


def _figure(name: str, found: "Sequence[float]", floor: "Sequence[float]", target: Target | None) -> Figure:
    return Figure(name, middle(found) * 1000, "ms", middle(floor) * 1000, target, "imports")


def _cpu(host: "Host", command: "Sequence[str]") -> float:
    """Run a command, and return the processor time of it and its children, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        env=host.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode not in (0, 3):  # 3: there is something to change
        raise RuntimeError(done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
