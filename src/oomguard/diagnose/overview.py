"""An overview of this host: memory, the kill order, and problems."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import NamedTuple

from oomguard import __version__
from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import Memory
from oomguard.core.policy import policy_option, some_files
from oomguard.core.text import counted, kib, printable, some_of, span
from oomguard.diagnose.host_status import observe_status, values_in_force
from oomguard.diagnose.ranker import open_ranker
from oomguard.diagnose.this_host import ThisHost, has_policy
from oomguard.kernel.pressure import observe_stalled_percent
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import observe_kills
from oomguard.kernel.usage import PAGE_KIB
from oomguard.oom.ranking import is_protected, reserve_now
from oomguard.policy.fault import PolicyError
from oomguard.report.problems import HostStatus, complaints, problems
from oomguard.report.rank_view import View, label
from oomguard.report.status_table import promised

_NAMES = 2
_PROBLEMS = 3
_CALM = 1.0
"""Percent of the time that tasks may wait for memory before it is shown."""


class Overview(NamedTuple):
    """The texts of the overview: `rows` are pairs of title and text, `problems` the worst that were found.

    `verb` is what to run next, and what it does; `option` the `--policy` that all verbs need, if any.
    """

    headline: str
    rows: list[tuple[str, str]]
    problems: list[str]
    verb: tuple[str, str]
    option: str


def observe_overview(policy: str, host: ThisHost) -> Overview:
    """Look at this host. A policy file that does not exist counts as none."""
    seen = observe_status(policy, host)
    rows = []
    if seen.memory is not None:
        with closing(host.open_procfs()) as procfs:
            rows.append(("Memory", _memory(procfs, seen.memory)))
        rows.append(("Promised", promised(seen.memory, seen.mode)))
    trouble: list[str] = []
    daemon = seen.daemon
    option = "" if daemon is None else policy_option(daemon.policy.path)
    used = daemon.policy.path if daemon is not None and option else policy
    compiled, verb = None, ("plan", "what would change")
    if has_policy(used):
        try:
            compiled = host.load(used)
        except PolicyError as error:
            verb = ("check", "all errors of the policy")
            if daemon is None or not daemon.policy.errors:  # or the daemon reports them
                trouble = [one.one_line for one in error.faults]
    elif daemon is None:
        verb = ("advise", "suggest a policy")
    try:
        with closing(open_ranker(compiled, host)) as ranker:
            rows += _order(ranker.look())
    except OomguardError as error:
        trouble.append(error.message)
    found = [*trouble[:_PROBLEMS], *_problems(seen)]
    return Overview(_headline(seen, policy, host), rows, found, verb, option)


def _headline(seen: HostStatus, policy: str, host: ThisHost) -> str:
    if (daemon := seen.daemon) is not None:
        age = span(time.time() - daemon.started_at)
        managed = counted(daemon.processes_held, "process", "es")
        files = some_files(daemon.policy.files, 2)
        return f"oomguard {daemon.version}  running for {age}, {managed} managed  {files}"
    there = policy if has_policy(policy) else f"no policy: {policy} is missing"
    if seen.lock_holder is not None:
        return f"oomguard  running as pid {seen.lock_holder}, without a status file  {there}"
    in_force = values_in_force(host)
    left = ""
    if isinstance(in_force, int) and in_force:
        left = f"; {counted(in_force, 'value')} it set still in force (oomguard restore)"
    return f"oomguard {__version__}  not running{left}  {there}"


def _memory(procfs: Procfs, memory: Memory) -> str:
    parts = [f"{kib(memory.available_kib)} of {kib(memory.total_kib)} available"]
    stalled = observe_stalled_percent(procfs)
    if stalled is not None:
        calm = stalled < _CALM
        parts.append("no pressure" if calm else f"tasks stalled {stalled:.0f} % of the last 10 s")
    with suppress(OSError):
        if (kills := observe_kills(procfs)) is not None:
            parts.append(f"{counted(kills, 'kill')} since boot" if kills else "no kill since boot")
    return ", ".join(parts)


def _order(view: View) -> Iterator[tuple[str, str]]:
    first = next((one for one in view.ranked if one.now.place == 1), None)
    if first is not None:
        decision = first.decision
        rule = "" if decision is None or decision.rule is None else f"  {decision.rule.label}"
        held = kib(sum(first.candidate.usage) * PAGE_KIB)
        value = first.now.oom_score_adj
        yield "First to go", f"{label(first.candidate)}  {held}  oom_score_adj {value}{rule}"
    protected = [one.candidate for one in view.ranked if is_protected(one.candidate, one.now.oom_score_adj)]
    if protected:
        names = some_of([*dict.fromkeys(printable(one.comm) for one in protected)], _NAMES)
        held = kib(sum(one.freed_kib for one in protected))
        yield "Protected", f"{names}: {held} in {counted(len(protected), 'process', 'es')}"
    before = reserve_now(view.ranked)
    if before.before is not None:
        amount = f"{kib(before.kib)} in {counted(before.processes, 'process', 'es')}"
        yield "Killable", f"{amount} before the first of those"
    for note in view.notes:
        yield "Note", note


def _problems(seen: HostStatus) -> Iterator[str]:
    if seen.daemon is None:
        return
    texts = [text.strip() for text, _ in problems(seen.daemon, time.monotonic())]
    groups = complaints(seen.daemon)
    shown = texts[: _PROBLEMS - bool(groups)]
    yield from shown
    if groups:
        first, which = groups[0][0], ", ".join(one.subject for one in groups[0])
        yield f"{first.result}: {which} ({first.reason})"
    if hidden := len(texts) - len(shown) + len(groups[1:]):
        yield f"and {hidden} more: oomguard status"
