"""Rules that can match no process, whatever runs.

The answer errs on the side of silence: what is reported is certain, what is not may still be so.
"""

from fnmatch import fnmatchcase
from re import _parser  # type: ignore[attr-defined]  # the only place that knows how long a match must be
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.cgroup import system_unit
from oomguard.core.match import is_glob
from oomguard.core.process import COMM_LENGTH
from oomguard.policy.fault import excerpt
from oomguard.policy.programs import KERNEL_THREADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.core.policy import Rule, Terms

CMDLINE_LIMIT = 4096
"""Bytes that are read of a command line (kernel/procfs.py)."""

_USER_MANAGER = "user@"


class Unmatchable(NamedTuple):
    """A condition that nothing meets, and the way out."""

    key: str
    why: str
    hint: str


def unmatchable(rule: "Rule") -> Unmatchable | None:
    """Return the first condition of a rule that no process can meet, or None."""
    for found in (*_names(rule), *_units(rule.terms), *_cgroups(rule.terms), *_cmdlines(rule.terms)):
        return found
    return None


def _names(rule: "Rule") -> "Iterator[Unmatchable]":
    names = [name.decode("utf-8", "surrogateescape") for name in rule.names]
    if not names:
        return
    if all(name == "oomguard" for name in names):
        yield Unmatchable("name", "oomguard itself is never matched", "remove the rule; oomguard is at -1000")
    elif all(name in KERNEL_THREADS for name in names):
        yield Unmatchable("name", "kernel threads are never killed, so never matched", "remove the rule")
    elif all(_has_late_space(name) for name in rule.names):
        yield Unmatchable(
            "name",
            f"{excerpt(names[0])} is longer than the 15 bytes the kernel keeps, and what comes after a blank "
            "in a command line is no name",
            f"write name: {excerpt(names[0].split(' ')[0])}, and the rest as cmdline",
        )


def _has_late_space(name: bytes) -> bool:
    return not is_glob(name) and b" " in name[COMM_LENGTH:] and b" " not in name[:COMM_LENGTH]


def _units(terms: "Terms") -> "Iterator[Unmatchable]":
    if terms.units and all(unit.endswith(".slice") for unit in terms.units):
        slice_ = terms.units[0]
        yield Unmatchable(
            "unit",
            "a process lives in the units of a slice, never in the slice itself",
            f'write cgroup: "/{slice_}/*" for everything in there',
        )
    elif terms.user_units and terms.units and not any(_may_be_manager(unit) for unit in terms.units):
        yield Unmatchable(
            "user_unit",
            f"what is in the system's {excerpt(terms.units[0])} is in no unit of a user",
            "remove one of unit and user_unit, or write two rules",
        )


def _may_be_manager(unit: str) -> bool:
    """Tell whether a glob may name a user's service manager, the only unit with user units inside."""
    literal = unit[: min((unit.find(wild) for wild in "*?[" if wild in unit), default=len(unit))]
    return literal.startswith(_USER_MANAGER) or (is_glob(unit) and _USER_MANAGER.startswith(literal))


def _cgroups(terms: "Terms") -> "Iterator[Unmatchable]":
    paths = terms.cgroups
    if not paths or any(is_glob(path) for path in paths):
        return
    if all(path.endswith("/") and path != "/" for path in paths):
        yield Unmatchable(
            "cgroup", "no cgroup's path ends in /", f'write cgroup: "{excerpt(paths[0])}*" for all below it'
        )
    elif all(path.endswith(".slice") for path in paths):
        path = paths[0]
        yield Unmatchable(
            "cgroup",
            f"{excerpt(path)} is a slice: processes live in the units below it",
            f'write cgroup: "{excerpt(path)}/*"',
        )
    elif terms.units and not any(
        fnmatchcase(system_unit(path), unit) for path in paths for unit in terms.units
    ):
        yield Unmatchable(
            "cgroup",
            f"{excerpt(paths[0])} is not in the unit {excerpt(terms.units[0])}",
            "remove one of unit and cgroup, or write two rules",
        )


def _cmdlines(terms: "Terms") -> "Iterator[Unmatchable]":
    least = [_parser.parse(pattern).getwidth()[0] for pattern in terms.cmdlines]
    if least and min(least) > CMDLINE_LIMIT:
        yield Unmatchable(
            "cmdline",
            f"takes at least {min(least)} characters, and {CMDLINE_LIMIT} bytes are read of a command line",
            "repeat less",
        )
