"""Writes files that the user asked for."""

import os
import stat
import sys
from contextlib import suppress
from tempfile import mkstemp

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable


def write_page(path: str, text: str) -> None:
    """Write text to a file, or replace it, which keeps its mode; `-` is standard output.

    OomguardError: it cannot be written.
    """
    if path == "-":
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        return
    hint = "name a file in a folder that you may write to, or - for standard output"
    os.umask(mask := os.umask(0o077))
    mode = stat.S_IFREG | 0o666 & ~mask
    with suppress(OSError):  # it does not exist, or writing it gives the reason
        mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):  # a link in /tmp may be a trap, and /dev/null must not be replaced
        raise OomguardError(f"{printable(path)} is not a regular file", hint=hint)
    try:
        replace_file(path, text.encode("utf-8", "backslashreplace"), mode=mode & 0o777)
    except OSError as error:
        raise OomguardError(f"{printable(path)} cannot be written: {error.strerror}", hint=hint) from error


def replace_file(path: str, content: bytes, *, mode: int) -> None:
    """Replace a file atomically, without following a link in its folder. OSError: it cannot be written."""
    fd, temporary = mkstemp(prefix=".", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
