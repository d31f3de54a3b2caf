"""Makes the standard streams usable: open, and able to print every character."""

import codecs
import io
import os
import sys

from oomguard.core.text import wrapped
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_IN_ASCII = {"→": "->", "…": "...", "–": "-", "─": "-", "█": "#", "†": "+", "×": "x", "·": "|"} | dict(
    zip("▁▂▃▄▅▆▇", "._-~=+*", strict=True)
)
"""Replacements for characters that the terminal lacks. Others are escaped."""


def set_up() -> None:
    """Open each standard descriptor that is closed, and replace characters that the encoding lacks.

    The next file opened would get the number of a closed one, and error messages could go to the ledger.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() returns the lowest free number, which is this one. The daemon inherits it.
            os.set_inheritable(os.open(os.devnull, mode), True)  # noqa: FBT003 - it has no name
    codecs.register_error("oomguard", _in_ascii)
    # The interpreter created no stream for a closed descriptor.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="oomguard")


def in_utf8() -> None:
    """Write standard output, unless it is a terminal, as what reads it needs it, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    escaped = (_IN_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return "".join(escaped), error.end


def fitted(text: str, stream: "TextIO") -> str:
    """Return text with its lines broken between words if the stream is a terminal, else as it is."""
    if not stream.isatty():
        return text
    from shutil import get_terminal_size  # imported late: the daemon has no terminal

    width = get_terminal_size().columns
    return "\n".join(one for line in text.split("\n") for one in wrapped(line, width))


def complain(text: str) -> None:
    """Print a warning or an error to standard error, in lines that fit a terminal."""
    print(fitted(text, sys.stderr), file=sys.stderr, flush=True)


def abandon() -> None:
    """Drop what could not be printed: it would fail again when the interpreter exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
