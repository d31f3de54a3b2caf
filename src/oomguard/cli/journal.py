"""What journalctl prints: the one program that oomguard's verbs start."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FOLDERS = ("/var/log/journal", "/run/log/journal")

OURS = ("SYSLOG_IDENTIFIER=oomguard", "_UID=0")
"""What tells our entries. Anybody may write to the journal under any name; who it was is journald's word."""


def has_journal() -> bool:
    """Tell whether there is a journal, and what reads it."""
    return shutil.which("journalctl") is not None and any(
        os.path.isdir(folder) and os.listdir(folder) for folder in _FOLDERS
    )


@contextmanager
def open_journal(arguments: "Sequence[str]", *, without: str) -> "Iterator[IO[bytes]]":
    """Start journalctl, and give what it prints, an entry of JSON a line.

    `without` is the way out where there is no journalctl. What it complains of is an error at the end.
    """
    program = shutil.which("journalctl")
    if program is None:
        raise OomguardError("journalctl is not there: this is read from systemd's journal", hint=without)
    command = [program, "--output=json", "--no-pager", "--all", "--quiet", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as journal:  # noqa: S603 - no shell is in between
        assert journal.stdout is not None
        assert journal.stderr is not None
        try:
            yield journal.stdout
            said = journal.stderr.read()
        finally:
            journal.terminate()  # it follows for ever, also when nobody reads any more
    # Status 1 without a word is what it gives for no entries.
    if journal.returncode > 0 and said:
        first = printable(said.strip().splitlines()[0])
        raise OomguardError(f"journalctl: {first}", hint="--since and --until are as in journalctl(1)")
    if said:
        sys.stderr.write("".join(f"journalctl: {printable(line)}\n" for line in said.splitlines()))
