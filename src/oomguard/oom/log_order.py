"""Logs with the newest line first, as `journalctl -r` and web pages show them."""

import re
from typing import TYPE_CHECKING

from oomguard.oom.kill import CONTEXT, KILLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WHOLE = 1 << 20
"""Characters of a log that may be reversed: those that people paste."""
_CHOSEN = (
    (CONTEXT, re.compile(r",pid=(\d{1,10}),")),
    (": Kill process ", re.compile(r"process (\d{1,10}) ")),
)
"""What the kernel prints before a kill, and where the pid is in it."""
_STAMP = re.compile(r"\[ *\d{1,12}\.\d{1,9}[] ]")


def oldest_first(blocks: "Iterable[str]") -> "Iterator[str]":
    """Yield a log block by block, reversed if it is short and has its newest line first."""
    rest, text = iter(blocks), ""
    for block in rest:
        text += block
        if len(text) > _WHOLE:
            yield text
            yield from rest
            return
    yield _reversed(text) if _is_reversed(text) else text


def _is_reversed(text: str) -> bool:
    """Return whether a process was killed before it was chosen.

    Not by lines with the kernel's own times: no tool reverses those, and a user's text could look so.
    """
    for words, pattern in _CHOSEN:
        at = text.find(words)
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        line = text[start : len(text) if end < 0 else end]
        if at < 0 or _STAMP.search(line) is not None or not (found := pattern.findall(line)):
            continue
        kill = f"{KILLED}{found[-1]} ("
        return kill in text[:start] and text.find(kill, at) < 0
    return False


def _reversed(text: str) -> str:
    """Return the lines in the other order; those that are indented stay behind the one before."""
    messages: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(" ") and messages:
            messages[-1] += line
        else:
            messages.append(line if line.endswith("\n") else f"{line}\n")
    return "".join(reversed(messages))
