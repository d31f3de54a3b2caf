"""Changes and outcomes as JSON. Keys are stable; new ones may be added."""

import errno
import json
import sys
from typing import Any

from oomguard.core.change import Change, Outcome, Planned, SetOomScoreAdj
from oomguard.core.decide import Decision, Obstacle
from oomguard.core.rule import Rule
from oomguard.core.text import printable
from oomguard.report.sentences import target


def change_document(change: Change) -> dict[str, Any]:
    """Return a planned change. `obstacle` is null, or why oomguard will not make it."""
    document: dict[str, Any] = {
        "target": target(change),
        "from": change.before,
        "to": change.after,
        "cause": change.cause,
        "obstacle": obstacle_document(change.obstacle),
    }
    if isinstance(change, SetOomScoreAdj):
        document |= {
            "pid": change.identity.pid,
            "start_time_ticks": change.identity.start_time_ticks,
            "comm": printable(change.comm),
            "original": change.own,
            "inherited": change.inherited,
            **rule_document(change.rule),
        }
    else:
        document |= {"source": change.source or None, "said": change.said or None}
    return document


def planned_document(planned: Planned) -> dict[str, Any]:
    """Return a planned change, with the rule that matches the process."""
    change = planned.change
    rule = rule_document(planned.rule) if isinstance(change, SetOomScoreAdj) else {}
    return change_document(change) | rule


def decision_document(decision: Decision) -> dict[str, Any]:
    """Return the decision on a process."""
    return {
        **rule_document(decision.rule),
        "original": decision.own,
        "current": decision.current,
        "wanted": decision.wanted,
        "inherited": decision.is_inherited,
        "obstacle": obstacle_document(decision.obstacle),
    }


def rule_document(rule: Rule | None) -> dict[str, Any]:
    """Return a rule's label, and the file and line it is in."""
    return {
        "rule": None if rule is None else rule.label,
        "source": None if rule is None else printable(rule.source),
    }


def obstacle_document(obstacle: Obstacle | None) -> dict[str, Any] | None:
    """Return why a value will not be written, or None."""
    return None if obstacle is None else obstacle._asdict()


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return the result of a change."""
    return change_document(outcome.change) | {
        "result": outcome.result,
        "made": outcome.made,
        "errno": errno.errorcode.get(outcome.errno) if outcome.errno else None,
        "reason": outcome.reason or None,
        "hint": outcome.hint or None,
    }


def print_json(document: object) -> None:
    """Print a document and a newline."""
    json.dump(document, sys.stdout, indent=2)
    print()
