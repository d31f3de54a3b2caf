"""What no key can tell by itself: keys that need, exclude or contradict each other.

These are read from the nodes, not from the models, so that they are found in the same run as the
faults of single keys.
"""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.sysctl import SYSCTLS
from oomguard.policy.fault import Fault, Words, excerpt
from oomguard.policy.model import CONDITIONS, Bound, Language, Rule
from oomguard.policy.nodes import Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SECTIONS = ("vm", "kernel")
_SETTINGS = ("commit_headroom", "force", "resync_interval")


class Root(NamedTuple):
    """A policy file as nodes."""

    file: str
    node: Mapping


class _Said(NamedTuple):
    """A value that may be given only once in all files, and where."""

    file: str
    line: int
    column: int
    text: str

    @property
    def source(self) -> str:
        return f"{excerpt(self.file)}:{self.line}"


def faults(roots: "Iterable[Root]") -> "Iterator[Fault]":
    """Yield what is wrong between the keys of a rule, of a file and of all files."""
    said: dict[str, _Said] = {}
    for root in roots:
        yield from _rules(root)
        for name, here in _single_values(root):
            yield from _contradictions(name, here, said)
            said.setdefault(name, here)


def _rules(root: Root) -> "Iterator[Fault]":
    rules = _value(root.node, "rules")
    for number, rule in enumerate(rules.items if isinstance(rules, Sequence) else ()):
        if not isinstance(rule, Mapping):
            continue
        path = f"rules[{number}]"
        if _lacks(rule, CONDITIONS, Rule):
            yield _NO_CONDITION.at(root.file, rule.line, rule.column, path)
        bound = _value(rule, "oom_score_adj")
        if not isinstance(bound, Mapping):
            continue
        if bound.entries.keys() >= Bound.model_fields.keys():
            yield _one_bound("both").at(root.file, bound.line, bound.column, f"{path}.oom_score_adj")
        elif _lacks(bound, tuple(Bound.model_fields), Bound):
            yield _one_bound("none").at(root.file, bound.line, bound.column, f"{path}.oom_score_adj")


def _lacks(node: Mapping, keys: tuple[str, ...], language: type[Language]) -> bool:
    """Tell whether none of `keys` is there, and none can have been meant by a key that is misspelt."""
    return node.entries.keys() <= language.model_fields.keys() and node.entries.keys().isdisjoint(keys)


_NO_CONDITION = Words(
    "no-condition",
    f"has no condition and would match every process; give at least one of {', '.join(CONDITIONS)}",
    "if every process is meant: name: '*'",
)


def _one_bound(got: str) -> Words:
    return Words(
        "one-bound",
        f"must have exactly one of at_most and at_least, got {got}",
        "at_most lowers what is higher, at_least raises what is lower",
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
            "keep one of the two: drop-ins add to a policy, they do not override it",
        )
        yield words.at(here.file, here.line, here.column, name)
    partner = SYSCTLS[name].partner if name in SYSCTLS else ""
    other = said.get(partner)
    if other is not None:
        words = Words(
            "exclusive-pair",
            f"excludes {partner}, which is set at {other.source}: "
            "the kernel zeroes one when the other is written",
            "keep the one you mean",
        )
        yield words.at(here.file, here.line, here.column, name)


def _value(node: Mapping, key: str) -> Node | None:
    entry = node.entries.get(key)
    return None if entry is None else entry.value
