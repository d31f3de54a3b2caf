"""Runs cases: applies a policy to their processes and sysctls, and compares the results."""

import time
from collections.abc import Iterator

from oomguard.core.decide import Decision
from oomguard.core.entry import Entry
from oomguard.core.match import first_unmet
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Process
from oomguard.core.rule import CONDITIONS, Rule
from oomguard.core.sysctl import after_writing
from oomguard.core.text import legible, printable
from oomguard.diagnose.imagined import ImaginedProc
from oomguard.policy.cases.actors import Actor, Expected
from oomguard.policy.cases.case_file import Case
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.matching import Itself
from oomguard.reconcile.reconciler import Reconciler
from oomguard.report.case_results import CaseResult, Compared, Difference

_NOBODY = Itself(own_pid=0)


def run_case(file: str, case: Case) -> CaseResult:
    """Return what the policy does in a case, compared with what the case expects."""
    compared = (*_sysctls(case), *_processes(case))
    return CaseResult(file, case.line, case.title, tuple(sorted(compared, key=lambda one: one.line)))


def _sysctls(case: Case) -> Iterator[Compared]:
    proc = ImaginedProc(case.sysctls, case.meminfo)
    reconciler = Reconciler(case.policy, Ledger(), proc, itself=_NOBODY)
    planned = {change.name: change for change in reconciler.planner.sysctl_changes("policy")}
    writes = {name: change.after for name, change in planned.items() if change.obstacle is None}
    final = after_writing(case.sysctls, writes)
    wanted = {setting.name: setting for setting in case.policy.sysctls}
    for name, expected in case.expected.items():
        change = planned.get(name)
        by = _set_by(wanted[name]) if name in wanted else _unset(case.policy, "the policy does not set it")
        obstacle = None if change is None else change.obstacle
        refusal = "" if obstacle is None else obstacle.reason
        if refusal:
            by += f": refused: {refusal}"
        yield Compared(
            name, expected.line, by, tuple(_differences("value", expected, final.get(name), None, refusal))
        )


def _unset(policy: Policy, why: str) -> str:
    """Return why nothing is set, with the files that do not count on the host of the case."""
    return "; ".join([why, *map(str, policy.left_out)])


def _set_by(setting: SysctlSetting) -> str:
    source = legible(setting.source)
    return f"{setting.meaning} ({source})" if setting.said else f"set at {source}"


def _processes(case: Case) -> Iterator[Compared]:
    """Apply the policy to one process after the other.

    Those that inherit their value start after the policy was applied to their parent; others ran before.
    """
    proc, ledger = ImaginedProc(case.sysctls, case.meminfo), Ledger()
    reconciler = Reconciler(case.policy, ledger, proc, itself=_NOBODY)
    unread = reconciler.managed.unreadable
    for actor in case.actors:
        unread.clear()
        decision = _start(actor, proc, reconciler)
        without = next(iter(unread.values()), _unset(case.policy, "no rule matches it"))
        if actor.expected is not None:
            process = proc.process(actor.process.identity.pid)
            yield _compared(process, decision, actor.expected, case.policy, without)


def _start(actor: Actor, proc: ImaginedProc, reconciler: Reconciler) -> Decision | None:
    process = actor.process
    if actor.inherits:
        process = process._replace(oom_score_adj=proc.process(process.parent_pid).oom_score_adj)
    identity = proc.add(process, is_new=actor.inherits)
    pid = identity.pid
    if actor.inherits:
        reconciler.managed.on_fork(process.parent_pid, pid, time.monotonic_ns())
    if actor.original is not None:
        entry = Entry(actor.original, process.oom_score_adj, since_ticks=proc.now_ticks())
        reconciler.ledger.record(identity, entry)
    handle = proc.open(pid)
    assert handle is not None
    decision = reconciler.decide_and_record(handle)
    reconciler.process(pid, "exec", now=0.0, in_pass=True)
    return decision


def _compared(
    process: Process, decision: Decision | None, expected: Expected, policy: Policy, without: str
) -> Compared:
    """Return what was found and why. `without` is why there is no rule."""
    rule = None if decision is None else decision.rule
    obstacle = None if decision is None else decision.obstacle
    refusal = "" if obstacle is None else obstacle.reason
    by = without if rule is None else _shown(rule)
    if refusal:
        by += f": refused: {refusal}"
    if expected.rule is not None and not _is_meant(expected.rule, rule):
        by += "".join(f"; {_why_not(one, process)}" for one in policy.rules if _is_meant(expected.rule, one))
    what = f"{printable(process.comm)}[{process.identity.pid}]"
    found = tuple(_differences("oom_score_adj", expected, process.oom_score_adj, rule, refusal))
    return Compared(what, expected.line, by, found)


def _why_not(rule: Rule, process: Process) -> str:
    """Return which condition of a rule a process does not meet, and what it has instead."""
    unmet = first_unmet(rule, process)
    found = next((row.found(process) for row in CONDITIONS if row.key == unmet), "")
    why = f"{unmet} is {legible(found) or 'empty'}" if found or unmet == "name" else unmet
    return f"{_shown(rule)} does not match: {why or 'an earlier rule decides, or a scope or trust'}"


def _differences(
    key: str, expected: Expected, value: int | None, rule: Rule | None, refusal: str
) -> Iterator[Difference]:
    if expected.value is not None and expected.value != value:
        yield Difference(key, str(expected.value), "this kernel lacks it" if value is None else str(value))
    if expected.rule is not None and not _is_meant(expected.rule, rule):
        found = "none" if rule is None else _shown(rule)
        yield Difference("rule", legible(expected.rule), found)
    if expected.refused is not None and expected.refused not in refusal:
        yield Difference("refused", legible(expected.refused), refusal or "no")


def _shown(rule: Rule) -> str:
    return f"{rule.label} ({legible(rule.source)})"


def _is_meant(text: str, rule: Rule | None) -> bool:
    """Return whether a text names a rule: by its conditions, or by file and line."""
    if rule is None:
        return text == "none"
    return text == rule.label or f"/{rule.source}".endswith(f"/{text}")
