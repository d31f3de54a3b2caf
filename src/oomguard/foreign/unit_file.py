"""Parses files with the syntax of systemd's units (systemd.syntax(7))."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Assignment(NamedTuple):
    """A key and its value, the section ("" before the first), and the first line."""

    section: str
    key: str
    value: str
    line: int


def assignments(lines: Iterable[str]) -> Iterator[Assignment]:
    """Yield the assignments in a file; continued lines are joined."""
    section, pending, begun = "", "", 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith(("#", ";")) or (not text and not pending):
            continue  # a comment does not end a continued line
        begun = begun or number
        if text.endswith("\\"):
            pending += text[:-1] + " "
            continue
        text, pending = pending + text, ""
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1]
        elif "=" in text:
            key, _, value = text.partition("=")
            yield Assignment(section, key.strip(), value.strip(), begun)
        begun = 0
