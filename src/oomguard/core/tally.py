"""How many processes each rule matches, and what a rule that matches none was probably meant for."""

import difflib
from collections import Counter
from collections.abc import Collection
from itertools import islice

from oomguard.core.decide import Decision
from oomguard.core.match import is_glob
from oomguard.core.name_regex import is_regex
from oomguard.core.process import COMM_LENGTH
from oomguard.core.rule import Rule

_SHOWN = 3
_COMPARED = 2000
"""The maximum number of names compared: users choose how many there are, and some take long."""


class Tally:
    """How many processes each rule matches, and for how many it is refused, by its number.

    `running` are the names of all processes, `unmatched` those of processes that no rule matches. `overtaken`
    has, by the number of a rule that would match a process, the one that matches it first.
    """

    def __init__(self) -> None:
        self.matched: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.running: Counter[bytes] = Counter()
        self.unmatched: Counter[bytes] = Counter()
        self.overtaken: dict[int, Rule] = {}

    def add(self, comm: bytes, decision: Decision | None) -> None:
        """Count a process and the decision on it."""
        self.running[comm] += 1
        if decision is not None and decision.matched is not None:
            self.matched[decision.matched.number] += 1
            return
        self.unmatched[comm] += 1
        if decision is not None and decision.rule is not None:
            self.refused[decision.rule.number] += 1


def near_misses(rule: Rule, running: Collection[bytes]) -> list[bytes]:
    """Return the names among `running` that are close to a name of the rule, the closest first.

    A close name differs in case, in a letter or two, or by a prefix or suffix.
    """
    found: dict[bytes, None] = {}
    texts = {name.decode("utf-8", "surrogateescape"): name for name in islice(running, _COMPARED)}
    for name in rule.names:
        if is_glob(name) or is_regex(name):
            continue
        text = name[:COMM_LENGTH].decode("utf-8", "surrogateescape")
        close = [one for one in texts if len(text) >= 3 and text.lower() in one.lower()]
        close += difflib.get_close_matches(text, texts, n=_SHOWN, cutoff=0.75)
        found.update(dict.fromkeys(texts[one] for one in close))
    return [*found][:_SHOWN]
