"""Keys that need, exclude or contradict each other.

They are found in the nodes, not in the models, so that they are reported together with the faults
of single keys.
"""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.sysctl import SYSCTLS
from oomguard.policy.fault import Fault, Words, excerpt
from oomguard.policy.model import CONDITIONS, Bound, Rule
from oomguard.policy.nodes import Mapping, Node, Scalar, items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

_SECTIONS = ("vm", "kernel")
_SETTINGS = ("commit_headroom", "force", "resync_interval")
_CONDITIONS = frozenset(CONDITIONS)
_RULE_KEYS = frozenset(Rule.model_fields)
_BOUNDS = frozenset(Bound.model_fields)


class Root(NamedTuple):
    """A policy file as nodes."""

    file: str
    node: Mapping


class _Said(NamedTuple):
    """A value that all files together may set only once, and where it is set."""

    file: str
    line: int
    column: int
    text: str

    @property
    def source(self) -> str:
        return f"{excerpt(self.file)}:{self.line}"


def faults(roots: "Iterable[Root]") -> "Iterator[Fault]":
    """Yield the conflicts between the keys of a rule, of a file and of all files."""
    said: dict[str, _Said] = {}
    for root in roots:
        yield from _rules(root)
        for name, here in _single_values(root):
            yield from _contradictions(name, here, said)
            said.setdefault(name, here)


def _rules(root: Root) -> "Iterator[Fault]":
    for number, rule in enumerate(items(root.node, "rules")):
        if not isinstance(rule, Mapping):
            continue
        path = f"rules[{number}]"
        if _lacks(rule, _CONDITIONS, _RULE_KEYS):
            yield _NO_CONDITION.at(root.file, rule.line, rule.column, path)
        bound = _value(rule, "oom_score_adj")
        if not isinstance(bound, Mapping):
            continue
        if bound.entries.keys() >= _BOUNDS:
            yield _one_bound("both").at(root.file, bound.line, bound.column, f"{path}.oom_score_adj")
        elif _lacks(bound, _BOUNDS, _BOUNDS):
            yield _one_bound("neither").at(root.file, bound.line, bound.column, f"{path}.oom_score_adj")


def _lacks(node: Mapping, keys: "Set[str]", known: "Set[str]") -> bool:
    """Return whether all of `keys` are missing, and no unknown key may be one of them."""
    return node.entries.keys() <= known and node.entries.keys().isdisjoint(keys)


_NO_CONDITION = Words(
    "no-condition",
    f"has no condition, so it would match every process; add at least one of {', '.join(CONDITIONS)}",
    "to match every process, write name: '*'",
)


def _one_bound(got: str) -> Words:
    return Words(
        "one-bound",
        f"must have either at_most or at_least, got {got}",
        "at_most lowers higher values, at_least raises lower values",
    )


def _single_values(root: Root) -> "Iterator[tuple[str, _Said]]":
    """Yield each setting and sysctl of a file by its full name."""
    for key, entry in root.node.entries.items():
        if key in _SETTINGS and isinstance(entry.value, Scalar):
            yield key, _Said(root.file, entry.line, entry.column, entry.value.text)
        if key in _SECTIONS and isinstance(entry.value, Mapping):
            for knob, value in entry.value.entries.items():
                if f"{key}.{knob}" in SYSCTLS and isinstance(value.value, Scalar):
                    said = _Said(root.file, value.line, value.column, value.value.text)
                    yield f"{key}.{knob}", said


def _contradictions(name: str, here: _Said, said: dict[str, _Said]) -> "Iterator[Fault]":
    first = said.get(name)
    if first is not None and first.text != here.text:
        words = Words(
            "contradiction",
            f"is {excerpt(here.text)} here and {excerpt(first.text)} at {first.source}",
            "remove one of them: drop-ins add to a policy, they do not override it",
        )
        yield words.at(here.file, here.line, here.column, name)
    partner = SYSCTLS[name].partner if name in SYSCTLS else ""
    other = said.get(partner)
    if other is not None:
        words = Words(
            "exclusive-pair",
            f"conflicts with {partner}, set at {other.source}: setting one makes the kernel zero the other",
            "remove one of them",
        )
        yield words.at(here.file, here.line, here.column, name)


def _value(node: Mapping, key: str) -> Node | None:
    entry = node.entries.get(key)
    return None if entry is None else entry.value
