"""systemd: `OOMScoreAdjust=` of units and their drop-ins."""

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.rule import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomguard.foreign.unit_file import assignments
from oomguard.policy.regex_to_glob import literal
from oomguard.propose.draft import Draft, DraftRule, Note, Place, toward
from oomguard.propose.importers.files import files_below, read_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULTS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")

_SHOWN_LIMIT = 60
_KINDS = (".service", ".socket", ".mount", ".swap")
"""Units that start programs, and therefore have the setting (systemd.exec(5))."""

_TITLE = (
    "From systemd's units. systemd sets these values itself when it starts a service, so they need no "
    "rule. A rule also corrects the value when something changes it. Rules that protect match only the "
    "main process, because many services set another value for their children."
)


class _Setting(NamedTuple):
    value: int | None
    place: Place


def import_files(paths: "Sequence[str]") -> Draft:
    """Read units, drop-ins, and folders of both."""
    notes: list[Note] = []
    files = [file for path in paths or _present(DEFAULTS) for file in files_below(path, (*_KINDS, ".conf"))]
    units: dict[tuple[str, bool], dict[str, str]] = {}  # by unit: the file that counts, by its name
    for file in files:
        if os.path.dirname(file).endswith((".wants", ".requires", ".upholds")):
            continue  # links to units that are found where they are
        unit, part = _unit(file)
        if not unit:
            if os.path.basename(file) in ("system.conf", "user.conf") or ".conf.d/" in file:
                notes += _defaults(file)
            continue
        # Of files with one name the first counts: /etc hides /run, which hides /usr/lib.
        units.setdefault((unit, "/systemd/user/" in file), {}).setdefault(part, file)
    rules = []
    for (unit, is_user), parts in sorted(units.items()):
        if os.path.realpath(parts.get("", "")) == "/dev/null":
            continue  # masked
        setting = None
        for _, file in sorted(parts.items()):  # "" comes first: the unit itself, then its drop-ins
            setting = _setting(file, notes) or setting
        if setting is None or setting.value is None:
            continue
        if setting.value == 0:
            notes.append(Note(unit, "0 is the default of a service", setting.place))
            continue
        rules.append(_rule(unit, setting, is_user=is_user))
    return Draft(_TITLE, (), tuple(rules), tuple(notes))


def _present(folders: "Sequence[str]") -> list[str]:
    return [folder for folder in folders if os.path.isdir(folder)]


def _unit(file: str) -> tuple[str, str]:
    """Return the unit a file is about, and the drop-in's name, "" for the unit itself."""
    folder, name = os.path.split(file)
    parent = os.path.basename(folder)
    if name.endswith(".conf") and parent.endswith(tuple(f"{kind}.d" for kind in _KINDS)):
        return parent.removesuffix(".d"), name
    return (name, "") if name.endswith(_KINDS) else ("", "")


def _setting(file: str, notes: list[Note]) -> _Setting | None:
    """Return the last OOMScoreAdjust= of a file; an empty one resets those before."""
    found = None
    for section, key, value, number in assignments(read_lines(file)):
        if key != "OOMScoreAdjust" or section not in ("Service", "Socket", "Mount", "Swap"):
            continue
        place = Place(file, number)
        if not value:
            found = _Setting(None, place)
            continue
        if not re.fullmatch(r"[-+]?[0-9]{1,9}", value) or not (
            OOM_SCORE_ADJ_MIN <= int(value) <= OOM_SCORE_ADJ_MAX
        ):
            notes.append(
                Note(
                    f"OOMScoreAdjust={value[:_SHOWN_LIMIT]}",
                    "must be from -1000 to 1000; systemd ignores it, too",
                    place,
                )
            )
            continue
        found = _Setting(int(value), place)
    return found


def _defaults(file: str) -> list[Note]:
    return [
        Note(
            f"{key}={value}",
            "a default for all services; write rules for those that matter",
            Place(file, number),
        )
        for _, key, value, number in assignments(read_lines(file))
        if key == "DefaultOOMScoreAdjust"
    ]


def _rule(unit: str, setting: _Setting, *, is_user: bool) -> DraftRule:
    assert setting.value is not None
    stem, dot, kind = unit.rpartition(".")
    # foo@.service is a template, and what runs are its instances; a socket's processes are its service's.
    pattern = f"{literal(stem)}*{dot}{kind}" if stem.endswith("@") else literal(unit)
    protects = setting.value < 0
    return DraftRule(
        {"user_unit" if is_user else "unit": [pattern]},
        toward(setting.value),
        f"OOMScoreAdjust={setting.value}",
        setting.place,
        scope="main" if protects else "all",
    )
