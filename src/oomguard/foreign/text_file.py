"""Text files of other programs, read within bounds."""

import codecs
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

Read = Callable[[str], list[str]]
"""Returns the lines of a file."""

_SIZE_LIMIT = 1 << 20
"""Ten times the largest file of Ananicy."""


class UnreadableError(Exception):
    """A file that cannot be read; the message says why."""


class SourcedValue(NamedTuple):
    """A value, and the file and line that set it."""

    value: str
    file: str
    line: int

    @property
    def source(self) -> str:
        """Where it is set, as `file:line`."""
        return f"{self.file}:{self.line}"


def parse_number(text: str) -> int | None:
    """Return a number as systemd and the kernel read it: 0x10 is 16, and 010 is 8; None if it is none."""
    if re.fullmatch(r"[-+]?[0-9][0-9a-zA-Z]{0,19}", text):
        for base in (0, 8):  # with base 0, Python refuses 010
            with suppress(ValueError):
                return int(text, base)
    return None


def read_lines(path: str, *, wait: bool = False) -> list[str]:
    """Return the lines of a text file, with bytes that are not UTF-8 as lone surrogates; /dev/null has none.

    If `wait`, a pipe is read to its end; other files that are not regular are errors. Raises UnreadableError.
    """
    try:
        # Opening a FIFO without a writer would block.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: the path, from another file, has a NUL
        reason = getattr(error, "strerror", error)
        raise UnreadableError(why_missing(path) or f"cannot be read: {reason}") from error
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISCHR(mode):
            return []
        if not stat.S_ISREG(mode) and not (wait and stat.S_ISFIFO(mode)):
            raise UnreadableError("is a folder" if stat.S_ISDIR(mode) else "is not a regular file")
        os.set_blocking(fd, True)
        with open(fd, "rb", closefd=False) as file:
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(raw) > _SIZE_LIMIT:
        raise UnreadableError(f"is larger than {_SIZE_LIMIT >> 20} MiB, so it is not a configuration")
    lines = raw.split(b"\n")
    if 2 * sum(b"\0" in line for line in lines) > len(lines):  # a crash can leave some in a text
        raise UnreadableError("is not text")
    text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").split("\n")


def why_missing(path: str) -> str:
    """Return where a dangling link points, "" for anything else."""
    if os.path.islink(path) and not os.path.exists(path):
        return f"is a link to {os.readlink(path)}, which does not exist"
    return ""


def lines_or_none(path: str) -> list[str]:
    """Return the lines of a text file, none if it cannot be read."""
    try:
        return read_lines(path)
    except UnreadableError:
        return []


def names_in(folder: str) -> list[str]:
    """Return the names in a folder that are not hidden, sorted; none if it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def in_order(files: Iterable[str]) -> list[str]:
    """Return the files `*.conf` that count, by name; `files` has the important ones first."""
    found: dict[str, str] = {}
    for file in files:
        if file.endswith(".conf"):
            found.setdefault(os.path.basename(file), file)
    return [found[name] for name in sorted(found)]
