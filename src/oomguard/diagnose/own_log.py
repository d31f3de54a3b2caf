"""oomguard's own entries in the journal."""

import fnmatch
import json
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from oomguard.core.errors import OomguardError
from oomguard.core.match import is_glob
from oomguard.diagnose.journalctl import OURS, has_journal, open_journal, other_killers
from oomguard.oom.other_killer import OtherKillers
from oomguard.report.log_entries import FIELDS, OUR_FIELD, LoggedEntry, parse_entry, parse_other_kill

_WITHOUT = "without a journal, `oomguard run` prints the same to standard error"


class EntryFilter(NamedTuple):
    """Which entries to show. `since` and `until` are journalctl's; no `events` means those about values."""

    since: str | None
    until: str | None
    rule: str | None
    pid: int | None
    cause: str | None
    events: Sequence[str]

    def accepts(self, entry: LoggedEntry) -> bool:
        """Return whether to show an entry, as far as journalctl was not asked."""
        if not self.events and not entry.is_adjustment:
            return False
        if self.rule is None:
            return True
        texts = (entry.rule, entry.source)
        if is_glob(self.rule):
            return any(fnmatch.fnmatchcase(text, self.rule) for text in texts)
        return any(self.rule in text for text in texts)


def read_history(wanted: EntryFilter) -> Iterator[LoggedEntry]:
    """Yield the entries, oldest first. OomguardError: the journal cannot be read."""
    return (entry for _, entry in _read(wanted))


def follow_history(wanted: EntryFilter, last: int) -> Iterator[LoggedEntry]:
    """Yield the last so many entries that are wanted, and then those to come.

    OomguardError: the journal cannot be read.
    """
    if _asks_others(wanted):  # two entries of nohang, in their order, are one kill
        kept = [*deque(_read(wanted), maxlen=last)][::-1]
    else:
        newest_first = _read(wanted, "--reverse")
        kept = list(islice(newest_first, last))
        newest_first.close()  # ends journalctl, which may have much more
    start = ["--lines=all" if last else "--lines=0"]
    if kept:
        start.insert(0, f"--after-cursor={json.loads(kept[0][0])['__CURSOR']}")
        wanted = wanted._replace(since=None)
    yield from (entry for _, entry in reversed(kept))
    yield from (entry for _, entry in _read(wanted, "--follow", *start))


def _read(wanted: EntryFilter, *how: str) -> Generator[tuple[bytes, LoggedEntry]]:
    """Yield the entries, each with its line of JSON."""
    killers = OtherKillers()
    with open_journal([*how, *_asked(wanted)], without=_WITHOUT) as journal:
        for line in journal:
            entry = parse_entry(line) if OUR_FIELD in line else parse_other_kill(line, killers)
            if entry is not None and wanted.accepts(entry):
                yield line, entry


def require_journal() -> None:
    """Raise OomguardError if this host has no journal."""
    if not has_journal():
        raise OomguardError("this host has no journal", hint=_WITHOUT)


def _asked(wanted: EntryFilter) -> list[str]:
    span = (("since", wanted.since), ("until", wanted.until))
    asked = [f"--{name}={value}" for name, value in span if value]
    asked += [
        f"--output-fields={','.join(FIELDS)}",
        *OURS,
        *([f"_UID={os.geteuid()}"] if os.geteuid() else []),
    ]
    if wanted.pid is not None:
        asked.append(f"OBJECT_PID={wanted.pid}")
    if wanted.cause is not None:
        asked.append(f"OOMGUARD_CAUSE={wanted.cause}")
    asked += [f"OOMGUARD_EVENT={event}" for event in wanted.events if event != "all"]
    return asked + (other_killers() if _asks_others(wanted) else [])


def _asks_others(wanted: EntryFilter) -> bool:
    """Return whether to show kills by other programs, too."""
    is_any_kill = not {"killed", "all"}.isdisjoint(wanted.events)
    return is_any_kill and wanted.pid is None and wanted.cause is None
