"""Rules that cannot match any process.

Each result is certain; some such rules are not found.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import chain
from posixpath import normpath

from oomguard.core.cgroup import system_unit
from oomguard.core.match import is_glob
from oomguard.core.process import CMDLINE_LIMIT, DELETED
from oomguard.core.rule import Rule, Terms
from oomguard.policy.fault import Problem, excerpt
from oomguard.policy.lint.programs import KERNEL_THREADS
from oomguard.policy.scalars import quoted

_USER_MANAGER = "user@"
_USER_MANAGERS = "/user.slice/user-*.slice/user@*.service"
"""The cgroups of the service managers of users."""
_MOUNT = "/sys/fs/cgroup"
_CONTROLLER = re.compile(r"/(?:memory|systemd|unified|pids|cpu,cpuacct|cpuset|blkio|freezer|devices)(?:/|\Z)")
"""What stands below the mount point where cgroups are of version 1."""

_DETOUR = re.compile(r"//|/\.{1,2}(?:/|\Z)|/\Z")
"""What no path of an executable has."""

_COUNT = re.compile(r"(?<!\\)\{([0-9]+)(?:,[0-9]*)?\}")
_OPTIONAL = re.compile(r"[|?*\[]|\{,|\{0|\\\{")
"""What may make a repetition optional, or no repetition."""


def unmatchable(rule: Rule) -> tuple[tuple[str], Problem] | None:
    """Return the first condition of a rule that no process can meet and why, None if there is none."""
    terms = rule.terms
    found = chain(_names(rule.names), _exes(terms.exes), _units(terms), _cgroups(terms), _cmdlines(terms))
    for key, why, hint in found:
        return (key,), Problem("never-matches", f"matches no process: {why}", hint)
    return None


_Why = tuple[str, str, str]
"""A condition that no process meets, why, and a fix."""


def _names(names: tuple[bytes, ...]) -> Iterator[_Why]:
    if names and all(name == b"oomguard" for name in names):
        yield "name", "oomguard never matches itself", "remove the rule; oomguard has -1000"
    elif names and all(name.decode("utf-8", "surrogateescape") in KERNEL_THREADS for name in names):
        why = "the kernel never kills its threads, so oomguard never matches them"
        yield "name", why, "remove the rule"


def _exes(paths: tuple[str, ...]) -> Iterator[_Why]:
    if paths and all(path.endswith(DELETED) for path in paths):
        why = f"oomguard removes{DELETED} from the path of a file that was replaced"
        yield "exe", why, f"write exe: {quoted(paths[0].removesuffix(DELETED))}"
    if not paths or any(is_glob(path) or not _DETOUR.search(path) for path in paths):
        return
    path = paths[0]
    if path.endswith("/"):
        hint = f"write exe: {quoted(f'{path}*')} to match everything below"
        yield "exe", "paths of executables do not end in /", hint
    else:
        hint = f"write exe: {quoted(normpath(path).replace('//', '/'))}"
        yield "exe", f"the kernel shows no //, /./ and /../ as in {excerpt(path)}", hint


def _units(terms: Terms) -> Iterator[_Why]:
    for key, units, above in (("unit", terms.units, ""), ("user_unit", terms.user_units, _USER_MANAGERS)):
        if units and all(unit.endswith(".slice") for unit in units):
            why = "processes are in the units of a slice, not in the slice itself"
            path = f"{above}{_slice_path(units[0])}/*"
            yield key, why, f"write cgroup: {quoted(path)} to match all of them"
        elif units and all("@." in unit and not is_glob(unit) for unit in units):
            why = "nothing runs in a template, but in its instances"
            yield key, why, f"write {key}: {quoted(units[0].replace('@.', '@*.'))}"
    if terms.user_units and terms.units and not any(_may_be_manager(unit) for unit in terms.units):
        why = f"a process in the system unit {excerpt(terms.units[0])} is not in a user's unit"
        yield "user_unit", why, "remove unit or user_unit, or write two rules"


def _slice_path(unit: str) -> str:
    """Return the cgroup of a slice: `/user.slice/user-1000.slice`, "" for the root slice.

    A glob stands for one in any folder.
    """
    if is_glob(unit):
        return f"*/{unit}"
    if unit == "-.slice":
        return ""
    parts = unit.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[:count])}.slice" for count in range(1, len(parts) + 1))


def _may_be_manager(unit: str) -> bool:
    """Return whether a glob may match a user's service manager, the only unit with user units."""
    literal = unit[: min((unit.find(wild) for wild in "*?[" if wild in unit), default=len(unit))]
    return literal.startswith(_USER_MANAGER) or (is_glob(unit) and _USER_MANAGER.startswith(literal))


def _cgroups(terms: Terms) -> Iterator[_Why]:
    paths = terms.cgroups
    if paths and all(path.startswith(_MOUNT) for path in paths):
        why = f"{excerpt(paths[0])} is the path of a folder: cgroup paths start below {_MOUNT}"
        below = _CONTROLLER.sub("/", paths[0].removeprefix(_MOUNT), count=1) or "/"
        yield "cgroup", why, f"write cgroup: {quoted(below)}"
    if not paths or any(is_glob(path) for path in paths):
        return
    if all(path.endswith("/") and path != "/" for path in paths):
        hint = f"write cgroup: {quoted(f'{paths[0]}*')} to match everything below"
        yield "cgroup", "cgroup paths do not end in /", hint
    elif all(path.endswith(".slice") for path in paths):
        why = f"{excerpt(paths[0])} is a slice: processes are in the units below it"
        yield "cgroup", why, f"write cgroup: {quoted(f'{paths[0]}/*')}"
    elif terms.units and not any(
        fnmatchcase(system_unit(path), unit) for path in paths for unit in terms.units
    ):
        why = f"{excerpt(paths[0])} is not in the unit {excerpt(terms.units[0])}"
        yield "cgroup", why, "remove unit or cgroup, or write two rules"


def _cmdlines(terms: Terms) -> Iterator[_Why]:
    least = [_least_length(pattern) for pattern in terms.cmdlines]
    if least and min(least) > CMDLINE_LIMIT:
        why = f"it needs at least {min(least)} characters, and oomguard reads {CMDLINE_LIMIT} bytes"
        yield "cmdline", why, "use fewer repetitions"


def _least_length(pattern: str) -> int:
    """Return how many characters the pattern needs at least, as far as its counts of repetitions tell."""
    if _OPTIONAL.search(pattern):
        return 0
    return max((int(count) for count in _COUNT.findall(pattern)), default=0)
