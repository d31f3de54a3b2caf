"""`oomguard log`: what oomguard changed, from the journal."""

import fnmatch
import json
import os
from collections import deque
from typing import TYPE_CHECKING

from oomguard.cli.journal import OURS, has_journal, open_journal
from oomguard.core.errors import OomguardError
from oomguard.core.match import is_glob
from oomguard.report.document import print_json
from oomguard.report.history import Entry, entry_document, parse_entry

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_WITHOUT = "without a journal, `oomguard run` prints the same to standard error"


def run(options: "argparse.Namespace") -> int:
    """Print the journal's entries as a table, or one per line."""
    if options.follow:
        return _follow(options)
    kept: deque[Entry] = deque(_entries(options), maxlen=options.lines)
    if not kept and not has_journal():
        raise OomguardError("this host has no journal", hint=_WITHOUT)
    if options.json:
        print_json([entry_document(entry) for entry in kept])
    elif kept:
        from oomguard.report.history_table import history_table
        from oomguard.report.tables import console

        console().print(history_table(kept))
    else:
        print("No matching journal entries.")
    return 0


def _arguments(options: "argparse.Namespace") -> list[str]:
    asked = [f"--{name}={value}" for name in ("since", "until") if (value := getattr(options, name))]
    if options.follow:
        asked += ["--follow", f"--lines={options.lines or 10}"]
    asked += [*OURS, *([f"_UID={os.geteuid()}"] if os.geteuid() else [])]
    if options.pid is not None:
        asked.append(f"OBJECT_PID={options.pid}")
    if options.cause is not None:
        asked.append(f"OOMGUARD_CAUSE={options.cause}")
    return asked + [f"OOMGUARD_EVENT={event}" for event in options.event or () if event != "all"]


def _entries(options: "argparse.Namespace") -> "Iterator[Entry]":
    with open_journal(_arguments(options), without=_WITHOUT) as journal:
        for line in journal:
            entry = parse_entry(line)
            if entry is not None and _is_wanted(entry, options):
                yield entry


def _is_wanted(entry: Entry, options: "argparse.Namespace") -> bool:
    if not options.event and not entry.is_adjustment:
        return False
    if options.rule is None:
        return True
    texts = (entry.rule, entry.source)
    if is_glob(options.rule):
        return any(fnmatch.fnmatchcase(text, options.rule) for text in texts)
    return any(options.rule in text for text in texts)


def _follow(options: "argparse.Namespace") -> int:
    try:
        for entry in _entries(options):
            if options.json:
                line = json.dumps(entry_document(entry))
            else:
                line = f"{entry.time.strftime('%m-%d %H:%M:%S')} {entry.event:<9} {entry.message}"
            print(line, flush=True)
    except KeyboardInterrupt:
        return 0  # Ctrl-C is how to end it
    return 0
