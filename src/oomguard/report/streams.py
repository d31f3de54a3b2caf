"""The standard streams, as they have to be whatever the caller left: open, and able to print every letter."""

import codecs
import io
import os
import sys

_IN_ASCII = {"→": "->", "…": "...", "─": "-", "█": "#", "░": "."}
"""What tables and sentences are set with, where the terminal has no letter for it. Others are escaped."""


def set_up() -> None:
    """Open each standard descriptor that is closed, and print what the encoding lacks in other letters.

    A closed descriptor would go to the next file that is opened, be it the ledger; error messages, too.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free is this one. A daemon that takes this process's place needs it, too.
            os.set_inheritable(os.open(os.devnull, mode), True)  # noqa: FBT003 - it has no name
    codecs.register_error("oomguard", _in_ascii)
    # Of a descriptor that was closed the interpreter made no stream.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="oomguard")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    escaped = (_IN_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return "".join(escaped), error.end


def abandon() -> None:
    """Drop what could not be printed: it would fail once more when the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
