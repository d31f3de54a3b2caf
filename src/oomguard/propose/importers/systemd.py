"""systemd: `OOMScoreAdjust=` of units and their drop-ins."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from oomguard.core.rule import OOM_SCORE_ADJ_MAX
from oomguard.foreign.text_file import Read, SourcedValue, parse_number
from oomguard.foreign.units import SYSTEM_FOLDERS, Units, assignments, variants
from oomguard.policy.regex_to_glob import literal
from oomguard.propose.importers.files import SHOWN_LIMIT, Files
from oomguard.propose.policy_draft import Draft, DraftRule, Note, Origin, toward

_KEY = "OOMScoreAdjust"
_ENDINGS = (".service", ".socket", ".mount", ".swap")
"""Units that start programs, and therefore have the setting (systemd.exec(5))."""

_TITLE = (
    "From systemd's units. systemd sets these values itself when it starts a service, so they need no "
    "rule. A rule also corrects the value when something changes it. Rules that protect match only the "
    "main process, because many services set another value for their children."
)


class _Setting(NamedTuple):
    """The value of a unit, None if it was reset, and its place."""

    value: int | None
    place: Origin


def import_files(paths: Sequence[str]) -> Draft:
    """Read units, drop-ins, and folders of both."""
    folders: dict[str, str] = {}  # /lib is /usr/lib on most hosts
    for folder in (f"/{one}" for one in SYSTEM_FOLDERS):
        if os.path.isdir(folder):
            folders.setdefault(os.path.realpath(folder), folder)
    files = Files(paths or [*folders.values()], (*_ENDINGS, ".conf"))
    read = cache(files.lines)
    rules: list[DraftRule] = []
    for condition, is_user in (("unit", False), ("user_unit", True)):
        units = Units(file for file in files.all if ("/systemd/user/" in file) == is_user)
        rules += _rules(units, condition, read, files.notes)
    for file in files.all:
        if os.path.basename(file) in ("system.conf", "user.conf") or ".conf.d/" in file:
            files.notes += _defaults(file, read(file))
    return Draft(_TITLE, (), tuple(rules), tuple(files.finish()))


def _rules(units: Units, condition: str, read: Read, notes: list[Note]) -> Iterator[DraftRule]:
    """Yield the rules of one manager's units: exact names first, then patterns, the broadest last.

    A unit that has what a broader rule gives has none of its own.
    """
    names = [name for name in units.names() if f".{name}".endswith(_ENDINGS) and not units.is_masked(name)]
    stands_for = {name: _pattern(name, units) for name in names}
    settings = {name: _setting(units.settings(stands_for[name], _KEY, read), notes) for name in names}
    given = {name: value for name, setting in settings.items() if setting and (value := setting.value)}
    order = sorted(names, key=lambda one: (_breadth(one, units), one))
    for at, name in enumerate(order):
        setting = settings[name]
        value = given.get(name)
        others = {*variants(stands_for[name]), name.rpartition(".")[2]}
        broader = next((one for one in order[at + 1 :] if one in others and one in given), None)
        if setting is None or (broader and value == given[broader]):
            continue
        if condition == "unit" and name.startswith("user@") and value:
            why = "is for the service manager of a user, not for what that starts"
            notes.append(Note(name, why, setting.place))
            continue
        if value or broader:
            rule = _rule(_pattern(name, units, literal), condition, value, setting)
            yield rule
            if rule.scope == "main" and broader and given[broader] > 0:
                why = "the children of this unit: a broader rule would raise them"
                yield rule._replace(value="keep", scope="all", reason=why)
        elif setting.value == 0:
            notes.append(Note(name, "0 is the default of a service", setting.place))


def _breadth(name: str, units: Units) -> tuple[int, int]:
    """Return 0 for a unit, 1 for a template, 2 for a prefix, the longest first, 3 for all of a type."""
    stem, _, _ = name.rpartition(".")
    if not stem:
        return 3, 0
    if stem.rstrip("@").endswith("-") and not units.has_file(name):
        return 2, -len(stem)
    return int(stem.endswith("@")), 0


def _pattern(name: str, units: Units, literal: Callable[[str], str] = str) -> str:
    """Return a glob for the units that a name stands for: a unit, template, prefix or type."""
    stem, _, kind = name.rpartition(".")
    prefix, at, instance = stem.partition("@")
    is_open = _breadth(name, units)[0] >= 2
    return f"{literal(prefix)}{'*' * is_open}{at}{literal(instance) or '*' * bool(at)}.{kind}"


def _setting(lines: Sequence[SourcedValue], notes: list[Note]) -> _Setting | None:
    """Return the value that counts, None if there is none; an empty one resets those before."""
    found = None
    for value, file, number in lines:
        place = Origin(file, number)
        if not value:
            found = _Setting(None, place)
        elif (parsed := parse_number(value)) is not None and abs(parsed) <= OOM_SCORE_ADJ_MAX:
            found = _Setting(parsed, place)
        else:
            why = "must be a number from -1000 to 1000"
            notes.append(Note(f"{_KEY}={value[:SHOWN_LIMIT]}", why, place))
    return found


def _defaults(file: str, lines: Sequence[str]) -> list[Note]:
    why = "a default for all services; write rules for those that matter"
    said = (one for one in assignments(lines) if one.key == "DefaultOOMScoreAdjust")
    return [Note(f"{one.key}={one.value}", why, Origin(file, one.line)) for one in said]


def _rule(pattern: str, condition: str, value: int | None, setting: _Setting) -> DraftRule:
    """Return a rule; without a value the unit is left alone, where a broader rule would match it."""
    said = "" if setting.value is None else setting.value
    return DraftRule(
        {condition: [pattern]},
        toward(value) if value else "keep",
        f"{_KEY}={said}",
        setting.place,
        scope="main" if value and value < 0 else "all",
    )
