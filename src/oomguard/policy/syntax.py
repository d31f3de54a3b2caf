"""YAML's own complaints in words that name the cause and the way out."""

import re
from typing import NamedTuple

import yaml

from oomguard.policy.fault import Fault, excerpt

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # what YAML 1.1 counts as one


class _Prose(NamedTuple):
    """What to say when `context` and `problem` both occur in what the parser said.

    `{start}` is the line where the construct began that could not be finished.
    """

    context: str
    problem: str
    message: str
    hint: str


_PROSE = (
    _Prose(
        "",
        "mapping values are not allowed",
        "a ': ' where no key can be",
        "check the indentation of this line and the one above; "
        "a value that holds ': ' or ends with ':' must be quoted",
    ),
    _Prose(
        "",
        "sequence entries are not allowed",
        "a '- ' where no list item can be",
        "write a negative number without a space: -900; put a list on lines of its own, or in [ ]",
    ),
    _Prose(
        "block collection",
        "",
        "this line belongs neither to the list that starts on line {start} nor to what is above it",
        "check the indentation: the keys of one rule stand exactly below each other",
    ),
    _Prose(
        "block mapping",
        "",
        "this line does not fit below the keys that start on line {start}",
        "check the indentation, and that text which begins with a quote ends with one",
    ),
    _Prose(
        "flow sequence",
        "",
        "the list opened with [ on line {start} is not closed, or a ',' is missing",
        "write [a, b]; text that holds [ ] or , must be quoted",
    ),
    _Prose(
        "flow mapping",
        "",
        "the mapping opened with {{ on line {start} is not closed, or a ',' is missing",
        "write {at_most: -900}; text that holds { } or , must be quoted",
    ),
    _Prose(
        "flow node",
        "",
        "a value, or the ] or }} that closes what was opened, is missing here",
        "write [a, b] or {at_most: -900}; text that holds [ ] { } or , must be quoted",
    ),
    _Prose(
        "quoted scalar",
        "unknown escape",
        "a backslash that starts no escape YAML knows",
        "use single quotes: there a backslash is a backslash, as in '\\d+'",
    ),
    _Prose(
        "quoted scalar",
        "",
        "the quote opened on line {start} is not closed as it should be",
        "close it; a ' inside single quotes is written ''",
    ),
    _Prose(
        "double-quoted scalar",
        "",
        "a backslash that starts no escape YAML knows",
        "use single quotes: there a backslash is a backslash, as in '\\d+'",
    ),
    _Prose("simple key", "", "the key that starts on line {start} has no ': ' after it", "write key: value"),
    _Prose(
        "scanning an alias",
        "",
        "* starts an alias in YAML, and no name follows",
        "a glob that begins with * must be quoted: '*.service'",
    ),
    _Prose("scanning an anchor", "", "& starts an anchor in YAML, and no name follows", "quote the value"),
    _Prose("a tag", "", "! starts a tag in YAML, and this is none", "quote the value"),
    _Prose("parsing a node", "tag", "! starts a tag in YAML, and this is none", "quote the value"),
    _Prose(
        "block scalar",
        "",
        "the text block that starts on line {start} is not written as YAML wants it",
        "quote the text instead",
    ),
    _Prose(
        "", "incompatible YAML document", "this YAML version is not supported", "remove the %YAML directive"
    ),
)


def syntax_fault(file: str, text: str, error: yaml.MarkedYAMLError) -> Fault:
    """Return what the parser could not read as a fault for people."""
    problem, context = error.problem or "not valid YAML", error.context or ""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    start = error.context_mark.line + 1 if error.context_mark else line

    def fault(message: str, hint: str, code: str = "syntax") -> Fault:
        return Fault(file, line, column, "", message, hint, code=code)

    here = _line(text, line)
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return fault("the line is indented with a tab", "indent with spaces: YAML allows no tabs", "tab")
    if "cannot start any token" in problem:
        word = excerpt(here[column - 1 :].strip())
        return fault(
            f"text can not begin with {word[:1]} unless it is quoted", f"remove it, or quote all: '{word}'"
        )
    if here.lstrip().startswith(": "):
        return fault("a key is missing before the ':'", "write key: value")
    if context.startswith("while parsing a block") and here[: column - 1].strip():
        return fault(
            "more text where the value has ended", "quote the whole value; a ' inside single quotes is ''"
        )
    for prose in _PROSE:
        if prose.context in context and prose.problem in problem:
            return fault(prose.message.format(start=start), prose.hint)
    said = ", ".join(part for part in (context, problem) if part)
    return fault(f"not valid YAML: {excerpt(said)}", "")


def _line(text: str, number: int) -> str:
    lines = _LINE_BREAK.split(text, maxsplit=number)
    return lines[number - 1] if number <= len(lines) else ""
