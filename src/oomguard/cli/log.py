"""`oomguard log`: what the journal holds of the adjustments."""

import fnmatch
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

from oomguard.core.errors import OomguardError
from oomguard.core.match import is_glob
from oomguard.core.text import printable
from oomguard.report.document import print_json
from oomguard.report.history import Entry, entry_document, history_table, parse_entry

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

IDENTIFIER = "oomguard"


def run(options: "argparse.Namespace") -> int:
    """Ask journalctl, and show what it has as a table, or a line at a time."""
    command = _command(options)
    if options.follow:
        return _follow(command, options)
    kept: deque[Entry] = deque(_entries(command, options), maxlen=options.lines)
    if options.json:
        print_json([entry_document(entry) for entry in kept])
    elif kept:
        from oomguard.report.tables import console

        console().print(history_table(kept))
    else:
        print("Nothing of the kind in the journal.")
    return 0


def _command(options: "argparse.Namespace") -> list[str]:
    program = shutil.which("journalctl")
    if program is None:
        raise OomguardError(
            "journalctl is not there: the log is read from systemd's journal",
            hint="where there is no journal, `oomguard run` writes the same to its standard error",
        )
    command = [program, "--output=json", "--no-pager", "--all", "--quiet"]
    command += [f"--{name}={value}" for name in ("since", "until") if (value := getattr(options, name))]
    if options.follow:
        command += ["--follow", f"--lines={options.lines or 10}"]
    # Anybody may write to the journal under any name; who it was is what journald itself adds.
    command += [f"SYSLOG_IDENTIFIER={IDENTIFIER}", "_UID=0"]
    command += [f"_UID={os.geteuid()}"] if os.geteuid() else []
    if options.pid is not None:
        command.append(f"OBJECT_PID={options.pid}")
    if options.cause is not None:
        command.append(f"OOMGUARD_CAUSE={options.cause}")
    return command + [f"OOMGUARD_EVENT={event}" for event in options.event or () if event != "all"]


def _entries(command: list[str], options: "argparse.Namespace") -> "Iterator[Entry]":
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as journal:  # noqa: S603 - no shell is in between
        assert journal.stdout is not None
        assert journal.stderr is not None
        try:
            for line in journal.stdout:
                entry = parse_entry(line)
                if entry is not None and _is_wanted(entry, options):
                    yield entry
            said = journal.stderr.read()
        finally:
            journal.terminate()  # it follows for ever, also when nobody reads any more
    # Status 1 without a word is what it gives for no entries.
    if journal.returncode > 0 and said:
        first = printable(said.strip().splitlines()[0])
        raise OomguardError(f"journalctl: {first}", hint="--since and --until are as in journalctl(1)")
    if said:
        sys.stderr.write("".join(f"journalctl: {printable(line)}\n" for line in said.splitlines()))


def _is_wanted(entry: Entry, options: "argparse.Namespace") -> bool:
    if not options.event and not entry.is_adjustment:
        return False
    if options.rule is None:
        return True
    texts = (entry.rule, entry.source)
    if is_glob(options.rule):
        return any(fnmatch.fnmatchcase(text, options.rule) for text in texts)
    return any(options.rule in text for text in texts)


def _follow(command: list[str], options: "argparse.Namespace") -> int:
    try:
        for entry in _entries(command, options):
            if options.json:
                line = json.dumps(entry_document(entry))
            else:
                line = f"{entry.time.strftime('%m-%d %H:%M:%S')} {entry.event:<9} {entry.message}"
            print(line, flush=True)
    except KeyboardInterrupt:
        return 0  # the way to end it
    return 0
