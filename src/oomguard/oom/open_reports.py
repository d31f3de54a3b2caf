"""The reports of a log that are not complete yet: one for each host, and whose table is being read."""

from collections.abc import Callable
from typing import NamedTuple

from oomguard.oom.log_line import Line
from oomguard.oom.log_messages import DIGITS
from oomguard.oom.other_killer import OtherKill
from oomguard.oom.report import Report
from oomguard.oom.report_parser import TASKS_LIMIT, Assembler

MESSAGE_COST = 132
"""The cost of parsing a message, in characters of the log. Real reports have at least 140 for each."""
_TABLE_COST = 3 * MESSAGE_COST
"""The additional cost of a new table."""
_ROWS_COST = 110
"""The cost of rows between other lines, however many follow each other."""
_QUIET_LINES = 5000
"""After this many lines that do not mention memory, the end of a report counts as lost."""
_HOSTS_LIMIT = 256
_ROWS_LIMIT = TASKS_LIMIT + TASKS_LIMIT // 4
"""Rows and victims of all unfinished reports."""
_LOOK_AFTER_ROWS = 1024


class _Table(NamedTuple):
    """The task table being read. Most lines of reports are rows, and all rows of one table begin alike."""

    assembler: Assembler
    prefix: str
    """The text before its heading, with every digit as 0."""
    host: str
    host_at: int


class OpenReports:
    """Passes each message to the report that it belongs to, and each complete report to `done`.

    Reports have up to `raw_limit` characters of their lines. `cost` is what the last messages cost beyond
    MESSAGE_COST; the caller subtracts it.
    """

    def __init__(self, done: Callable[[Report | None], None], *, raw_limit: int = 0) -> None:
        self._done = done
        self._raw_limit = raw_limit
        self._hosts: dict[str, Assembler] = {}
        self._reading: dict[str, Assembler] = {}
        self._table: _Table | None = None
        self._rows = 0
        self._quiet = 0
        self.cost = 0

    @property
    def any_is_read(self) -> bool:
        """Whether a report has begun and shows no kill yet."""
        return bool(self._reading)

    def explain(self, line: Line, other: OtherKill) -> bool:
        """Return whether the last kill of that host is the one that another program reports."""
        assembler = self._hosts.get(line.host)
        return assembler is not None and assembler.explains(line, other)

    def feed(self, line: Line, raw: str) -> bool:
        """Pass a message to the report that it belongs to. Return whether it was used."""
        host = line.host
        assembler = self._hosts.get(host)
        if assembler is None:
            if len(self._hosts) >= _HOSTS_LIMIT:
                self.finish_all()
            assembler = self._hosts[host] = self._without_prefix(host) or Assembler()
        self._done(assembler.feed(line))
        if self._raw_limit:
            assembler.keep(f"{raw}\n", self._raw_limit)
        self._count_rows(1)
        if not assembler.is_reading:
            self._reading.pop(host, None)
            self._table = None
        else:
            self._reading[host] = assembler
            if "total_vm" in line.text and assembler.row is not None and raw.endswith(line.text):
                self.cost += _TABLE_COST
                prefix = raw[: line.indent]
                self._table = _Table(assembler, prefix.translate(DIGITS), line.host, prefix.find(line.host))
        return assembler.is_used

    def take_rows(self, text: str, at: int, most: int) -> int:
        """Parse the rows that follow each other, and return where the next other line begins."""
        if self._table is None:
            return at
        assembler, prefix, host, host_at = self._table
        indent, first = len(prefix), at
        spaces, same = " " * indent, "\n"
        if assembler.row_line is None:  # another report has begun meanwhile
            self._table = None
            return at
        match, rows = assembler.row_line.match, []
        while at < most:
            start = at + indent
            if indent and not text.startswith(same, at):  # many rows have one time
                same = text[at:start]
                if same.translate(DIGITS) != prefix or not same.startswith(host, host_at):
                    break
            row = match(text, start, most)
            if row is None or (indent and text.startswith(spaces, row.end())):
                break
            rows.append(row.groups())
            at = row.end()
        if rows:
            self.cost += _ROWS_COST
            assembler.add_tasks(rows)
        if self._raw_limit:
            assembler.keep(text[first : min(at, first + self._raw_limit)], self._raw_limit)
        self._count_rows(len(rows))
        return at

    def give_up(self, lines: int) -> None:
        """Finish reports whose end is lost; so many more lines did not mention memory."""
        self._quiet += lines + 1
        if self._quiet < _QUIET_LINES // 10:
            return
        for host, assembler in list(self._reading.items()):
            assembler.quiet += self._quiet
            if assembler.quiet > _QUIET_LINES:
                self._done(assembler.finish())
                del self._reading[host]
                self._table = None
        self._quiet = 0

    def finish_all(self) -> None:
        """Finish every report as it is."""
        for assembler in self._hosts.values():
            self._done(assembler.finish())
        self._hosts.clear()
        self._reading.clear()
        self._table = None

    def _without_prefix(self, host: str) -> Assembler | None:
        """Take the unfinished report of the only host so far if this line, or its lines, lost the prefix."""
        if len(self._hosts) != 1 or len(self._reading) != 1 or (host and "" not in self._reading):
            return None
        other, assembler = self._reading.popitem()
        self._hosts.clear()
        assembler.name_host(host or other)
        return assembler

    def _count_rows(self, count: int) -> None:
        """Count lines, and finish all reports when they have too many rows together."""
        self._rows += count
        if self._rows >= _LOOK_AFTER_ROWS:
            self._rows = 0
            if sum(assembler.size for assembler in self._hosts.values()) > _ROWS_LIMIT:
                self.finish_all()
