"""Fixes a draft: what `oomguard check` would refuse, or warn about only because a policy was converted."""

import re
from collections.abc import Iterable, Iterator

from oomguard.core.name_regex import node_count
from oomguard.policy.fault import Fault, PolicyError
from oomguard.policy.lint.lookalike import as_it_is
from oomguard.policy.lint.programs import HAND_ON, USERS_PROGRAMS, known
from oomguard.policy.load import REGEX_NODES_LIMIT, parse
from oomguard.policy.source import Source
from oomguard.propose.policy_draft import Draft, DraftRule, Note, Regex, render

_ROUNDS = 4
"""A mended rule may be one that never takes effect."""
_ITEMS = {
    *("list-as-name", "regex-as-name", "path-as-name", "unit-as-name", "command-line-as-name"),
    *("unusual-character", "loose-cgroup"),
}
"""Warnings about an item of a condition, as of names that look like something else. Other tools compare these
as they are."""
_MENDED = {"handed-on", "unvouched", "shadowed-rule", "never-matches", *_ITEMS}
_PLACE = re.compile(r"rules\[(\d+)\](?:\.(\w+)(?:\[(\d+)\])?)?")

_Faults = list[tuple[str, int, Fault]]
"""Faults of a rule, each with its key and the number of its item."""


def valid(draft: Draft) -> Draft:
    """Return the draft with a note in place of everything that the language does not allow."""
    return _checked(draft)[0]


def mended(draft: Draft) -> Draft:
    """Return a draft that is valid, and without warnings of its own making."""
    draft, warnings = _checked(draft)
    for _ in range(_ROUNDS):
        found = [fault for fault in warnings if fault.code in _MENDED]
        if not found:
            break
        draft, warnings = _checked(_without(draft, found))
    return draft


def _checked(draft: Draft) -> tuple[Draft, tuple[Fault, ...]]:
    """Return the draft without errors, and its warnings."""
    while True:
        text = render(draft._replace(notes=()))  # of which there can be many
        try:
            return draft, parse((Source("draft", text.encode()),)).warnings
        except PolicyError as error:
            left = _without(draft, error.faults)
            if left == draft:
                raise
            draft = left


def _without(draft: Draft, faults: Iterable[Fault]) -> Draft:
    """Return the draft without what has these faults: sysctls, items of conditions, or rules."""
    refused: dict[str, str] = {}
    of_rules: dict[int, _Faults] = {}
    for fault in faults:
        if fault.code == "too-many-regexes":
            for number, at in _too_many(draft.rules):
                of_rules.setdefault(number, []).append(("name", at, fault))
        elif place := _PLACE.match(fault.path):
            of_rules.setdefault(int(place[1]), []).append((place[2] or "", int(place[3] or 0), fault))
        else:
            refused[fault.path] = fault.message
    notes = [
        Note(f"{one.name}={one.value}", refused[one.name], one.origin)
        for one in draft.settings
        if one.name in refused
    ]
    rules = [
        fixed
        for number, rule in enumerate(draft.rules)
        for fixed in _fixed(rule, of_rules.get(number, []), notes)
    ]
    settings = tuple(one for one in draft.settings if one.name not in refused)
    return draft._replace(settings=settings, rules=tuple(rules), notes=(*draft.notes, *notes))


def _too_many(rules: Iterable[DraftRule]) -> Iterator[tuple[int, int]]:
    """Yield the rule and position of each regular expression beyond the limit; a fault has only the first."""
    nodes = 0
    for number, rule in enumerate(rules):
        for at, name in enumerate(rule.conditions.get("name", ())):
            if isinstance(name, Regex):
                nodes += node_count(name)
                if nodes > REGEX_NODES_LIMIT:
                    yield number, at


def _fixed(rule: DraftRule, faults: _Faults, notes: list[Note]) -> Iterator[DraftRule]:
    """Yield the rules that replace a rule with these faults, the narrower ones first."""
    codes = {fault.code: fault for _, _, fault in faults}
    if dropped := codes.get("shadowed-rule") or codes.get("never-matches"):
        is_shadowed = dropped.code == "shadowed-rule"
        why = "an earlier rule matches the same processes" if is_shadowed else dropped.message
        notes.append(Note(rule.reason, why, rule.origin))
        return
    conditions = {key: [*items] for key, items in rule.conditions.items()}
    for key, at, fault in faults:
        is_name = fault.code in _ITEMS and key == "name"
        if fault.severity == "warning" and not is_name and fault.code != "loose-cgroup":
            continue
        if at >= len(conditions.get(key, ())):
            notes.append(Note("this rule", fault.message, rule.origin))
            return
        item = conditions[key][at]
        conditions[key][at] = as_it_is(str(item)) if is_name else item
        if conditions[key][at] == item:
            notes.append(Note(f"{key} {item}", fault.message, rule.origin))
            conditions[key][at] = ""
    conditions = {key: [item for item in items if item != ""] for key, items in conditions.items()}
    for code, programs in (("handed-on", HAND_ON), ("unvouched", USERS_PROGRAMS)):
        if code not in codes:
            continue
        apart = [name for name in conditions["name"] if known(str(name), programs)]
        conditions["name"] = [name for name in conditions["name"] if name not in apart]
        narrower, message = rule._replace(conditions={**conditions, "name": apart}), codes[code].message
        if code == "handed-on":
            why = f"{rule.reason}: {message}; the listener sets itself to -1000"
            yield narrower._replace(value="keep", reason=why)
        else:
            yield narrower._replace(conditions={**narrower.conditions, "user": ["root"]})
            notes.append(Note(f"name {', '.join(map(str, apart))}, of other users", message, rule.origin))
    if all(conditions.values()):
        yield rule._replace(conditions=conditions)
