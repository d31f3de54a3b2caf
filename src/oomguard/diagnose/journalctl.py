"""Reads the output of journalctl, the only program that oomguard's verbs start."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from typing import IO

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable
from oomguard.oom.other_killer import KUBELET_UNITS, UNITS

_MACHINE_ID = "/etc/machine-id"
_FOLDERS = ("/var/log/journal", "/run/log/journal")

OURS = ("SYSLOG_IDENTIFIER=oomguard", "_UID=0")
"""Selects oomguard's entries. Anybody can write to the journal under any name, but journald adds the uid."""

_SAID_LIMIT = 1 << 16
"""Bytes that are shown of what journalctl says."""

_KUBELET_FOLDERS = ("/var/lib/kubelet", "/var/lib/rancher", "/var/lib/k0s", "/var/snap/microk8s")
_NO_KLOG = (
    r'--grep=^(?![IWEF]\d{4} [\d:]{8}\.\d{6}|time="\d{4}-\d\d-\d\dT)'
    "|viction manager: pod |invoked oom-killer"
)
"""Leaves out all entries of a kubelet except evictions: it may write a million a week. It must not leave out
ours that begin with the name of a process, which has up to 15 characters."""


def other_killers() -> list[str]:
    """Return what also selects the entries of programs that kill before the kernel must."""
    if not any(map(os.path.isdir, _KUBELET_FOLDERS)):
        return ["+", *(f"_SYSTEMD_UNIT={unit}" for unit in UNITS)]
    return [_NO_KLOG, "+", *(f"_SYSTEMD_UNIT={unit}" for unit in (*UNITS, *KUBELET_UNITS))]


def has_journal() -> bool:
    """Return whether there is a journal, and journalctl."""
    return shutil.which("journalctl") is not None and any(map(_has_entries, _FOLDERS))


def _has_entries(folder: str) -> bool:
    """Return whether there is anything in a folder, or this user must not look."""
    try:
        return bool(os.listdir(folder))
    except PermissionError:
        return True  # journalctl says what is missing
    except OSError:
        return False


def unreadable() -> OomguardError | None:
    """Return an error if the system's journal cannot be read: journalctl then reads only the user's own."""
    try:
        with open(_MACHINE_ID, encoding="ascii") as file:
            machine = file.read().strip()  # not the template that this one is a copy of
    except OSError:
        return None
    for folder in _FOLDERS:
        for path in (*glob(f"{folder}/{machine}"), *glob(f"{folder}/{machine}/system*.journal")):
            if not os.access(path, os.R_OK):
                return OomguardError(
                    f"{printable(path)} cannot be read, so entries are missing",
                    hint="run this as root, or as a member of the group systemd-journal",
                )
    return None


@contextmanager
def open_journal(arguments: Sequence[str], *, without: str) -> Iterator[IO[bytes]]:
    """Start journalctl and yield its output, an entry of JSON per line.

    Raises OomguardError if there is no journalctl, with the hint `without`, or if it fails.
    """
    program = shutil.which("journalctl")
    if program is None:
        raise OomguardError("this needs systemd's journal, but journalctl is not installed", hint=without)
    command = [program, "--output=json", "--no-pager", "--all", "--quiet", *arguments]
    with open(os.memfd_create("journalctl"), "w+b") as errors:  # a full pipe would stop it, and us
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as journal:  # noqa: S603 - no shell
            assert journal.stdout is not None
            try:
                yield journal.stdout
                journal.wait()
            finally:
                journal.terminate()  # with --follow it does not end by itself
        errors.seek(0)
        said = errors.read(_SAID_LIMIT)
    # Without entries it exits with 1 and prints nothing.
    if journal.returncode > 0 and said:
        first = printable(said.strip().splitlines()[0])
        trouble = unreadable()
        hint = trouble.hint if trouble else "see journalctl(1) for --since and --until"
        if "timestamp" in first:
            hint = "write a time such as today, '2 hours ago', -2h or '2026-01-31 12:00'"
        raise OomguardError(f"journalctl: {first}", hint=hint)
    if said:
        sys.stderr.write("".join(f"journalctl: {printable(line)}\n" for line in said.splitlines()))
