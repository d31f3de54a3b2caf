"""Counts which rules match how many processes."""

from collections import Counter

from oomguard.core.decide import Decision


class Tally:
    """How many processes each rule matches, and for how many it is refused, by its number.

    `unmatched` are the names of processes that no rule matches.
    """

    def __init__(self) -> None:
        self.matched: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.unmatched: Counter[bytes] = Counter()

    def add(self, comm: bytes, decision: Decision | None) -> None:
        """Count a process and the decision on it."""
        if decision is not None and decision.matched is not None:
            self.matched[decision.matched.number] += 1
            return
        self.unmatched[comm] += 1
        if decision is not None and decision.rule is not None:
            self.refused[decision.rule.number] += 1
