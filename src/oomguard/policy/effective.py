"""The effective policy of all layers, with the file of each line: what `oomguard cat` prints."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from oomguard.core.host import AskedHost, Host
from oomguard.core.overcommit import KBYTES
from oomguard.core.policy import Policy
from oomguard.core.text import printable
from oomguard.policy.lint.shadow import shadows
from oomguard.policy.load import used
from oomguard.policy.model import off_as_false
from oomguard.policy.nodes import Mapping, items
from oomguard.policy.relations import Root, Setting, single_values
from oomguard.policy.scalars import data, text_of
from oomguard.policy.source import Sources
from oomguard.policy.sysctl_model import COMMIT_LIMIT, keys_of


class Value(NamedTuple):
    """A sysctl or setting, its value on this host, and the values that it overrides."""

    said: Setting
    meaning: str
    overrides: list[Setting]


class EffectiveRule(NamedTuple):
    """A rule, where it is, and the place of one that always matches first, "" if none does."""

    node: Mapping
    source: str
    overridden_by: str


class Effective(NamedTuple):
    """Each file with the reason why it does not count, "" if it does; and what the others declare."""

    files: list[tuple[str, str]]
    values: list[Value]
    rules: list[EffectiveRule]


def effective(sources: Sources, policy: Policy, host: Host | None) -> Effective:
    """Return the effective policy of files, given the policy compiled from them for a host, or for any."""
    files = [*used(sources, AskedHost(host))]
    roots = [
        Root(one.source.file, one.root, one.source.layer) for one in files if one.root and not one.why_not
    ]
    meanings = {one.name: one.meaning.partition(" ")[2] for one in policy.sysctls if one.said}
    values: dict[str, Value] = {}
    for here, first in single_values(roots):
        if first is None:
            meaning = meanings.get(KBYTES if here.name == COMMIT_LIMIT else here.name, "")
            values[here.name] = Value(here, meaning.removeprefix(f"{keys_of(here.name)[1]} "), [])
        else:
            values[first.name].overrides.append(here)
    earlier = shadows(policy.rules)
    listed = (node for root in roots for node in items(root.node, "rules"))
    rules = [
        EffectiveRule(node, printable(rule.source), printable(first.source) if first else "")
        for node, rule in zip(listed, policy.rules, strict=True)
        for first in [earlier.get(rule.number)]
        if isinstance(node, Mapping)
    ]
    return Effective([(printable(one.source.file), one.why_not) for one in files], [*values.values()], rules)


def render(found: Effective) -> Iterator[str]:
    """Yield lines of YAML with the same effect, with the file of each as a comment."""
    for file, why_not in found.files:
        yield f"# {file}: {why_not}" if why_not else f"# {file}"
    for section in ("", "vm", "kernel"):
        yield from _section(section, found.values)
    if found.rules:
        yield ""
        yield "rules:"
    for rule in found.rules:
        yield f"  # {rule.source}" + (rule.overridden_by and f": overridden by {rule.overridden_by}")
        for number, (key, entry) in enumerate(rule.node.entries.items()):
            yield f"  {' ' if number else '-'} {key}: {text_of(entry.value)}"


def document(found: Effective) -> dict[str, Any]:
    """Return the same as JSON."""
    return {
        "files": [{"file": file, "counts": not why, "why_not": why or None} for file, why in found.files],
        "values": [
            {**_value(one.said), "comes_to": one.meaning or None, "overrides": [*map(_value, one.overrides)]}
            for one in found.values
        ],
        "rules": [
            {"rule": data(one.node), "source": one.source, "overridden_by": one.overridden_by or None}
            for one in found.rules
        ],
    }


def _section(section: str, values: list[Value]) -> Iterator[str]:
    """Yield the lines of `vm:`, of `kernel:`, or of the settings that are in no section."""
    lines = []
    for said, meaning, overrides in values:
        own, key = keys_of(said.name)
        if own == section:
            notes = [_place(said), *([meaning] if meaning else [])]
            notes += [f"overrides {_text(one, said.name)} ({_place(one)})" for one in overrides]
            lines.append(f"{'  ' if section else ''}{key}: {text_of(said.value)}  # {'; '.join(notes)}")
    if lines:
        yield from ("", f"{section}:") if section else ("",)
        yield from lines


def _text(said: Setting, instead: str) -> str:
    value = text_of(said.value)
    return value if said.name == instead else f"{keys_of(said.name)[1]}: {value}"


def _value(said: Setting) -> dict[str, Any]:
    return {"name": said.name, "value": off_as_false(data(said.value)), "source": _place(said)}


def _place(said: Setting) -> str:
    return f"{printable(said.file)}:{said.line}"
