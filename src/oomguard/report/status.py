"""The status file: the daemon's state, for `oomguard status` and for metrics.

It is JSON, readable by everyone, and replaced atomically. A file, because a socket could be attacked.
"""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.core.process import Identity
from oomguard.core.text import legible
from oomguard.report.text import because, subject

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from oomguard.core.diff import Outcome
    from oomguard.core.policy import Policy, Rule
    from oomguard.report.reporter import Complaint, Reporter

STATUS_FILE = "status.json"
VERSION = 1

_RULES_LIMIT = 1000
"""Rules listed with their number of processes: those with most."""


class Matched(NamedTuple):
    """What the rules of one policy match, and which of their changes cannot be made.

    `rule_of` gives, by pid, the number of the rule in `rules`.
    """

    rules: "Sequence[Rule]"
    rule_of: "Mapping[int, int]"
    complaints: "Sequence[Complaint]"

    def rule(self, pid: int) -> "Rule | None":
        """Return the rule that matches a process, or None."""
        number = self.rule_of.get(pid)
        return None if number is None else self.rules[number]


class Status(NamedTuple):
    """The content of the file."""

    version: str
    identity: "Identity"
    started_at: float
    written_at: float
    now: float
    """`written_at` on the monotonic clock."""
    policy: "Policy"
    policy_loaded_at: float
    policy_error: str
    matched: Matched
    reporter: "Reporter"
    contended: "Sequence[Hashable]"
    """Sysctls by name, processes by identity."""
    limits: "Sequence[str]"
    has_events: bool
    watches: int
    passes: int
    losses: int
    committed_peak_kib: int = 0
    """The largest Committed_AS that a pass has seen."""
    granted: "Mapping[str, int] | None" = None
    """By name, the value that the kernel set if it differs from the one written."""
    is_throttled: bool = False
    """Whether the daemon pauses at its CPU limit."""


def encode_status(status: Status) -> bytes:
    """Return the file's content. Every text in it is printable."""
    return json.dumps(_printable(_document(status)), ensure_ascii=True).encode("ascii") + b"\n"


def _document(status: Status) -> dict[str, Any]:
    policy, reporter, matched = status.policy, status.reporter, status.matched
    held = Counter(matched.rule_of.values()).most_common(_RULES_LIMIT)
    return {
        "format": VERSION,
        "version": status.version,
        "pid": status.identity.pid,
        "start_time_ticks": status.identity.start_time_ticks,
        "started_at": round(status.started_at, 3),
        "written_at": round(status.written_at, 3),
        "policy": {
            "files": list(policy.files),
            "digest": policy.digest,
            "rules": len(policy.rules),
            "loaded_at": round(status.policy_loaded_at, 3),
            "resync_interval_seconds": policy.resync_interval_seconds,
            "errors": status.policy_error.splitlines(),
        },
        "sysctls": [
            {
                "name": one.name,
                "wanted": one.value,
                "granted": (status.granted or {}).get(one.name, one.value),
                "source": one.source,
            }
            for one in policy.sysctls
        ],
        "rules": [_rule(matched.rules[number], count) for number, count in sorted(held)],
        "processes_held": len(matched.rule_of),
        "outcomes": reporter.counts,
        "changes": [
            {"target": target, "cause": cause, "result": result, "count": count}
            for (target, cause, result), count in sorted(reporter.changes.items())
        ],
        "complaints": [complaint._asdict() for complaint in matched.complaints],
        "kills": [
            {"rule": label, "protected": protected, "count": count}
            for (label, protected), count in sorted(reporter.kills.counts.items())
        ],
        "contended": [_contended(target) for target in status.contended],
        "limits": list(status.limits),
        "recent": [_recent(outcome, status.written_at - status.now + at) for at, outcome in reporter.recent],
        "events": status.has_events,
        "watches": status.watches,
        "passes": status.passes,
        "losses": status.losses,
        "throttled": status.is_throttled,
        "committed_peak_kib": status.committed_peak_kib,
        "log_entries_lost": reporter.sink.lost,
    }


def _printable(item: Any) -> Any:
    """Return the document with unprintable characters escaped: paths and reasons can contain any."""
    if isinstance(item, str):
        return legible(item)
    if isinstance(item, dict):
        return {key: _printable(value) for key, value in item.items()}
    return [_printable(value) for value in item] if isinstance(item, list) else item


def _recent(outcome: "Outcome", at: float) -> dict[str, Any]:
    change = outcome.change
    return {
        "at": round(at, 3),
        "subject": subject(change),
        "from": change.before,
        "to": change.after if outcome.made is None else outcome.made,
        "cause": change.cause,
        "by": because(change),
    }


def _contended(target: "Hashable") -> dict[str, Any]:
    if isinstance(target, Identity):
        return {"target": "oom_score_adj", **target._asdict()}
    return {"target": str(target)}


def _rule(rule: "Rule", count: int) -> dict[str, Any]:
    return {
        "number": rule.number,
        "label": rule.label,
        "source": rule.source,
        "value": str(rule.terms.value),
        "processes": count,
    }
