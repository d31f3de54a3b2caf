"""The errors of the YAML parser, as a cause and a fix."""

import re

import yaml

from oomguard.policy.fault import Fault, Problem, excerpt
from oomguard.policy.typography import described, is_unusual, usual

LINE_BREAK = re.compile("\r\n|[\r\n]")

_UNKNOWN_ESCAPE = (
    "unknown escape after a backslash",
    "use single quotes, where a backslash is an ordinary character: '\\d+'",
)
_BAD_TAG = ("! starts a tag in YAML, but this is not a valid one", "quote the value")
_CHECK_LINES = (
    "check the indentation of this line and the one above; quote a value that contains ': ' or ends with ':'"
)
_PROSE = {
    ("", "mapping values are not allowed"): (
        "a key is not allowed here",
        _CHECK_LINES,
    ),
    ("", "sequence entries are not allowed"): (
        "a list item is not allowed here",
        "write a negative number without a space: -900; put a list on lines of its own, or in [ ]",
    ),
    ("block collection", ""): (
        "this line does not belong to the list that starts on line {start}, or to anything above it",
        "check the indentation: all keys of a rule start in the same column",
    ),
    ("block mapping", ""): (
        "this line does not belong to the keys that start on line {start}",
        "check the indentation, and that every opening quote has a closing one",
    ),
    ("flow sequence", ""): (
        "the [ on line {start} is not closed, or a ',' is missing",
        "write [a, b]; quote text that contains [ ] or ,",
    ),
    ("flow mapping", ""): (
        "the {{ on line {start} is not closed, or a ',' is missing",
        "write {at_most: -900}; quote text that contains { } or ,",
    ),
    ("flow node", ""): (
        "a value is missing here, or the closing ] or }}",
        "write [a, b] or {at_most: -900}; quote text that contains [ ] { } or ,",
    ),
    ("quoted scalar", "unknown escape"): _UNKNOWN_ESCAPE,
    ("quoted scalar", "escape code"): _UNKNOWN_ESCAPE,  # such as \ud800
    ("quoted scalar", "hexdecimal"): _UNKNOWN_ESCAPE,  # \x, \u or \U without its digits
    ("quoted scalar", ""): (
        "the quote on line {start} is not closed",
        "close it; inside single quotes, write '' for a '",
    ),
    ("double-quoted scalar", ""): _UNKNOWN_ESCAPE,
    ("scanning an alias", ""): (
        "* starts an alias in YAML, but no name follows",
        "quote a glob that starts with *: '*.service'",
    ),
    ("scanning an anchor", ""): ("& starts an anchor in YAML, but no name follows", "quote the value"),
    ("a tag", ""): _BAD_TAG,
    ("parsing a node", "tag"): _BAD_TAG,
    ("block scalar", ""): (
        "the text block that starts on line {start} is not valid YAML",
        "quote the text instead",
    ),
    ("", "incompatible YAML document"): ("this YAML version is not supported", "remove the %YAML directive"),
}
"""Message and hint by what the parser's error contains: its context and its problem. The first counts.

`{start}` is the line where the unfinished construct starts.
"""

_MISTAKES = (
    (
        r"[ ]*(?:-[ ]+)*(?P<at>-)(?P<text>[A-Za-z_][\w.]*:(?:[ ].*|\Z))",
        "- has no space after it",
        "write - {text}",
    ),
    (
        r"(?P<at><{7}|={7}|>{7})(?:[ ]|\Z)",
        "a merge conflict is not resolved",
        "keep one side; remove the lines <<<<<<<, ======= and >>>>>>>",
    ),
    (r"[ ]*(?P<at>//|;)", "{at} does not start a comment", "write #"),
    (
        r"(?P<at>\[)(?P<text>[\w.]+)\][ ]*\Z",
        "[{text}] is not a section in YAML",
        "write {text}: and indent its keys",
    ),
    (
        r".*:[ ]+(?P<at>at_(?:most|least)):[ ]*(?P<text>\S*)",
        "a key is not allowed here",
        "write {{{at}: {text}}}",
    ),
)
"""Message and hint by a line that the parser took for something else. The first that matches counts."""

_ODD = re.compile(r"(?:^|[-:]) *([^\x00-\x7f])")
"""A character that stands where YAML's own marks do."""

_NO_COLON = re.compile(
    r"[ ]*(?P<item>(?:- +)*)(?P<key>[A-Za-z_][\w.-]*)(?:\s*:(?=\S)|\s+|\Z)(?P<value>.*)", re.DOTALL
)
"""A line with a key that no colon and space follow."""


