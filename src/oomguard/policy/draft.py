"""A policy that oomguard proposes, with its reasons as comments: what `import` and `advise` print.

Whatever is printed passes `oomguard check`: what the language refuses becomes a note instead.
"""

import re
import textwrap
from typing import NamedTuple

from oomguard.core.policy import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomguard.core.text import printable
from oomguard.policy.fault import PolicyError
from oomguard.policy.load import parse
from oomguard.policy.source import Source, Sources

_WIDTH = 100
_PATH = re.compile(r"rules\[(\d+)\](?:\.(\w+)(?:\[(\d+)\])?)?")

Value = int | str
"""An exact value, or `at_most N`, `at_least N`."""


class DraftRule(NamedTuple):
    """A rule to be: its conditions in order, its value, and why. `origin` is its source, `file:line`."""

    conditions: dict[str, list[str | int]]
    value: Value
    reason: str
    origin: str = ""
    scope: str = "all"
    has_containers: bool = False


class DraftSetting(NamedTuple):
    """A sysctl to be, by its full name."""

    name: str
    value: int
    reason: str


class Draft(NamedTuple):
    """A policy to be. `notes` stand at its end: what was left out, and where it was found."""

    title: str
    settings: tuple[DraftSetting, ...] = ()
    rules: tuple[DraftRule, ...] = ()
    notes: tuple[str, ...] = ()


def toward(number: int) -> Value:
    """Return the value that moves a process by at least as much, and leaves one that went further itself."""
    value = max(OOM_SCORE_ADJ_MIN, min(OOM_SCORE_ADJ_MAX, number))
    return f"at_least {value}" if value > 0 else f"at_most {value}"


def render_valid(draft: Draft) -> str:
    """Return the draft as the text of a policy that is valid."""
    while True:
        text = render(draft)
        try:
            parse(Sources((Source("draft", text.encode()),)))
        except PolicyError as error:
            found = [match for fault in error.faults if (match := _PATH.match(fault.path))]
            if not found:
                raise
            messages = {
                match[0]: fault.message for fault in error.faults if (match := _PATH.match(fault.path))
            }
            draft = _without(draft, messages)
        else:
            return text


def _without(draft: Draft, messages: dict[str, str]) -> Draft:
    """Return the draft without what was refused: an item of a list, or else the rule."""
    rules, notes = [], list(draft.notes)
    for number, rule in enumerate(draft.rules):
        conditions = {key: list(items) for key, items in rule.conditions.items()}
        for path, message in messages.items():
            match = _PATH.fullmatch(path)
            if match is None or int(match[1]) != number:
                continue
            items = conditions.get(match[2] or "", [])
            at = int(match[3]) if match[3] else 0
            what = f"{match[2]} {items[at]}" if at < len(items) else "this rule"
            notes.append(f"{rule.origin}: {what}: {message}")
            if at < len(items):
                items[at] = ""
            else:
                conditions = {}
        kept = {key: [item for item in items if item != ""] for key, items in conditions.items()}
        if kept and all(kept.values()):
            rules.append(rule._replace(conditions=kept))
    return draft._replace(rules=tuple(rules), notes=tuple(notes))


def render(draft: Draft) -> str:
    """Return the draft as the text of a policy."""
    lines = [*_comment(draft.title, "")]
    for section in ("vm", "kernel"):
        settings = [one for one in draft.settings if one.name.startswith(f"{section}.")]
        if settings:
            lines += ["", f"{section}:"]
        for one in settings:
            lines += [*_comment(one.reason, "  "), f"  {one.name.partition('.')[2]}: {one.value}"]
    if draft.rules:
        lines += ["", "rules:"]
    for rule in draft.rules:
        lines += [*_rule(rule), ""]
    if draft.notes:
        lines += ["", "# Left out:", "#"]
        for note in draft.notes:
            lines += _comment(note, "", "# - ", "#   ")
    return "\n".join(lines).rstrip() + "\n"


def _rule(rule: DraftRule) -> list[str]:
    why = f"{rule.reason} ({rule.origin})" if rule.origin else rule.reason
    lines = _comment(why, "  ")
    body = [f"{key}: {_list(items)}" for key, items in rule.conditions.items()]
    if rule.scope != "all":
        body.append(f"scope: {rule.scope}")
    if rule.has_containers:
        body.append("containers: true")
    bound = str(rule.value).split(" ")
    body.append(f"oom_score_adj: {rule.value if len(bound) == 1 else '{' + ': '.join(bound) + '}'}")
    return [*lines, *(f"{'  - ' if number == 0 else '    '}{line}" for number, line in enumerate(body))]


def _list(items: list[str | int]) -> str:
    said = [str(item) if isinstance(item, int) else quoted(item) for item in items]
    if len(said) == 1:
        return said[0]
    line = f"[{', '.join(said)}]"
    if len(line) <= _WIDTH:
        return line
    wrapped = textwrap.wrap(
        line, _WIDTH, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
    )
    # A quoted name may hold spaces, and YAML would fold a broken line: then each stands on its own.
    return "\n".join(wrapped) if " " not in "".join(said) else "[\n      " + ",\n      ".join(said) + "]"


def quoted(text: str) -> str:
    """Return a text as YAML reads it back, in double quotes unless nothing in it means anything."""
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./@+-]*[A-Za-z0-9_]", text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def _escaped(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _comment(text: str, indent: str, first: str = "# ", rest: str = "# ") -> list[str]:
    lines = []
    for paragraph in text.split("\n"):
        shown = printable(paragraph)
        lines += textwrap.wrap(
            shown,
            _WIDTH,
            initial_indent=indent + first,
            subsequent_indent=indent + rest,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [f"{indent}#"]
    return lines
