"""OOM reports out of a log of any size: most of it is passed over unread.

Nothing is kept but the report in the making, one for each host whose lines are in the log.
"""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.log_line import Line, split_line
from oomguard.core.oom_assembler import Assembler

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from oomguard.core.oom_report import Report

_TRIGGERS = (
    "oom",  # oom-killer:, oom-kill:, oom_reaper:, memory.oom.group, oom_kill_process: suppressed
    "ill process ",
    "Killed process ",
    "total_vm",
    "as a result of limit of",
    "no killable process",
    "panic - not syncing",
    "already exiting. Skip",
    "__vm_enough_memory",
    '"MESSAGE":[',  # not printable, so it is there as a list of bytes
    '"MESSAGE" : [',
)
"""Where a report may begin, or go on after its victim is dead: a superset of the lines that count.

Each is searched for by itself: one regular expression of them all takes five times as long.
"""

_LINE_LIMIT = 1 << 16
_QUIET_LINES = 5000
"""So many lines without a word about memory, and a report is over: its end was lost."""
_HOSTS_LIMIT = 256
_INDENT_LIMIT = 1024
_DIGITS = str.maketrans("123456789", "000000000")


class _Table(NamedTuple):
    """A task table that is being read: most of a log that has reports is rows, and each begins alike."""

    assembler: Assembler
    prefix: str
    """What stands in front of its heading, with every digit as 0."""
    host: str
    host_at: int


class OomLog:
    """Reads a log, block by block; blocks may end anywhere.

    `refusals` counts the allocations that strict overcommit refused, which kill nobody; `foreign` the lines
    that speak of a kill and are not the kernel's, or not in a form that is known.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, Assembler] = {}
        self._reading: dict[str, Assembler] = {}
        self._pending: Line | None = None
        self._table: _Table | None = None
        self.refusals = 0
        self.foreign = 0

    def read(self, blocks: "Iterable[str]") -> "Iterator[Report]":
        """Yield each report as soon as it is complete; the last ones at the end of the log."""
        rest = ""
        for block in blocks:
            text = rest + block
            # The last message is kept back: it may have more lines, by which alone it is found.
            end = _line_start(text, len(text) - 1, 0)
            if not end and len(text) >= _LINE_LIMIT:
                end = len(text)
            rest = text[end:]
            yield from self._scan(text[:end])
        yield from self._scan(rest)
        yield from self._flush()
        for assembler in self._hosts.values():
            yield from assembler.finish()

    def _scan(self, text: str) -> "Iterator[Report]":
        at = 0
        found = dict.fromkeys(_TRIGGERS, -1)
        while at < len(text):
            if not self._reading and not self._goes_on(text[at : at + _INDENT_LIMIT]):
                yield from self._flush()
            if not self._reading and self._pending is None:
                at = _next_trigger(text, at, found)
            elif self._table is not None:
                at = yield from self._take_rows(text, at, self._table)
            if at >= len(text):
                return
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            yield from self._take(text[at : min(end, at + _LINE_LIMIT)].rstrip("\r"))
            at = end + 1

    def _take(self, raw: str) -> "Iterator[Report]":
        """Take a line of the log: it begins a message of the kernel's, or goes on with one."""
        pending = self._pending
        if pending is not None and self._goes_on(raw):
            if len(pending.text) < _LINE_LIMIT:
                self._pending = pending._replace(text=f"{pending.text}\n{raw[pending.indent :]}")
            return
        yield from self._flush()
        self._pending = line = split_line(raw)
        if line is None and "Killed process " in raw:
            self.foreign += 1
        if line is not None and "total_vm" in line.text:
            yield from self._flush()
            assembler = self._hosts[line.host]
            prefix = raw[: line.indent]
            if assembler.row is not None and raw.endswith(line.text):
                self._table = _Table(assembler, prefix.translate(_DIGITS), line.host, prefix.find(line.host))

    def _goes_on(self, raw: str) -> bool:
        """Tell whether a line is one more of the pending message: indented by what that has in front."""
        pending = self._pending
        return pending is not None and pending.indent > 0 and raw[: pending.indent].isspace()

    def _take_rows(self, text: str, at: int, table: _Table) -> "Generator[Report, None, int]":
        """Take the rows that follow each other, and return where the next other line begins."""
        assembler, prefix, host, host_at = table
        indent = len(prefix)
        if assembler.row is None:  # another report has begun meanwhile
            self._table = None
            return at
        match = assembler.row.fullmatch
        while (end := text.find("\n", at)) >= 0:
            start = at + indent
            if indent and (
                text[at:start].translate(_DIGITS) != prefix or not text.startswith(host, at + host_at)
            ):
                break
            row = match(text, start, end)
            if (
                row is None
                or text[end - 1] == "\r"
                or (indent and text[end + 1 : end + 1 + indent].isspace())
            ):
                break
            if self._pending is not None:
                yield from self._flush()
            assembler.add_task(row.groups())
            at = end + 1
        return at

    def _flush(self) -> "Iterator[Report]":
        """Hand the message that is complete to the assembler of its host."""
        line, self._pending = self._pending, None
        if line is not None and line.text.startswith("__vm_enough_memory: pid: "):
            self.refusals += 1
            line = None
        assembler = None
        if line is not None:
            assembler = self._hosts.get(line.host)
            if assembler is None:
                yield from self._make_room()
                assembler = self._hosts[line.host] = Assembler()
            yield from assembler.feed(line)
            if assembler.is_reading:
                self._reading[line.host] = assembler
            else:
                self._reading.pop(line.host, None)
                self._table = None
        if self._reading:
            yield from self._give_up(assembler)

    def _make_room(self) -> "Iterator[Report]":
        if len(self._hosts) >= _HOSTS_LIMIT:
            for assembler in self._hosts.values():
                yield from assembler.finish()
            self._hosts.clear()
            self._reading.clear()
            self._table = None

    def _give_up(self, fed: Assembler | None) -> "Iterator[Report]":
        """Finish the reports whose end does not come."""
        for host, assembler in list(self._reading.items()):
            if assembler is not fed:
                assembler.quiet += 1
            if assembler.quiet > _QUIET_LINES:
                yield from assembler.finish()
                del self._reading[host]
                self._table = None


def _next_trigger(text: str, at: int, found: dict[str, int]) -> int:
    """Return where the next line with a trigger begins, or the end; `found` is what is known of `text`."""
    first = len(text)
    for trigger, known in found.items():
        if known < at:
            place = text.find(trigger, at)
            found[trigger] = len(text) if place < 0 else place
        first = min(first, found[trigger])
    return _line_start(text, first, at) if first < len(text) else first


def _line_start(text: str, found: int, least: int) -> int:
    """Return where the message begins that has `found` in it: with the line before the indented ones."""
    start = max(text.rfind("\n", least, found) + 1, least)
    while start > least and text[start].isspace():
        start = max(text.rfind("\n", least, start - 1) + 1, least)
    return start
