"""Keys that need, exclude or contradict each other.

They are found in the nodes, not in the models, so that they are reported together with the faults
of single keys.
"""

import re
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from oomguard.core.overcommit import KBYTES
from oomguard.core.policy import PressureLimit
from oomguard.core.sysctl import SYSCTLS, UNIT_BYTES
from oomguard.policy.fault import Fault, Problem, excerpt
from oomguard.policy.model import CONDITIONS, Document, Rule, off_as_false
from oomguard.policy.nodes import Mapping, Member, Node, items
from oomguard.policy.scalars import Data, data, text_of
from oomguard.policy.sysctl_model import BOUNDS, COMMIT_LIMIT, exclusives, one_bound
from oomguard.policy.values import PERCENT, SIZE, size_or_percent

_SECTIONS = ("vm", "kernel")
_PRESSURE = {"some": f"{PressureLimit().some_percent}%", "over": f"{PressureLimit().over_seconds}s"}
_SETTINGS = Document.model_fields.keys() - {*_SECTIONS, "rules", "when"}


class Root(NamedTuple):
    """A policy file as nodes, the number of its layer, and its `when:`, None if it counts on this host."""

    file: str
    node: Mapping
    layer: int = 0
    when: Data | None = None


class Setting(NamedTuple):
    """A value of which only one counts: a sysctl by its full name, or a setting; and its place."""

    name: str
    file: str
    layer: int
    line: int
    column: int
    value: Node
    when: Data | None

    def meets(self, other: "Setting") -> bool:
        """Return whether both count on some host for sure."""
        return None in (self.when, other.when) or self.when == other.when

    @property
    def meaning(self) -> object:
        """The value, however it is written."""
        row, said = SYSCTLS.get(self.name), data(self.value)
        if self.name == "pressure" and isinstance(said, dict):
            said = _PRESSURE | said
        return _meaning(said, None if row is None else UNIT_BYTES.get(row.unit))

    @property
    def text(self) -> str:
        """The value on one line."""
        return text_of(self.value)

    @property
    def source(self) -> str:
        """Where it is set, as `file:line`."""
        return f"{excerpt(self.file)}:{self.line}"


def faults(roots: "list[Root]") -> Iterator[Fault]:
    """Yield the conflicts between the keys of a rule, of a file and of all files of a layer.

    Between layers there are none: the higher one wins.
    """
    for root in roots:
        yield from _rules(root)
    for here, first in single_values(roots):
        if (
            first is not None
            and first.layer == here.layer
            and (first.name, first.meaning) != (here.name, here.meaning)
        ):
            yield _conflict(here, first).at(here.file, here.line, here.column, here.name)


def single_values(roots: Iterable[Root]) -> Iterator[tuple[Setting, Setting | None]]:
    """Yield each sysctl and setting, with what overrides it: an earlier value, or one that excludes it."""
    counts: dict[str, list[Setting]] = {}
    for here in (said for root in roots for said in _single_values(root)):
        names = (here.name, *exclusives(here.name))
        earlier = (one for name in names for one in counts.get(name, ()) if one.meets(here))
        first = next(earlier, None)
        yield here, first
        if first is None:
            counts.setdefault(here.name, []).append(here)


def _rules(root: Root) -> Iterator[Fault]:
    for number, rule in enumerate(items(root.node, "rules")):
        if not isinstance(rule, Mapping):
            continue
        path = f"rules[{number}]"
        if _lacks(rule, CONDITIONS, Rule.model_fields):
            yield _NO_CONDITION.at(root.file, rule.line, rule.column, path)
        value = rule.entries.get("oom_score_adj")
        bound = value.value if value else None
        if isinstance(bound, Mapping):
            given = [one for one in BOUNDS if one in bound.entries]
            if len(given) == len(BOUNDS) or _lacks(bound, BOUNDS, BOUNDS):
                problem = one_bound(BOUNDS, given)
                yield problem.at(root.file, bound.line, bound.column, f"{path}.oom_score_adj")


def _lacks(node: Mapping, keys: Iterable[str], known: Container[str]) -> bool:
    """Return whether all of `keys` are missing, and no unknown key may be one of them."""
    return node.entries.keys().isdisjoint(keys) and all(key in known for key in node.entries)


_NO_CONDITION = Problem(
    "no-condition",
    f"has no condition, so it would match every process; add at least one of {', '.join(CONDITIONS)}",
    "to match every process, write name: '*'",
)


def _single_values(root: Root) -> Iterator[Setting]:
    members: dict[str, Member] = {}
    for key, entry in root.node.entries.items():
        if key in _SECTIONS and isinstance(entry.value, Mapping):
            members |= {f"{key}.{knob}": member for knob, member in entry.value.entries.items()}
        else:
            members[key] = entry
    for name, (value, line, column) in members.items():
        if name in _SETTINGS or name in SYSCTLS or name == COMMIT_LIMIT:
            yield Setting(name, root.file, root.layer, line, column, value, root.when)


def _meaning(said: Data, unit_bytes: int | None) -> object:
    """Return a value so that all ways to write it are equal; an integer may have a unit."""
    if isinstance(said, dict):
        return {key: _meaning(one, unit_bytes) for key, one in said.items()}
    if isinstance(said, str) and re.fullmatch(f"{SIZE}|{PERCENT}", said):
        amount = size_or_percent(said)
        return amount.thousandths if amount.is_percent else (amount.size_bytes, "bytes")
    if isinstance(said, int) and unit_bytes is not None:
        return said * unit_bytes, "bytes"
    return off_as_false(said)


def _conflict(here: Setting, first: Setting) -> Problem:
    if first.name == here.name:
        hint = "remove one of them: of two files in one folder, neither overrides the other"
        if here.when or first.when:
            hint = "remove one of them, or give both files a different when:, because some host may fit both"
        return Problem(
            "contradiction", f"is {excerpt(here.text)} here and {excerpt(first.text)} at {first.source}", hint
        )
    why = "setting one makes the kernel zero the other"
    if {here.name, first.name} == {KBYTES, COMMIT_LIMIT}:
        why = f"{COMMIT_LIMIT} is written as {KBYTES}"
    return Problem(
        "exclusive-pair", f"conflicts with {first.name}, set at {first.source}: {why}", "remove one of them"
    )
