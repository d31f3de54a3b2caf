"""The kills that a log names and none of its reports has."""

import re
from collections.abc import Callable
from typing import NamedTuple

from oomguard.oom.log_entry import split_any
from oomguard.oom.log_line import Line
from oomguard.oom.log_messages import Why
from oomguard.oom.log_time import is_near
from oomguard.oom.report import Report

_LINES_LIMIT, _PIDS_LIMIT, _TIMES_LIMIT = 1000, 1 << 16, 16
"""Lines that are remembered; and of reports, processes and times."""

_PART_LIMIT, _PART_BEFORE = 100, 40
"""Characters of a line that are shown, and before what may name a kill."""
_KILL = re.compile(r"[kK][iI1l!jJ]{1,2}[lLIJ1|!]|[oO0]{2}[mM]|of memory|rocess \d|total.?vm|sacrifice")
_REPEATED: frozenset[Why] = frozenset(("another program", "words about a kill"))
"""What may be about a kill that a report has."""


class Unread(NamedTuple):
    """A line of a log, counted from 1, that names the kill of a process and is in no report."""

    number: int
    pid: int
    why: Why
    is_choice: bool = False
    """Whether it does not say that the process was killed."""
    when: str = ""
    """The time of words about a kill, as written."""
    text: str = ""
    """The part of it that may name the kill: nobody can count the lines of the journal."""


def part_about_kill(line: str) -> str:
    """Return the part of a line that may name a kill; of an entry of the journal, of its message."""
    found = split_any(line) if line.startswith("{") else None
    text = (line if found is None else found[1].text).strip()
    named = _KILL.search(text)
    begin = max(0 if named is None else named.start() - _PART_BEFORE, 0)
    end = begin + _PART_LIMIT
    return f"{'…' * (begin > 0)}{text[begin:end]}{'…' * (end < len(text))}"


class UnreadKills:
    """The lines of a log that name a kill; the reports, before or after, show which were read elsewhere."""

    def __init__(self) -> None:
        self._lines: list[Unread] = []
        self._more = 0
        self._times: list[Line] = []
        self._killed: set[int] = set()
        self._chosen: set[int] = set()

    def note_report(self, report: Report) -> None:
        """Remember what a report is about."""
        if len(self._times) <= _TIMES_LIMIT:
            self._times.append(Line("", report.when))
        if len(self._killed) < _PIDS_LIMIT:
            self._killed.update([kill.pid for kill in report.kills])
            if (chosen := report.chosen) is not None:
                self._chosen.add(chosen.pid)

    def is_reported(self, pid: int, *, as_killed: bool = False) -> bool:
        """Return whether a report has that process as a victim or, unless `as_killed`, as the choice."""
        return pid in self._killed or (not as_killed and pid in self._chosen)

    def add(self, pid: int, line: Callable[[], Unread]) -> None:
        """Remember a line about a process that no report has so far; it is only counted if there are many."""
        if pid in self._killed:
            return
        if len(self._lines) < _LINES_LIMIT:
            self._lines.append(line())
        else:
            self._more += 1

    @property
    def lines(self) -> tuple[Unread, ...]:
        """The first lines that name a kill which is in no report; programs may repeat the kernel's lines."""
        found = {
            one.number: one
            for one in reversed(self._lines)
            if not self.is_reported(one.pid, as_killed=not one.is_choice)
            and (one.pid or one.why not in _REPEATED or self._is_at_another_time(one.when))
        }
        return tuple(sorted(found.values()))

    @property
    def count(self) -> int:
        """How many such lines there are, as far as they were remembered."""
        return len(self.lines) + self._more

    def _is_at_another_time(self, when: str) -> bool:
        """Return whether no report is near a time. Times of different forms cannot be compared."""
        return len(self._times) <= _TIMES_LIMIT and all(
            when and len(when) == len(one.when) and not is_near(one, Line("", when)) for one in self._times
        )
