"""Fixes what `oomguard check` would warn about only because a policy was converted."""

from typing import TYPE_CHECKING

from oomguard.policy.load import parse
from oomguard.policy.lookalike import as_it_is
from oomguard.policy.programs import HAND_ON, USERS_PROGRAMS, known
from oomguard.propose.draft import Draft, Note, as_source, place_of, valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oomguard.policy.fault import Fault
    from oomguard.propose.draft import DraftRule

_ROUNDS = 4
"""A mended rule may be one that never takes effect."""
_NAMES = {"list-as-name", "regex-as-name", "path-as-name", "unit-as-name", "command-line-as-name"}
_NAMES |= {"unusual-character"}
"""Names that look like something else. Other tools compare them as they are."""
_MENDED = {"handed-on", "unvouched", "loose-cgroup", "shadowed-rule", "never-matches", *_NAMES}


def mended(draft: Draft) -> Draft:
    """Return a draft that is valid, and without warnings of its own making."""
    draft = valid(draft)
    for _ in range(_ROUNDS):
        found: dict[int, list[Fault]] = {}
        for fault in parse(as_source(draft)).warnings:
            place = place_of(fault.path)
            if fault.code in _MENDED and place:
                found.setdefault(place[0], []).append(fault)
        if not found:
            break
        notes: list[Note] = []
        rules = [
            mended
            for number, rule in enumerate(draft.rules)
            for mended in _mended(rule, found.get(number, ()), notes)
        ]
        draft = valid(draft._replace(rules=tuple(rules), notes=(*draft.notes, *notes)))
    return draft


def _mended(rule: "DraftRule", faults: "Iterable[Fault]", notes: list[Note]) -> "Iterator[DraftRule]":
    """Yield the fixed rules that replace a rule, the narrower ones first."""
    codes = {fault.code: fault for fault in faults}
    dropped = codes.get("shadowed-rule") or codes.get("never-matches")
    if dropped:
        is_shadowed = dropped.code == "shadowed-rule"
        why = "an earlier rule matches the same processes" if is_shadowed else dropped.message
        notes.append(Note(rule.reason, why, rule.origin))
        return
    conditions = {key: [*items] for key, items in rule.conditions.items()}
    for fault in faults:
        _, key, at = place_of(fault.path) or (0, "", 0)
        if fault.code == "loose-cgroup" or (fault.code in _NAMES and key == "name"):
            item = str(conditions[key][at])
            literal = as_it_is(item) if key == "name" else item
            if literal == item:
                notes.append(Note(f"{key} {item}", fault.message, rule.origin))
            conditions[key][at] = literal if literal != item else ""
    names = [name for name in conditions.get("name", ()) if name != ""]
    for code, programs in (("handed-on", HAND_ON), ("unvouched", USERS_PROGRAMS)):
        if code not in codes:
            continue
        apart = [name for name in names if known(str(name), programs)]
        names = [name for name in names if name not in apart]
        message = codes[code].message
        if code == "handed-on":
            why = f"{rule.reason}: {message}; the listener sets itself to -1000"
            yield rule._replace(conditions={**conditions, "name": apart}, value="keep", reason=why)
        else:
            yield rule._replace(conditions={**conditions, "name": apart, "user": ["root"]})
            notes.append(Note(f"name {', '.join(map(str, apart))}, of other users", message, rule.origin))
    if "name" in conditions:
        conditions["name"] = names
    kept = {key: [item for item in items if item != ""] for key, items in conditions.items()}
    if all(kept.values()):
        yield rule._replace(conditions=kept)
