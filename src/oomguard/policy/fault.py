"""What is wrong with a policy file, where, and how to fix it.

The daemon logs the faults that its child finds, each as `one_line`.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from oomguard.core.errors import OomguardError
from oomguard.core.text import legible, printable

Severity = Literal["error", "warning"]

_SHOWN_CHARACTERS = 60
_ITEM = re.compile(r"^.*\b(?:rules|cases|processes)\[\d+\](?:\.|$)")

FAULTS_LIMIT = 1000
"""Faults to report for a policy: a file that is not a policy can have half a million."""


class Fault(NamedTuple):
    """One error or warning in a policy file.

    `line` and `column` count from 1; 0 means the whole file. `path` is the key, as
    `rules[0].oom_score_adj`. `message` is what is wrong and what is allowed, `hint` how to fix it.
    `code` is a stable word for programs.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    severity: Severity = "error"
    code: str = ""

    def __str__(self) -> str:
        place = printable(self.file) + (f":{self.line}:{self.column}" if self.line else "")
        named = self.message.rpartition("unknown key ")[2]  # which is not shown twice
        key = _key(self.path).removesuffix(named).removesuffix(".")
        parts = [place, "warning" if self.severity == "warning" else "", key, self.message]
        return ": ".join(part for part in parts if part)

    @property
    def one_line(self) -> str:
        """The fault and its hint, for a log."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class Problem(NamedTuple):
    """A fault without its place."""

    code: str
    message: str
    hint: str = ""

    def at(
        self, file: str, line: int = 0, column: int = 0, path: str = "", severity: Severity = "error"
    ) -> Fault:
        """Return the fault at a place, or in the whole file."""
        return Fault(file, line, column, path, self.message, self.hint, severity, self.code)


class PolicyError(OomguardError):
    """The policy cannot be used. `faults` are all its faults, in file order."""

    exit_code = 78

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(render_text(self.faults))


def _key(path: str) -> str:
    """Return the key within its rule or case, without numbers: the line shows which one it is."""
    return re.sub(r"\[\d+\]", "", _ITEM.sub("", path))


def excerpt(text: str) -> str:
    """Return text from a policy file for a message: printable, and cut if it is long."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return legible(cut)


def render_text(faults: Iterable[Fault]) -> str:
    """Return the faults as lines of text, warnings with their code, each hint indented below its fault."""
    lines = []
    for fault in faults:
        lines.append(f"{fault} [{fault.code}]" if fault.severity == "warning" else str(fault))
        if fault.hint:
            lines.append(f"    {fault.hint}")
    return "\n".join(lines)
