"""CPU time that others can make the daemon use, at the unit's real-time priority, and who suffers from it.

The daemon and a program that only computes share one CPU; the attack, by an ordinary user, has another one.
Both run at a better nice value than whatever else this host does, so that it does not count.
"""

import json
import os
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.figure import Figure, Target, middle, percentile
from benchmarks.host import PREFIX, VALUE, Scheduling, cpu_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

ATTACKER = f"{PREFIX}-attacker"
PROBE = f"{PREFIX}-probe"
USER = 4242
BURST_SECONDS = 10
AFTER_SECONDS = 8
_PROBES, _PROBES_A_SECOND = 120, 20
_LASTS_SECONDS = 60
"""Longer than everything that is measured during an attack; then it is ended."""
_PATIENCE_US = 400_000
_GROUP = 'echo -15 >/proc/self/autogroup; exec "$@"'
NICE = ("setsid", "nice", "-n", "-15", "sh", "-c", _GROUP, "sh")
"""Better than others, also where the kernel schedules sessions before processes (sched_autogroup)."""


class Attack(NamedTuple):
    """A way to keep the daemon busy: a mode of the attacker, how many processes, and how often each."""

    name: str
    how: str
    processes: int = 1
    rate: int = 0
    as_root: bool = False
    """Where the kernel wants it: what is attacked through is root's, a file server for example."""


ATTACKS = (
    Attack("nothing", ""),
    Attack("one process rewrites its value", "rewrite"),
    Attack("1,500 processes rewrite theirs, 10/s each", "rewrite", 1500, 10),
    Attack("1,500 processes rewrite theirs, flat out", "rewrite", 1500),
    Attack("one process opens its value with O_TRUNC", "open"),
    Attack("1,500 processes open theirs, 10/s each", "open", 1500, 10),
    Attack("one process renames itself", "rename"),
    Attack("1,500 processes rename themselves, 10/s each", "rename", 1500, 10),
    Attack("1,500 processes rename themselves, flat out", "rename", 1500),
    Attack("threads that name themselves and end", "threads", 4),
    Attack("a root daemon changes its effective uid, 1,000/s", "euid", 1, 1000, as_root=True),
    Attack("a process changes its real uid, flat out", "uid", as_root=True),
    Attack("exec bomb, 32 workers", "exec", 32),
    Attack("32 processes run themselves again", "reexec", 32),
    Attack("fork bomb, 32 workers", "fork", 32),
)


def figures(host: "Host") -> "Iterator[Figure]":
    """Attack in each way in turn; `--attack` chooses some."""
    for attack in ATTACKS:
        if host.attack in attack.name:
            yield from _figures(host, attack)


def _figures(host: "Host", attack: Attack) -> "Iterator[Figure]":
    names = [PROBE, ATTACKER, f"{PREFIX}-attacking"]
    policy = host.policy(100, names=names, resync_seconds=60)
    last = str(max(os.sched_getaffinity(0)))
    scheduling = Scheduling("pinned", ("taskset", "-c", last, "chrt", "--reset-on-fork", "--fifo", "1"))
    alone = [_alone(host, attack, last)]
    with ExitStack() as stack:
        daemon = stack.enter_context(host.daemon(policy, scheduling=scheduling))
        start, start_cpu = time.monotonic(), cpu_ns(daemon.pid)
        if attack.how:
            attacker = stack.enter_context(host.running(_command(host, attack), ready="ready"))
        time.sleep(1)
        daemon.reload()  # children of what a rule matches are found by a pass, and watched from then on
        time.sleep(max(0.0, start + BURST_SECONDS - time.monotonic()))
        burst_percent = (cpu_ns(daemon.pid) - start_cpu) / (time.monotonic() - start) / 1e7
        shares = _shares(host, last, daemon.pid)
        latencies = _probe(host)
        assert not attack.how or attacker.poll() is None, "the attack ended before it was measured"
        status = json.loads((daemon.state / "status.json").read_text())
    alone.append(_alone(host, attack, last))  # before and after: the clock of a shared machine drifts
    name = f"attack, {attack.name}"
    reached = [value for value in latencies if value < float("inf")]
    yield Figure(f"{name}: CPU in the first {BURST_SECONDS} s", burst_percent, "%")
    yield Figure(f"{name}: CPU after that", shares.daemon, "%", None, Target(10))
    yield Figure(
        f"{name}: CPU left to a program beside it", shares.victim, "%", sum(alone) / 2,
        Target(0.9, ratio=True, at_least=True), "no daemon",
    )  # fmt: skip
    yield Figure(f"{name}: exec → value, median", middle(latencies), "µs")
    yield Figure(
        f"{name}: exec → value, p99", percentile(latencies, 99), "µs", None, None, "C",
        f"{len(reached)} of {len(latencies)}; {status['losses']} losses, {status['passes']} passes, "
        f"{len(status['contended'])} contended, {status['outcomes']['applied']} writes",
    )  # fmt: skip


def _alone(host: "Host", attack: Attack, last: str) -> float:
    """Return the share of a CPU that the program beside it has when there is no daemon."""
    with ExitStack() as stack:
        if attack.how:
            stack.enter_context(host.running(_command(host, attack), ready="ready"))
        return _shares(host, last).victim


class _Shares(NamedTuple):
    """CPU time of the program beside the daemon, and of the daemon if there is one, in percent of a CPU."""

    victim: float
    daemon: float


def _shares(host: "Host", last: str, daemon: int | None = None) -> _Shares:
    """Measure while nothing else of ours runs: programs that are probed push others to this CPU."""
    with host.running([*NICE, "taskset", "-c", last, *host.tool("spin", 1)]) as victim:
        time.sleep(1)
        pids = [victim.pid] if daemon is None else [victim.pid, daemon]
        at, before = time.monotonic_ns(), [cpu_ns(pid) for pid in pids]
        time.sleep(AFTER_SECONDS)
        after, seconds = [cpu_ns(pid) for pid in pids], time.monotonic_ns() - at
        used = [100 * (end - begin) / seconds for begin, end in zip(before, after, strict=True)]
    return _Shares(used[0], sum(used[1:]))


def _command(host: "Host", attack: Attack) -> list[str]:
    """Return what attacks, from the first CPU."""
    program = host.named("attacker", ATTACKER)
    command = [program, attack.how, attack.processes, attack.rate, _LASTS_SECONDS]
    line = " ".join(map(str, command))
    user = [] if attack.as_root else ["setpriv", "--reuid", str(USER), "--clear-groups"]
    first = str(min(os.sched_getaffinity(0)))
    return [*NICE, "taskset", "-c", first, *user, "sh", "-c", f"echo ready; exec {line}"]


def _probe(host: "Host") -> list[float]:
    """Return how long programs waited for their value, in µs."""
    first = str(min(os.sched_getaffinity(0)))
    command = host.tool(
        "execer", _PROBES, _PROBES_A_SECOND, 1, host.named("probe", PROBE), VALUE, _PATIENCE_US
    )
    # At a real-time priority, or it would count the time that a program waits for a CPU beside the attack.
    run = subprocess.run(
        ["taskset", "-c", first, "chrt", "--rr", "1", *command], check=True, capture_output=True, text=True
    )
    walls = run.stdout.split()[::2]
    return [int(text) / 1000 if text != "-1" else float("inf") for text in walls]
