"""What is checked: a valid policy, its files, and the users of this host."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from oomguard.core.name_regex import is_regex, text_of
from oomguard.core.policy import Policy
from oomguard.core.rule import Rule
from oomguard.policy.compile import PolicyFile
from oomguard.policy.fault import Fault, Problem
from oomguard.policy.nodes import locate
from oomguard.policy.users import Users

Trial = Callable[[re.Pattern[str], str], bool]
Loc = tuple[int | str, ...]


@dataclass(frozen=True)
class Subject:
    """The input of a check. `users` are the users of this host, None if the policy is for another one.

    `trial(pattern, text)` returns whether a search takes too long; None skips that check.
    """

    policy: Policy
    documents: tuple[PolicyFile, ...]
    users: Users | None
    trial: Trial | None = None

    def rules(self) -> Iterator[tuple[PolicyFile, int, Rule]]:
        """Yield each rule with its file and its index in that file."""
        compiled = iter(self.policy.rules)
        for document in self.documents:
            for index in range(len(document.rules)):
                yield document, index, next(compiled)

    def regexes(self, key: str) -> dict[str, list[tuple[PolicyFile, Loc]]]:
        """Return the places of each regular expression that is a `cmdline` or a `name`."""
        found: dict[str, list[tuple[PolicyFile, Loc]]] = {}
        for document, index, rule in self.rules():
            names = (text_of(name) if is_regex(name) else None for name in rule.names)
            for position, regex in enumerate(names if key == "name" else rule.terms.cmdlines):
                if regex is not None:
                    found.setdefault(regex, []).append((document, ("rules", index, key, position)))
        return found

    def counts_beside(self, first: Rule, document: PolicyFile) -> bool:
        """Return whether a rule counts on every host on which a file does."""
        other = next(one for one in self.documents if one.file == first.file)
        return other.said.when in (None, document.said.when)


def warning(document: PolicyFile, loc: Loc, problem: Problem) -> Fault:
    """Return a warning about a part of a file."""
    here = locate(document.root, loc)
    return problem.at(document.file, here.line, here.column, here.path, "warning")
