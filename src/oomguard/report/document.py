"""Changes and outcomes as JSON. Keys are stable; new ones may be added."""

import errno
import json
import sys
from typing import TYPE_CHECKING, Any

from oomguard.core.plan import Outcome, SetOomScoreAdj
from oomguard.core.text import printable
from oomguard.report.text import target

if TYPE_CHECKING:
    from oomguard.core.plan import Change


def change_document(change: "Change") -> dict[str, Any]:
    """Return a planned change. `refused` is null, or why it would not be attempted."""
    refusal = change.refusal
    document: dict[str, Any] = {
        "target": target(change),
        "from": change.before,
        "to": change.after,
        "cause": change.cause,
        "refused": None if refusal is None else {"reason": refusal.reason, "hint": refusal.hint},
    }
    if isinstance(change, SetOomScoreAdj):
        document |= {
            "pid": change.identity.pid,
            "start_time_ticks": change.identity.start_time_ticks,
            "comm": printable(change.comm),
            "rule": None if change.rule is None else change.rule.label,
            "source": None if change.rule is None else change.rule.source,
        }
    else:
        document["source"] = change.source or None
    return document


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return what became of a change."""
    return change_document(outcome.change) | {
        "result": outcome.result,
        "made": outcome.made,
        "errno": errno.errorcode.get(outcome.errno) if outcome.errno else None,
        "reason": outcome.reason or None,
        "hint": outcome.hint or None,
    }


def print_json(document: object) -> None:
    """Print a document with one newline behind it."""
    json.dump(document, sys.stdout, indent=2)
    print()
