"""One sentence for each outcome and decision."""

from collections.abc import Sequence

from oomguard.core.change import Change, Outcome, SetOomScoreAdj, SetSysctl
from oomguard.core.decide import Decision
from oomguard.core.text import printable

_PIDS = 3


def subject(change: Change) -> str:
    """Return what a change is about: `vm.swappiness` or `sshd[812]`."""
    if isinstance(change, SetSysctl):
        return change.name
    return f"{printable(change.comm)}[{change.identity.pid}]"


def subjects(group: Sequence[Change]) -> str:
    """Return what several changes are about: `sshd[812, 813]`, or `sshd[812] and 3 more`."""
    first, *others = group
    if not others:
        return subject(first)
    processes = [change for change in group if isinstance(change, SetOomScoreAdj)]
    if len(group) > _PIDS or len({change.comm for change in processes}) > 1:
        return f"{subject(first)} and {len(others)} more"
    pids = ", ".join(str(change.identity.pid) for change in processes)
    return f"{printable(processes[0].comm)}[{pids}]"


def target(change: Change) -> str:
    """Return which value a change writes: the sysctl's name, or `oom_score_adj`."""
    return change.name if isinstance(change, SetSysctl) else "oom_score_adj"


def because(change: Change) -> str:
    """Return the reason of a change: the rule or policy line, or "" for a restore."""
    if isinstance(change, SetSysctl):
        return ", ".join(filter(None, (change.said, change.source)))
    if change.inherited and change.before == change.after:
        return "inherited the right to lower itself from a managed process"
    if change.inherited:
        return "inherited from a managed process"
    return "" if change.rule is None else f"{change.rule.label}, {change.rule.source}"


def outlook(decision: Decision) -> str:
    """Return what will happen to a process: `will be set to -900`, and the obstacle."""
    current, wanted, rule = decision.current, decision.wanted, decision.rule
    obstacle = decision.obstacle
    what = f"be set to {wanted}"
    if rule is None or wanted == decision.own != current:
        what = f"be reset to {wanted}, its original value"
    if decision.is_inherited and rule is None:
        what += f"; it inherited {current} from a managed process"
    if obstacle is not None and obstacle.kind == "unknown":
        return f"stays {current}: which rule matches cannot be known: {obstacle.reason}"
    if obstacle is not None and obstacle.kind == "may-be-denied":
        return f"will {what}, unless the kernel denies it: {obstacle.reason}"
    if obstacle is not None:
        who = "but the kernel will deny it" if obstacle.kind == "denied" else obstacle.kind
        return f"stays {current}; the rule wants {wanted}, {who}: {obstacle.reason}"
    if wanted != current:
        return f"will {what}"
    if rule is None:
        return f"stays {current}: no rule matches it"
    if decision.is_held:
        still = "which still applies until it runs another program"
        return f"stays {current}: it no longer matches {rule.label}, {still}"
    if rule.terms.value.kind == "keep":
        return f"stays {current}: {rule.label} leaves it alone"
    original = f" (original value: {decision.own})" if decision.own != current else ""
    return f"stays {current}: that satisfies {rule.label}{original}"


def _value(outcome: Outcome) -> str:
    """Return the value in force and the one written, if they differ: `13 of 14`, `13 (14 was written)`."""
    before, after, made = outcome.change.before, outcome.change.after, outcome.made
    if made is None:
        return str(after)
    return f"{made} of {after}" if before <= made < after else f"{made} ({after} was written)"


def sentence(outcome: Outcome, of: str = "") -> str:
    """Return the outcome as one sentence. `of` names what it is about if that is more than one process."""
    change = outcome.change
    of = of or subject(change)
    name = "" if isinstance(change, SetSysctl) else " oom_score_adj"
    if outcome.result == "left-alone":
        value = of if isinstance(change, SetSysctl) else f"oom_score_adj of {of}"
        return f"left alone: {value} is {change.before}, {outcome.reason}"
    what = f"{of}:{name} {change.before} → {_value(outcome)}"
    why = ", ".join(filter(None, (change.cause, because(change))))
    if outcome.result == "applied":
        return f"{what} ({why})"
    end = f"{outcome.result}: {outcome.reason}" if outcome.reason else outcome.result
    return f"{what} {end} ({why})"
