"""TuneD profiles: the sysctls they set, with what they include (tuned/profiles/loader.py, merger.py)."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from oomguard.core.sysctl import SYSCTLS
from oomguard.foreign.sysctl_d import write
from oomguard.foreign.text_file import Read, SourcedValue, lines_or_none, parse_number
from oomguard.foreign.units import Assignment

FOLDERS = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned")
"""Most important first."""

FILE = "tuned.conf"
TRUE = ("1", "true", "True")
_OWN = {
    *("type", "enabled", "replace", "drop", "priority", "cpuinfo_regex", "uname_regex", "prepend"),
    *("devices", "devices_udev_regex", "script_pre", "script_post"),
}
"""Keys of a section about itself."""
_ONLY_SOME = ("cpuinfo_regex", "uname_regex")
_FUNCTION = re.compile(r"(?<!\\)\$\{[^}]*\}")
_COMPUTED = "TuneD computes this on the host"
_DIRTY = ("dirty_bytes", "dirty_ratio", "dirty_background_bytes", "dirty_background_ratio")
_PROFILES_LIMIT = 100
_VALUE_LIMIT = 4096
"""A variable may contain another one twice."""


class Problem(NamedTuple):
    """What in a profile cannot be known, why, and where."""

    what: str
    why: str
    at: SourcedValue


class Tuned(NamedTuple):
    """The sysctls of profiles, by dotted names, in the order of their writes, and what cannot be known."""

    values: dict[str, SourcedValue]
    problems: list[Problem]


class _Section:
    """A section, merged from all profiles that have it."""

    def __init__(self) -> None:
        self.own: dict[str, str] = {}
        self.options: dict[str, SourcedValue] = {}

    def merge(self, options: dict[str, SourcedValue]) -> None:
        new = {key: one.value for key, one in options.items() if key in _OWN}
        if new.get("replace") in TRUE:
            self.own, self.options = {}, {}
        for key in _parts(new.get("drop", "")):
            self.options.pop(key, None)
        self.own |= {"type": "", "enabled": "1"} | new
        for key, one in options.items():
            if key not in _OWN:
                self.options[key] = one


def active_profiles(root: str = "/") -> str:
    """Return the active profiles, separated by spaces, "" if there are none."""
    files = (os.path.join(root, "etc/tuned", name) for name in ("active_profile", "post_loaded_profile"))
    return " ".join(filter(None, (" ".join(lines_or_none(file)[:1]).strip() for file in files)))


def tuned_sysctls(profiles: str, root: str) -> dict[str, SourcedValue]:
    """Return the sysctls of a host's profiles."""
    folders = [os.path.join(root, folder) for folder in FOLDERS]
    return load(profiles.split(), folders).values


def load(profiles: Iterable[str], folders: Sequence[str], read: Read = lines_or_none) -> Tuned:
    """Return what profiles set; each is a name, or the path of its file. Later ones override."""
    problems: list[Problem] = []
    sections: dict[str, _Section] = {}
    for file in _files(profiles, folders, read, problems):
        found: dict[str, dict[str, SourcedValue]] = {}
        for section, key, value, line in assignments(read(file)):
            expanded = value.replace("${i:PROFILE_DIR}", os.path.dirname(file))
            found.setdefault(section, {})[key] = SourcedValue(expanded, file, line)
        for section, options in found.items():
            if section != "main":
                sections.setdefault(section, _Section()).merge(options)
    variables = _variables(sections.pop("variables", _Section()), read)
    values: dict[str, SourcedValue] = {}
    for name, one_section in sorted(sections.items(), key=lambda one: _priority(one[1])):
        kind, own, options = one_section.own["type"] or name, one_section.own, one_section.options
        if kind not in ("sysctl", "vm") or own["enabled"] not in TRUE or not options:
            continue
        condition = next((key for key in _ONLY_SOME if key in own), "")
        if condition:
            first = next(iter(options.values()))
            if not any(_sysctl(kind, key, one.value) in SYSCTLS for key, one in options.items()):
                continue
            problems.append(Problem(f"[{name}]", f"applies only to some hosts, by its {condition}", first))
            continue
        for key, one in options.items():
            value = _expanded(one.value.strip('"'), variables)
            sysctl = _sysctl(kind, key, value)
            if not sysctl:
                continue
            if sysctl not in SYSCTLS:
                values[sysctl] = one
            elif _FUNCTION.search(value):
                problems.append(Problem(f"{key}={one.value}", _COMPUTED, one))
            elif value[:1] in ("<", ">"):
                bound = "higher" if value[0] == ">" else "lower"
                problems.append(Problem(f"{key}={value}", f"TuneD leaves a {bound} value alone", one))
            else:
                write(values, sysctl, one._replace(value=value.removesuffix("%")))
    return Tuned(values, problems)


def assignments(lines: Iterable[str]) -> Iterator[Assignment]:
    """Yield what the lines of a profile assign (configparser, with `#` comments behind values)."""
    section = ""
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1]
            continue
        key, equals, value = text.partition("=")
        if equals and not text.startswith(";"):
            yield Assignment(section, key.strip(), value.strip()[:_VALUE_LIMIT], number)


def profile_file(profile: str, folders: Sequence[str], skipped: Set[str] = frozenset()) -> str:
    """Return the most important file of a profile that is not among `skipped`, "" if there is none."""
    if profile.endswith(f"/{FILE}"):
        return profile
    paths = (os.path.normpath(f"{folder}/{os.path.basename(profile)}/{FILE}") for folder in folders)
    return next((path for path in paths if path not in skipped and os.path.isfile(path)), "")


def _files(profiles: Iterable[str], folders: Sequence[str], read: Read, problems: list[Problem]) -> list[str]:
    """Return the files of profiles, each after those that it includes."""
    found: list[str] = []
    seen: set[str] = set()

    def add(profile: str, included: SourcedValue) -> None:
        name = profile.removeprefix("-")
        # A profile that includes its own name extends the vendor's.
        file = profile_file(name, folders, seen) or profile_file(name, folders)
        if not file:
            if name == profile:
                why = _COMPUTED if _FUNCTION.search(profile) else "no such profile"
                problems.append(Problem(profile, why, included))
            return
        if file in seen or len(seen) >= _PROFILES_LIMIT:
            return
        seen.add(file)
        includes = [one for one in assignments(read(file)) if (one.section, one.key) == ("main", "include")]
        for one in includes[-1:]:
            for base in _parts(one.value):
                add(base, SourcedValue(one.value, file, one.line))
        found.append(file)

    for profile in profiles:
        add(profile, SourcedValue(profile, "", 0))
    return found


def _variables(section: _Section, read: Read) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, option in section.options.items():
        if key == "include":
            for one in assignments(read(option.value)):
                found[one.key] = _expanded(one.value, found)
        else:
            found[key] = _expanded(option.value, found)
    return found


def _parts(text: str) -> list[str]:
    """Return the items of a list. A pattern with spaces would take quadratic time on many."""
    return [part.strip() for part in re.split("[,;]", text)]


def _expanded(value: str, variables: dict[str, str]) -> str:
    return _FUNCTION.sub(lambda one: variables.get(one[0][2:-1], one[0]), value)[:_VALUE_LIMIT]


def _priority(section: _Section) -> int:
    return parse_number(section.own.get("priority", "")) or 0


def _sysctl(kind: str, key: str, value: str) -> str:
    """Return the sysctl that an option of a section sets, "" if none. A percentage is a ratio."""
    if kind == "sysctl":
        return key
    if key not in _DIRTY:
        return ""
    return f"vm.{key.replace('_bytes', '_ratio') if value.endswith('%') else key}"
