"""Writes files that the user asked for."""

import os
import stat
import sys
from tempfile import mkstemp

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable


def write_page(path: str, text: str) -> None:
    """Write text to a file, or replace it; `-` is standard output. OomguardError: it cannot be written."""
    if path == "-":
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        return
    hint = "name a file in a folder that you may write to, or - for standard output"
    try:
        is_file = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        is_file = True  # it does not exist, or writing it gives the reason
    if not is_file:  # a link in /tmp may be a trap, and /dev/null must not be replaced
        raise OomguardError(f"{printable(path)} is not a regular file", hint=hint)
    os.umask(mask := os.umask(0o077))
    try:
        replace_file(path, text.encode("utf-8", "backslashreplace"), mode=0o666 & ~mask)
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
