"""Nohang's configuration: `@BADNESS_ADJ_RE_…  POINTS /// REGEX`."""

import re
from collections.abc import Sequence

from oomguard.core.text import counted
from oomguard.policy.regex_to_glob import NO_GLOB, alternatives
from oomguard.propose.importers.files import SHOWN_LIMIT, Files
from oomguard.propose.policy_draft import Draft, DraftRule, Note, Origin, Regex, toward

DEFAULT = "/etc/nohang/nohang.conf"

_PREFIX = "@BADNESS_ADJ_RE_"
_CONDITIONS = {
    "NAME": "name",
    "CGROUP_V1": "cgroup",
    "CGROUP_V2": "cgroup",
    "REALPATH": "exe",
    "UID": "user",
}
_UNIT = re.compile(r"\*/[^/*?\[]+\.(?:service|scope)")
_TITLE = (
    "From nohang. It adds the points of all matching patterns; here the first rule that matches wins, "
    "so check their order. Negative points protect, and protection by name alone applies only to root's "
    "processes and system services. Rules with exe need CAP_SYS_PTRACE (oomguard.yaml(5)). Its UID is the "
    "effective one, `user` the real one. Keep nohang to decide when and how to kill."
)


def import_files(paths: Sequence[str]) -> Draft:
    """Read configuration files."""
    files = Files(paths or [DEFAULT])
    rules: list[DraftRule] = []
    for file in files.all:
        settings: list[str] = []
        for place, line in files.numbered(file):
            if not line.strip() or line[0] in "# \t":
                continue
            if line.startswith("@"):
                rule, notes = _adjustment(line.rstrip(), place)
                rules += [rule] if rule else []
                files.notes += notes
            elif re.match(r"\w+\s*=", line):
                settings.append(f"{line.partition('=')[0].strip()} ({place.line})")
            else:
                why = "is not a line of a nohang configuration"
                files.notes.append(Note(line[:SHOWN_LIMIT], why, place))
        if settings:
            what, number = counted(len(settings), "setting"), len(settings)
            why = f"when and how to kill, which oomguard never does; with their lines: {', '.join(settings)}"
            files.notes.append(Note(what, why, Origin(file), settings=number))
    return Draft(_TITLE, (), tuple(rules), tuple(files.finish()))


def _adjustment(line: str, place: Origin) -> tuple[DraftRule | None, list[Note]]:
    """Return the rule of a line, and what of the line it does not have."""
    kind = "@" + re.split(r"\W", line[1:], maxsplit=1)[0]
    rest = line.removeprefix(kind)

    def without(why: str) -> tuple[None, list[Note]]:
        return None, [Note(line, why, place)]

    if not kind.startswith(_PREFIX):
        return without("no equivalent: oomguard takes no action")
    points, separator, regex = (part.strip() for part in rest.partition("///"))
    if not separator or not re.fullmatch(r"[+-]?\d{1,9}", points) or not regex:
        return without(f"must be {kind} POINTS /// REGEX")
    if int(points) == 0:
        return without("adds nothing")
    if regex.startswith("(?i)"):
        regex = f"(?i:{regex[4:]})"
    what, value, reason = kind.removeprefix(_PREFIX), toward(int(points)), f"{kind} {points} /// {regex}"
    if what == "CMDLINE":
        return DraftRule({"cmdline": [regex]}, value, reason, place), []
    if what not in _CONDITIONS:
        return without("no condition of a rule matches that")
    found = alternatives(regex)
    items: list[str | int] = [*found.globs]
    if what == "NAME":
        return DraftRule({"name": [*items, *map(Regex, found.unsaid)]}, value, reason, place), []
    notes = [Note(f"{kind} {points} /// {one}", NO_GLOB, place) for one in found.unsaid]
    if what == "UID":
        items = [int(uid) for uid in found.globs if uid.isdecimal()]
        if notes or len(items) < len(found.globs):
            return without("only whole uids can be converted, as ^1000$")
    key = _CONDITIONS[what]
    if key == "cgroup" and int(points) < 0 and all(map(_UNIT.fullmatch, found.globs)):
        # Users can make cgroups of that name, so the glob would protect nothing.
        key, items = "unit", [glob.removeprefix("*/") for glob in found.globs]
    return (DraftRule({key: items}, value, reason, place) if items else None), notes
