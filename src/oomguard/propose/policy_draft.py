"""A policy that `import` or `advise` suggests: as text, with reasons as comments, or as JSON.

`mend` makes it pass `oomguard check`: what the language does not allow becomes a note. Keys of JSON are
stable; new ones may be added.
"""

import textwrap
from typing import Any, NamedTuple

from oomguard.core.rule import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomguard.core.text import printable
from oomguard.policy.scalars import quoted

FORMAT = 1

_WIDTH = 100
_WRAPPED: dict[str, Any] = {"width": _WIDTH, "break_long_words": False, "break_on_hyphens": False}

Value = int | str
"""An exact value, or `at_most N`, `at_least N`, `keep`; of a sysctl, N may be a size and the value `80%`."""


class Regex(str):
    """A `name` that is a regular expression."""

    __slots__ = ()


class Origin(NamedTuple):
    """Where something was read: a file, "" for the command line; its first and last line, 0 for all."""

    file: str
    line: int = 0
    last_line: int = 0

    def __str__(self) -> str:
        """Return `file:line`, or `file:line-line`."""
        lines = f":{self.line}" if self.line else ""
        last = f"-{self.last_line}" if self.last_line > self.line else ""
        return f"{self.file or 'command line'}{lines}{last}"


class DraftRule(NamedTuple):
    """A suggested rule: its conditions in order, its value, why, and where it was read."""

    conditions: dict[str, list[str | int]]
    value: Value
    reason: str
    origin: Origin | None = None
    scope: str = "all"


class DraftSetting(NamedTuple):
    """A suggested sysctl, by its full name. `sources` are the programs that want it, with references."""

    name: str
    value: Value
    reason: str
    sources: tuple[str, ...] = ()
    origin: Origin | None = None


class Note(NamedTuple):
    """What was left out, "" for a whole file or line, why, where it was read, and which programs want it.

    `settings` is how many those are.
    """

    what: str
    why: str
    origin: Origin | None = None
    sources: tuple[str, ...] = ()
    settings: int = 1

    def __str__(self) -> str:
        """Return `file:line: what: why`."""
        return ": ".join(str(part) for part in (self.origin, self.what, self.why) if part)


class Draft(NamedTuple):
    """A suggested policy. Its text ends with the `notes`."""

    title: str
    settings: tuple[DraftSetting, ...] = ()
    rules: tuple[DraftRule, ...] = ()
    notes: tuple[Note, ...] = ()


def toward(number: int) -> Value:
    """Return a value that leaves a process alone that went further itself.

    It is never -1000, with which a leaking process hangs its cgroup; at_most -999 leaves that alone.
    """
    value = max(OOM_SCORE_ADJ_MIN + 1, min(OOM_SCORE_ADJ_MAX, number))
    return f"at_least {value}" if value > 0 else f"at_most {value}"


def plain(value: Value) -> "Value | dict[str, Value]":
    """Return a value as a policy has it: -500, `{"at_most": -500}`, `"keep"` or `"80%"`."""
    kind, _, number = str(value).partition(" ")
    if not number:
        return value
    return {kind: number if number.endswith("B") else int(number)}


def _flow(value: Value) -> str:
    """Return a value as YAML on one line."""
    kind, _, number = str(value).partition(" ")
    return f"{{{kind}: {number}}}" if number else kind


def render(draft: Draft) -> str:
    """Return the draft as the text of a policy."""
    lines = [*_comment(draft.title, "")]
    for section in ("vm", "kernel"):
        settings = [one for one in draft.settings if one.name.startswith(f"{section}.")]
        if settings:
            lines += ["", f"{section}:"]
        for one in settings:
            lines += [*_comment(_why(one), "  "), f"  {one.name.partition('.')[2]}: {_flow(one.value)}"]
    if draft.rules:
        lines += ["", "rules:"]
    for rule in draft.rules:
        lines += [*_rule(rule), ""]
    if draft.notes:
        lines += ["", "# Left out:", "#"]
        for note in draft.notes:
            lines += _comment(str(note), "", "# - ", "#   ")
    return "\n".join(lines).rstrip() + "\n"


