"""Why a process has its value, as JSON: the rules tried on it, and the condition that failed."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from oomguard.core.cgroup import system_unit
from oomguard.core.decide import Decision
from oomguard.core.process import Process
from oomguard.core.rule import Rule
from oomguard.core.text import printable
from oomguard.report.change_document import decision_document, rule_document
from oomguard.report.sentences import outlook


class Tried(NamedTuple):
    """One rule tried on the process: the condition that failed, "" if the rule matches."""

    rule: Rule
    unmet: str
    found: str


class Explanation(NamedTuple):
    """A process with its user's name (None: unknown), the rules tried on it in order, and the decision.

    `never` is why no rule is tried. `paste` is a rule to add to the policy, "" if none is needed.
    """

    process: Process
    user: str | None
    tried: list[Tried]
    decision: Decision
    never: str
    paste: str

    @property
    def verdict(self) -> str:
        """The decision as a sentence."""
        return self.never or outlook(self.decision)


def alike(explanations: Iterable[Explanation]) -> list[list[Explanation]]:
    """Return the explanations in groups: those of a group differ only in the pid."""
    found: dict[object, list[Explanation]] = {}
    for one in explanations:
        process = one.process
        key = (process.comm, process.uid, system_unit(process.cgroup), process.oom_score_adj, one.verdict)
        tried = tuple((t.rule.number, t.unmet, t.found) for t in one.tried)
        found.setdefault((key, tried), []).append(one)
    return list(found.values())


def explanation_document(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation. Keys are stable; new ones may be added."""
    process = explanation.process
    return {
        "pid": process.identity.pid,
        "start_time_ticks": process.identity.start_time_ticks,
        "comm": printable(process.comm),
        "arguments": [printable(argument) for argument in process.arguments],
        "uid": process.uid,
        "user": explanation.user,
        "cgroup": printable(process.cgroup),
        "exe": None if process.exe is None else printable(process.exe),
        "oom_score_adj": process.oom_score_adj,
        "tried": [
            rule_document(t.rule)
            | {"matched": not t.unmet, "unmet": t.unmet or None, "found": t.found or None}
            for t in explanation.tried
        ],
        "decision": decision_document(explanation.decision),
        "verdict": explanation.verdict,
    }
