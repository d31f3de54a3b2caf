"""What `apply` and `restore` print: one line for each change, and for each kind of failure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from oomguard.core.change import Outcome, SetOomScoreAdj
from oomguard.core.choices import Result
from oomguard.report.sentences import sentence, subjects

_TOTALS: dict[Result, str] = {
    "refused": "refused",
    "denied": "denied",
    "contended": "contended",
    "vanished": "ended meanwhile",
    "left-alone": "left alone",
}


def outcome_lines(outcomes: Sequence[Outcome], *, applied: str) -> Iterator[str]:
    """Yield the outcomes with their fixes, and the totals; `applied` is the word for success."""
    groups = _grouped(outcomes)
    for (first, *others), following in pairwise([*groups, []]):
        yield sentence(first, subjects([one.change for one in (first, *others)]))
        if first.hint and not (following and following[0].hint == first.hint):
            yield f"  {first.hint}"
    counts = Counter(outcome.result for outcome in outcomes)
    totals = [f"{counts['applied']} {applied}"]
    totals += [f"{counts[result]} {word}" for result, word in _TOTALS.items() if counts[result]]
    yield ""
    yield f"{', '.join(totals)}."


def _grouped(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Return the outcomes; failures that differ only in the process are one group."""
    found: dict[object, list[Outcome]] = {}
    for number, outcome in enumerate(outcomes):
        change = outcome.change
        key: object = number
        if isinstance(change, SetOomScoreAdj) and outcome.reason and outcome.result != "left-alone":
            rule = None if change.rule is None else change.rule.number
            key = (change.comm, change.before, change.after, rule, outcome.result, outcome.reason)
        found.setdefault(key, []).append(outcome)
    return list(found.values())