def syntax_fault(file: str, text: str, error: yaml.MarkedYAMLError) -> Fault:
    """Return the fault for an error of the parser."""
    problem, context = error.problem or "not valid YAML", error.context or ""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    start = error.context_mark.line + 1 if error.context_mark else line

    def fault(message: str, hint: str, code: str = "syntax") -> Fault:
        return Problem(code, message, hint).at(file, line, column)

    here = _line(text, line)
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return fault(
            "this line is indented with a tab", "indent with spaces: YAML does not allow tabs", "tab"
        )
    if (mistake := _mistake(file, text, sorted({start, _line_above(text, line), line}))) is not None:
        return mistake
    if "cannot start any token" in problem:
        if here[column - 1 : column] == "\t":
            return fault("a tab is not allowed here", "write a space: YAML does not allow tabs", "tab")
        end = r"\s#|[,}\]]" if re.search(r"[\[{]", here[: column - 1]) else r"\s#"
        word = excerpt(re.split(end, here[column - 1 :])[0].strip())
        return fault(
            f"text cannot start with {word[:1]} unless it is quoted", f"remove it, or quote all: '{word}'"
        )
    if here.lstrip().startswith(": "):
        return fault("a key is missing before the ':'", "write key: value")
    if (keyless := _without_colon(file, text, error)) is not None:
        return keyless
    if context.startswith("while parsing a block") and here[: column - 1].strip():
        return fault(
            "unexpected text after the end of the value",
            "quote the whole value; inside single quotes, write '' for a '",
        )
    for (of_context, of_problem), (message, hint) in _PROSE.items():
        if of_context in context and of_problem in problem:
            return fault(message.format(start=start), hint)
    said = ", ".join(part for part in (context, problem) if part)
    return fault(
        f"not valid YAML: {excerpt(said)}", "check the indentation; quote text with marks such as : or ?"
    )


def _mistake(file: str, text: str, numbers: list[int]) -> Fault | None:
    """Return the fault of the first of these lines that looks like another language, or was pasted."""
    for number in numbers:
        line = _line(text, number)
        for odd in _ODD.finditer(line):
            if is_unusual(odd[1]):
                hint = {"-": "write -", " ": "write an ordinary space"}.get(usual(odd[1]), "remove it")
                problem = Problem("syntax", f"{described(odd[1])}, has no meaning in YAML", hint)
                return problem.at(file, number, odd.start(1) + 1)
        for pattern, message, hint in _MISTAKES:
            if found := re.match(pattern, line):
                parts = {name: excerpt(part.strip()) for name, part in found.groupdict("").items()}
                problem = Problem("syntax", message.format(**parts), hint.format(**parts))
                return problem.at(file, number, found.start("at") + 1)
    return None


def _without_colon(file: str, text: str, error: yaml.MarkedYAMLError) -> Fault | None:
    """Return the fault of a key without a colon, None if something else is wrong.

    The parser takes such a line for text that goes on, and complains about a line below it.
    """
    problem, context = error.problem or "", error.context or ""
    if "simple key" in context and error.context_mark is not None:
        line, column = error.context_mark.line + 1, error.context_mark.column + 1
        if not _NO_COLON.match(_line(text, line)):
            without_colon = Problem("syntax", "this key has no ': ' after it", "write key: value")
            return without_colon.at(file, line, column)
    elif error.problem_mark is not None and (
        "mapping values are not allowed" in problem or "block mapping" in context
    ):
        line = _line_above(text, error.problem_mark.line + 1)
    else:
        return None
    found = _NO_COLON.match(_line(text, line).partition(" #")[0].rstrip())
    if found is None or ": " in f"{found['value']} " or (found["item"] and "block mapping" in context):
        return None
    key, value = excerpt(found["key"]), excerpt(found["value"])
    hint = f"write {key}: {value}" if value else f"add a colon: {key}:"
    return Problem("syntax", f"{key} has no ': ' after it", hint).at(file, line, found.start("key") + 1)


def _line_above(text: str, number: int) -> int:
    """Return the number of the closest line above that is not empty or a comment, 0 if there is none."""
    above = LINE_BREAK.split(text)[: number - 1]
    return next((n for n in range(len(above), 0, -1) if above[n - 1].split("#")[0].strip()), 0)


def _line(text: str, number: int) -> str:
    lines = LINE_BREAK.split(text, maxsplit=number)
    return lines[number - 1] if 0 < number <= len(lines) else ""
