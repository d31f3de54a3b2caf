"""Nohang's configuration: `@BADNESS_ADJ_RE_…  POINTS /// REGEX`."""

import re
from typing import TYPE_CHECKING

from oomguard.core.text import counted
from oomguard.policy.regex_to_glob import NO_GLOB, globs
from oomguard.propose.draft import Draft, DraftRule, Note, Place, toward
from oomguard.propose.importers.files import ForeignError, read_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "/etc/nohang/nohang.conf"

_CONDITIONS = {"NAME": "name", "CGROUP_V1": "cgroup", "CGROUP_V2": "cgroup", "REALPATH": "exe"}
_TITLE = (
    "From nohang. It adds the points of all matching patterns; here the first rule that matches wins, "
    "so check their order. Negative points protect, and protection by name alone applies only to root's "
    "processes and system services. Keep nohang to decide when and how to kill."
)


def import_files(paths: "Sequence[str]") -> Draft:
    """Read configuration files."""
    rules: list[DraftRule] = []
    notes: list[Note] = []
    for path in paths or [DEFAULT]:
        settings: list[str] = []
        for number, line in enumerate(read_lines(path), 1):
            if not line or line[0] in "# \t":
                continue
            place = Place(path, number)
            if line.startswith("@"):
                found = _adjustment(line, place)
                if isinstance(found, str):
                    notes.append(Note(line, found, place))
                else:
                    rules.append(found)
            elif re.match(r"\w+\s*=", line):
                settings.append(f"{line.partition('=')[0].strip()} ({number})")
            else:
                raise ForeignError(f"{place}: is not a line of a nohang configuration: {line[:60]!r}")
        if settings:
            notes.append(
                Note(
                    counted(len(settings), "setting"),
                    "when and how to kill, which oomguard never does; with their lines: "
                    + ", ".join(settings),
                    Place(path),
                )
            )
    return Draft(_TITLE, (), tuple(rules), tuple(notes))


def _adjustment(line: str, place: Place) -> DraftRule | str:
    """Return the rule of a line, or why there is none."""
    kind, _, rest = line.partition(" ") if " " in line else line.partition("\t")
    prefix = "@BADNESS_ADJ_RE_"
    if not kind.startswith(prefix):
        return "no equivalent: oomguard takes no action"
    points, separator, regex = (part.strip() for part in rest.partition("///"))
    if not separator or not re.fullmatch(r"[+-]?\d{1,9}", points) or not regex:
        raise ForeignError(f"{place}: must be {kind} POINTS /// REGEX, got {line[:60]!r}")
    value = toward(int(points))
    if int(points) == 0:
        return "adds nothing"
    what = kind.removeprefix(prefix)
    reason = f"{kind} {points} /// {regex}"
    if what in _CONDITIONS:
        found = globs(regex)
        if found is None:
            return NO_GLOB
        return DraftRule({_CONDITIONS[what]: [*found]}, value, reason, place)
    if what == "CMDLINE":
        return DraftRule({"cmdline": [regex]}, value, reason, place)
    if what == "UID":
        uids = globs(regex)
        if uids is None or not all(uid.isdecimal() for uid in uids):
            return "only whole uids can be converted, as ^1000$"
        return DraftRule({"user": [int(uid) for uid in uids]}, value, reason, place)
    return "no condition of a rule matches that"
