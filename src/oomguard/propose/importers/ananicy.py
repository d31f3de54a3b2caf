"""Ananicy and ananicy-cpp: `oom_score_adj` in `.rules`, direct or through a type of `.types`."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from oomguard.core.process import COMM_LENGTH
from oomguard.core.rule import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomguard.core.text import counted
from oomguard.policy.regex_to_glob import literal
from oomguard.policy.scalars import has_surrogate
from oomguard.propose.importers.files import SHOWN_LIMIT, Files
from oomguard.propose.policy_draft import Draft, DraftRule, Note, Origin, toward

DEFAULT = "/etc/ananicy.d"

_TITLE = (
    "From Ananicy. Programs with the same value and file share a rule. A negative value by name alone "
    "applies only to root's processes and system services; to protect others, add user, unit or exe, or "
    "trust: name."
)
_OTHERS = "nice, latency_nice, sched, rtprio, ioclass, ionice, cgroup, weight"


class _Object(NamedTuple):
    place: Origin
    said: dict[str, Any]


def import_files(paths: Sequence[str]) -> Draft:
    """Read folders with `.types` and `.rules`, or such files."""
    files = Files(paths or [DEFAULT], (".rules", ".types"))
    notes, types = files.notes, _types(files)
    named: dict[str, tuple[_Object, int, str]] = {}
    indifferent = overridden = 0
    for one in _objects(files, [file for file in files.all if not file.endswith(".types")]):
        name = one.said.get("name")
        if not isinstance(name, str) or not name or has_surrogate(name):
            notes.append(Note("a rule", "has no name", one.place))
            continue
        overridden += name in named
        named.pop(name, None)  # the last one counts, whatever it sets, and stands where it is
        value, by = _value(one, notes), ""
        kind = one.said.get("type")
        if value is None and "oom_score_adj" not in one.said and kind is not None:
            if not isinstance(kind, str) or kind not in types:
                notes.append(Note(name, f"no type {kind!r} in these files", one.place))
                continue
            value, place = types[kind]
            by = f"type {kind}, {os.path.basename(str(place))}"
        if value is None:
            indifferent += one.said.get("oom_score_adj") is None  # else a note says what is wrong with it
            continue
        if "cmdlines" in one.said:
            notes.append(Note(name, "has `cmdlines`; write a rule with name and cmdline yourself", one.place))
            continue
        named[name] = (one, value, by)
    if indifferent:
        what = f"{counted(indifferent, 'rule')} that set no oom_score_adj ({_OTHERS})"
        notes.append(Note(what, "oomguard does not set these", settings=indifferent))
    if overridden:
        why = "a later rule for the same name overrides it"
        notes.append(Note(counted(overridden, "rule"), why, settings=overridden))
    return Draft(_TITLE, (), tuple(_rules(named)), tuple(files.finish()))


def _types(files: Files) -> dict[str, tuple[int | None, Origin]]:
    """Return the value of each type, None if it has none, and its place."""
    types: dict[str, tuple[int | None, Origin]] = {}
    for one in _objects(files, [file for file in files.all if file.endswith(".types")]):
        name = one.said.get("type")
        if isinstance(name, str):
            types[name] = (_value(one, files.notes), one.place)
        else:
            files.notes.append(Note("a type", "has no name", one.place))
    return types


def _rules(named: dict[str, tuple[_Object, int, str]]) -> Iterator[DraftRule]:
    """Yield a rule for each file and value, first those for names that a shorter one would match too."""
    cut = {raw: value for name, (_, value, _) in named.items() if len(raw := name.encode()) == COMM_LENGTH}
    groups: dict[tuple[bool, str, int, str], list[tuple[str, _Object]]] = {}
    for name, (one, value, by) in named.items():
        raw = name.encode()
        is_last = len(raw) <= COMM_LENGTH or cut.get(raw[:COMM_LENGTH], value) == value
        groups.setdefault((is_last, one.place.file, value, by), []).append((name, one))
    for (_, file, value, by), members in sorted(groups.items(), key=lambda group: group[0][0]):
        origin = Origin(file, members[0][1].place.line, members[-1][1].place.line)
        names: list[str | int] = [literal(name) for name, _ in members]
        said = toward(value) if value == OOM_SCORE_ADJ_MIN else value
        yield DraftRule({"name": names}, said, by or "oom_score_adj", origin)


def _value(one: _Object, notes: list[Note]) -> int | None:
    """Return the value in an object, None if it has none. 0 is a value here, but not for Ananicy."""
    value = one.said.get("oom_score_adj")
    if value is None:
        return None
    if type(value) is not int or not OOM_SCORE_ADJ_MIN <= value <= OOM_SCORE_ADJ_MAX:
        notes.append(
            Note("oom_score_adj", f"must be an integer from -1000 to 1000, got {value!r}", one.place)
        )
        return None
    return value


def _objects(files: Files, names: Sequence[str]) -> Iterator[_Object]:
    for file in names:
        for place, line in files.numbered(file):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            try:
                said, end = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                said, end = None, 0
            if isinstance(said, dict) and not text[end:].strip(" \t,").partition("#")[0]:
                yield _Object(place, said)
            else:
                files.notes.append(Note(text[:SHOWN_LIMIT], "is not one JSON object", place))