def _why(one: DraftRule | DraftSetting) -> str:
    if one.origin and one.reason:
        return f"{one.reason} ({one.origin})"
    return one.reason or str(one.origin)


def _rule(rule: DraftRule) -> list[str]:
    lines = _comment(_why(rule), "  ")
    body = [f"{key}: {_list(items)}" for key, items in rule.conditions.items()]
    if rule.scope != "all":
        body.append(f"scope: {rule.scope}")
    body.append(f"oom_score_adj: {_flow(rule.value)}")
    return [*lines, *(f"{'  - ' if number == 0 else '    '}{line}" for number, line in enumerate(body))]


def _list(items: list[str | int]) -> str:
    said = [_item(item) for item in items]
    if len(said) == 1:
        return said[0]
    line = f"[{', '.join(said)}]"
    if len(line) <= _WIDTH:
        return line
    wrapped = textwrap.wrap(line, subsequent_indent=" " * 6, **_WRAPPED)
    # YAML would fold a line that breaks inside a quoted name with spaces: then write one name per line.
    return "\n".join(wrapped) if " " not in "".join(said) else "[\n      " + ",\n      ".join(said) + "]"


def _item(item: str | int) -> str:
    if isinstance(item, Regex):
        return f"{{regex: {quoted(item)}}}"
    return str(item) if isinstance(item, int) else quoted(item)


def _comment(text: str, indent: str, first: str = "# ", rest: str = "# ") -> list[str]:
    lines = []
    for paragraph in text.split("\n"):
        # One by one, because printable() doubles backslashes, of which regular expressions are full.
        shown = "".join(map(printable, paragraph))
        wrapped = textwrap.wrap(
            shown, initial_indent=indent + first, subsequent_indent=indent + rest, **_WRAPPED
        )
        lines += wrapped or [f"{indent}#"]
    return lines


def findings_document(draft: Draft) -> dict[str, Any]:
    """Return a finding for each suggestion and each note, and the text of the policy."""
    findings = [_finding(one.name, plain(one.value), one.reason, one.sources) for one in draft.settings]
    for rule in draft.rules:
        finding = _finding("oom_score_adj", plain(rule.value), rule.reason)
        findings.append(finding | {"conditions": _conditions(rule), "scope": rule.scope})
    findings += [_finding(one.what, None, one.why, one.sources) for one in draft.notes]
    return {"findings": findings, "policy": render(draft)}


def import_document(draft: Draft) -> dict[str, Any]:
    """Return the sysctls, rules and notes, each with where it was read, and the text of the policy."""
    return {
        "sysctls": [{"name": one.name, "value": one.value, **_place(one.origin)} for one in draft.settings],
        "rules": [_rule_document(one) for one in draft.rules],
        "left_out": [{"what": one.what, "why": one.why, **_place(one.origin)} for one in draft.notes],
        "policy": render(draft),
    }


def _finding(target: str, value: object, reason: str, sources: tuple[str, ...] = ()) -> dict[str, Any]:
    found = {"target": target, "value": value, "reason": reason, "sources": sources}
    return found | {"conditions": None, "scope": None}


def _rule_document(rule: DraftRule) -> dict[str, Any]:
    return {
        "conditions": _conditions(rule),
        "scope": rule.scope,
        "oom_score_adj": plain(rule.value),
        "reason": rule.reason,
        **_place(rule.origin),
    }


def _conditions(rule: DraftRule) -> dict[str, Any]:
    return {
        key: [{"regex": item} if isinstance(item, Regex) else item for item in items]
        for key, items in rule.conditions.items()
    }


def _place(place: Origin | None) -> dict[str, Any]:
    file, line, last_line = place or Origin("")
    return {"file": file or None, "line": line or None, "last_line": max(line, last_line) or None}
