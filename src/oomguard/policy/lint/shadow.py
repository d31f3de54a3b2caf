"""Rules that never take effect, because earlier rules match everything they match.

Each result is certain; some such rules are not found.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from oomguard.core.match import is_glob
from oomguard.core.name_regex import is_regex
from oomguard.core.rule import OOM_SCORE_ADJ_MAX, VOUCHING, Rule, Terms, Value
from oomguard.policy.regex_to_glob import glob_names

_GLOBS_LIMIT = 200
"""Globs kept for each literal start, so that the time stays linear."""


class _Names:
    """The names in rules with the same other conditions, and the first rule for each."""

    __slots__ = ("_exact", "_globs", "any_name")

    def __init__(self) -> None:
        self.any_name: Rule | None = None
        self._exact: dict[bytes, Rule] = {}
        self._globs: dict[bytes, list[tuple[re.Pattern[bytes], Rule]]] = {}

    def add(self, name: bytes, rule: Rule) -> None:
        self._exact.setdefault(name, rule)
        if is_regex(name) or not is_glob(name) or any(wildcard in name for wildcard in b"?["):
            return
        globs = self._globs.setdefault(name[: name.index(b"*")], [])
        if len(globs) < _GLOBS_LIMIT:
            globs.append((re.compile(fnmatch.translate(name.decode()).encode()), rule))

    def first(self, name: bytes) -> Rule | None:
        """Return the first rule that matches every process that `name` matches, None if there is none."""
        exact = self._exact.get(name)
        if self.any_name is None and not self._globs:
            return exact
        found = [rule for rule in (self.any_name, exact) if rule is not None]
        # A * matches a * or ? as if it were a character, so globs compare as text.
        if self._globs and b"[" not in name and not is_regex(name):
            globs = (glob for end in range(len(name) + 1) for glob in self._globs.get(name[:end], ()))
            found += [rule for glob, rule in globs if glob.match(name)]
        return min(found, default=None)


def shadows(rules: Sequence[Rule]) -> dict[int, Rule]:
    """Return, by number, the rules that never take effect, each with the earlier rule that wins."""
    found = {
        rule.number: max(winners)
        for rule, winners in _shadows(rules, _can_be_refused)
        if _is_refused_too(rule, winners)
    }
    for rule, winners in _shadows(rules, lambda one: not _can_be_refused(one)):
        found[rule.number] = max(winners)
    return found


def _can_be_refused(rule: Rule) -> bool:
    """Return whether `core.trust` may refuse a rule, so that later ones are tried."""
    terms = rule.terms
    lowers = terms.value.kind in ("exact", "at_most") and terms.value.number < OOM_SCORE_ADJ_MAX
    return lowers and terms.trust == "verified" and not terms.units


def _is_refused_too(rule: Rule, winners: list[Rule]) -> bool:
    """Return whether `core.trust` refuses a rule wherever it refuses the winners."""
    names_count = not (rule.terms.users or rule.terms.exes)  # then a file called like the rule is trusted
    if not _can_be_refused(rule) or (names_count and winners[1:] != winners[:-1]):
        return False
    return all(
        rule.terms.value.number <= first.terms.value.number
        and all(rule.patterns(row) == first.patterns(row) for row in VOUCHING)
        and not (names_count and rule.names and not first.names)
        for first in winners
    )


def _shadows(rules: Iterable[Rule], wins: Callable[[Rule], bool]) -> Iterator[tuple[Rule, list[Rule]]]:
    """Yield the rules before which others of those that win match everything, and these."""
    seen: dict[Terms, _Names] = {}
    places: dict[Terms, tuple[list[_Names], _Names]] = {}
    """By the terms of rules, the names that win over theirs, and their own."""
    for rule in rules:
        terms = rule.terms
        if terms not in places:
            broader = [seen.setdefault(one, _Names()) for one in _broader(terms)]
            places[terms] = broader, seen.setdefault(_conditions(terms), _Names())
        broader, names = places[terms]
        if winners := _winners(rule, broader):
            yield rule, winners
        if terms.scope == "main" or not wins(rule):  # main leaves the rest of the tree to later rules
            continue
        if not rule.names and names.any_name is None:
            names.any_name = rule
        for name in glob_names(rule):
            names.add(name, rule)


def _conditions(terms: Terms) -> Terms:
    """Return the conditions of a rule other than its names."""
    return terms._replace(value=Value("keep"), children="reset", trust="verified")


def _broader(terms: Terms) -> set[Terms]:
    """Return the conditions that are met whenever these are: the same ones, and none at all."""
    same = _conditions(terms)._replace(scope="all")
    none = Terms(Value("keep"))
    return {
        one._replace(containers=containers) for one in (same, none) for containers in (terms.containers, True)
    }


def _winners(rule: Rule, broader: list[_Names]) -> list[Rule]:
    """Return the rules that together match everything before `rule` could."""
    if not rule.names:
        return sorted(one.any_name for one in broader if one.any_name is not None)[:1]
    winners = []
    for name in glob_names(rule):
        candidates = [winner for one in broader if (winner := one.first(name)) is not None]
        if not candidates:
            return []
        winners.append(min(candidates))
    return winners
