"""From fork to the `READY=1` datagram, and how long the commands take.

The floor imports pydantic with a model, and PyYAML.
"""

import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target, middle
from benchmarks.host import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.host import Host

ROUNDS = 7
IMPORTS = "import yaml, pydantic\nclass Model(pydantic.BaseModel):\n    field: int\n"


def figures(host: "Host") -> "Iterator[Figure]":
    """Compare with importing what reads the policy."""
    imports = [host.python, "-I", "-c", IMPORTS]
    for rules, target in ((100, Target(50, 100)), (15_000, Target(100, 200))):
        policy = host.policy(rules)
        time.sleep(0.2)  # what has just changed is not kept
        floor, found, kept = [], [], []
        for _ in range(ROUNDS):
            floor.append(_wall(host, imports))
            with host.daemon(policy) as daemon:
                found.append(daemon.ready_seconds)
            with host.daemon(policy, state=daemon.state) as daemon:
                kept.append(daemon.ready_seconds)
        name = f"start to READY, {rules:,} rules"
        yield _figure(name, found, floor, Target(1.3, ratio=True) if rules == 100 else None)
        yield _figure(f"{name}, compiled before", kept, floor, target)
    yield from _verbs(host, imports)


def _verbs(host: "Host", imports: list[str]) -> "Iterator[Figure]":
    """Time whole commands: with the shipped policy, and with many processes and rules."""
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
        with host.sleepers(processes):
            for verb, target in targets.items():
                state = [] if verb == "check" else ["--state-dir", str(host.folder / "no-state")]
                command = host.oomguard(verb, "--policy", str(policy), *state)
                _wall(host, command)
                yield _figure(
                    f"oomguard {verb}, {processes:,} processes, {kind}",
                    [_wall(host, command) for _ in range(ROUNDS)],
                    [_wall(host, imports) for _ in range(ROUNDS)],
                    target,
                )


def _figure(name: str, found: "Sequence[float]", floor: "Sequence[float]", target: Target | None) -> Figure:
    return Figure(name, middle(found) * 1000, "ms", middle(floor) * 1000, target, "imports")


def _wall(host: "Host", command: "Sequence[str]") -> float:
    start = time.monotonic()
    done = subprocess.run(
        command,
        env=host.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode not in (0, 3):  # 3: there is something to change
        raise RuntimeError(done.stderr.decode())
    return time.monotonic() - start
