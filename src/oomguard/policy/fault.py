"""What is wrong with a policy file, where, and what to do about it.

The daemon logs faults that its child found, each as the one line that `one_line` makes.
"""

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["error", "warning"]

_SHOWN_CHARACTERS = 60


class Fault(NamedTuple):
    """One thing to mend in a policy file.

    `line` and `column` count from 1; 0 says that the fault is the file's as a whole. `path` is the
    key, as `rules[0].oom_score_adj`. `message` says what was found and what is allowed, `hint` is
    the way out. `code` is a stable word for programs.
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
        parts = [place, "warning" if self.severity == "warning" else "", self.path, self.message]
        return ": ".join(part for part in parts if part)

    @property
    def one_line(self) -> str:
        """The fault and its way out, for a log."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class Words(NamedTuple):
    """A fault apart from its place."""

    code: str
    message: str
    hint: str = ""

    def at(self, file: str, line: int, column: int, path: str, severity: Severity = "error") -> Fault:
        """Return the fault at a place."""
        return Fault(file, line, column, path, self.message, self.hint, severity, self.code)


class PolicyError(OomguardError):
    """The policy can not be used. `faults` holds everything that is wrong with it, in file order."""

    exit_code = 78

    def __init__(self, faults: "Iterable[Fault]") -> None:
        self.faults = tuple(faults)
        super().__init__(render_text(self.faults))


def excerpt(text: str) -> str:
    """Return text from a policy file as it may stand in a message: printable and not too long."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return printable(cut)


def render_text(faults: "Iterable[Fault]") -> str:
    """Return the faults as lines for people, each hint indented below its fault."""
    lines = []
    for fault in faults:
        lines.append(str(fault))
        if fault.hint:
            lines.append(f"    {fault.hint}")
    return "\n".join(lines)


def render_json(faults: "Iterable[Fault]") -> str:
    """Return the faults as a JSON array of objects with the fields of `Fault`."""
    return json.dumps([fault._asdict() for fault in faults], indent=2, ensure_ascii=True)
