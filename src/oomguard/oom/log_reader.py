"""Reads OOM reports from a log of any size, and skips most of the log without parsing it.

Users choose much of what is in a log, so no text may cost more than a fixed time per character: each
parsed message uses up characters of the log. Memory holds one unfinished report for each host in the log,
with a limit on the rows of all of them.
"""

import re
from heapq import heapreplace
from typing import TYPE_CHECKING, NamedTuple

from oomguard.oom.kill import KILLED
from oomguard.oom.log_line import Line, split_line
from oomguard.oom.report_parser import TASKS_LIMIT, Assembler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oomguard.oom.report import Report

_TRIGGERS = (
    "oom-kill",  # oom-killer:, oom-kill:
    "oom_",  # oom_reaper:, oom_kill_process: … suppressed
    "ill process ",
    KILLED,
    "total_vm",
    "as a result of limit of",
    "memory.oom.group",
    "no killable process",
    "panic - not syncing",
    "already exiting",
    " callbacks suppressed",
    "__vm_enough_memory",
    '"MESSAGE":[',  # not printable, so it is there as a list of bytes
    '"MESSAGE" : [',
)
"""Where a report may begin, or continue after the kill: a superset of the lines that matter.

Searching for each alone is five times faster than one regular expression of all.
"""

_DETAILS = re.compile(
    "|".join(map(re.escape, _TRIGGERS))
    + r"|\[ *\d{1,10}\]|Mem-Info|: usage \d|omm: |Node \d|\d pages |[El] swap|[a-z_]{3}:\d|mems_allowed="
)
"""What may also matter between the beginning of a report and the kill."""

_LINE_LIMIT = 1 << 15
"""Characters of a line. A record of the kernel has 1 KiB; the largest form is a list of bytes in JSON."""
_MESSAGE_LINES = 64
_MESSAGE_LIMIT = 1 << 14
"""Characters and lines of a message: the longest of the kernel's has some twenty lines."""
_MESSAGE_COST = 96
"""What parsing a message costs, in characters of the log. Real reports have at least 140 for each."""
_REPORT_COST = 72
"""What a report costs in addition. The shortest real one is a single line of about 180 characters."""
_CREDIT = 1 << 20
"""How much a log may cost beyond its length before lines are skipped."""
_QUIET_LINES = 5000
"""After so many lines that do not mention memory, the end of a report counts as lost."""
_HOSTS_LIMIT = 256
_ROWS_LIMIT = TASKS_LIMIT + TASKS_LIMIT // 4
"""Rows and victims of all unfinished reports."""
_LOOK_AFTER_ROWS = 1024
_DIGITS = str.maketrans("123456789", "000000000")


class _Table(NamedTuple):
    """The task table being read. Most lines of reports are rows, and all rows of one table begin alike."""

    assembler: Assembler
    prefix: str
    """The text before its heading, with every digit as 0."""
    host: str
    host_at: int


_STAMP = re.compile(r"\[ *\d{1,12}\.\d{1,9}[] ]")
_STAMPED = re.compile(r"^(?:<\d{1,3}>)?(?:\[ *\d{1,12}\.\d{1,9}[] ]|\[[A-Z][a-z]{2} )", re.MULTILINE)
_RUN_LIMIT = 1 << 16
"""Characters of a record that has a prefix on each line: it may have a thousand lines."""
_BARE_LIMIT = 1 << 12
"""Characters of a record whose further lines have no prefix."""
_OTHERS_LIMIT = 32
"""Lines of other hosts and programs between two of one record."""
_BACK_COST = 3
"""The cost of reading an earlier line again, in characters of the log."""
_REPORT = re.compile(
    r".{0,60} invoked oom-killer: |oom-kill:|Out of memory|Memory cgroup out of memory: |Kill|Tasks? |CPU: "
    r"|P(?:ID|id): | .{0,80}\+0x| </?TASK>| ?[a-z_]{1,40}:\d|[a-z_]{1,40} \d{1,20}\Z|\[ *(?:pid|\d+) *\] "
    r"|Mem-[Ii]nfo:|Node \d|\d{1,20} (?:total |pages )|(?:Free|Total) swap|lowmem_reserve|Call Trace:|Code: "
    r"|Hardware name: |[A-Z0-9]{3}: |Memory cgroup stats for |(?:memory|memory\+swap|swap|kmem): usage "
)
"""How lines of a report begin. No name in them is long enough for a line break and a kill."""


class OomLog:
    """Reads a log, block by block; blocks may end anywhere.

    `refusals` counts allocations that overcommit refused, which kill nothing; `foreign` counts lines that
    mention a kill but are not the kernel's, or not in a known format; `skipped` counts lines that were not
    parsed because no kernel log has such lines, or so many of them.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, Assembler] = {}
        self._reading: dict[str, Assembler] = {}
        self._table: _Table | None = None
        self._credit = _CREDIT
        self._quiet = 0
        self._finished: list[Report] = []
        self._runs: dict[str, tuple[str, bool]] = {}
        self._searched = 0
        self._stamped = -_BARE_LIMIT
        self._rows = 0
        self.refusals = 0
        self.foreign = 0
        self.skipped = 0

    def read(self, blocks: "Iterable[str]") -> "Iterator[Report]":
        """Yield each report when it is complete, and the unfinished ones at the end of the log."""
        for text, begin in self._whole_messages(blocks):
            yield from self._scan(text, begin)
        self._finish_all()
        yield from self._finished

    def _whole_messages(self, blocks: "Iterable[str]") -> "Iterator[tuple[str, int]]":
        """Yield the log in pieces of whole messages, without lines that are too long.

        Each piece begins at the number; before it stands the text that precedes it in the log.
        """
        before, rest, is_too_long = "", "", False
        for block in blocks:
            text = before + rest + block
            begin = len(before)
            if is_too_long:
                begin = text.find("\n", begin) + 1
                if not begin:
                    rest = ""
                    continue
                is_too_long = False
            end = _line_start(text, len(text) - 1, begin)
            if len(text) - end > _LINE_LIMIT:
                is_too_long = True
                self._skip(text, end, len(text))
                rest = ""
            else:
                # Keep the last message: it may have more lines in the next block.
                end = _message_start(text, end, begin)
                rest = text[end:]
            yield text[:end], begin
            before = text[max(end - _RUN_LIMIT, 0) : end]
        yield before + rest, len(before)

    def _scan(self, text: str, begin: int) -> "Iterator[Report]":
        at = begin
        self._searched = 0
        self._stamped = -_BARE_LIMIT
        places = [(-1, trigger) for trigger in _TRIGGERS]
        while at < len(text):
            if self._table is not None:
                at = self._take_rows(text, at, self._table)
            if self._reading:
                found = _DETAILS.search(text, at)
                place = len(text) if found is None else found.start()
                self._give_up(text.count("\n", at, place))
            else:
                place = _next_trigger(text, at, places)
            if place >= len(text):
                self._credit = min(self._credit + len(text) - at, _CREDIT)
                return
            end = self._take(text, at, place)
            if self._finished:
                yield from self._finished
                self._finished.clear()
            self._credit = min(self._credit + end - at - _MESSAGE_COST, _CREDIT)
            at = end
            if self._credit < 0:
                end = min(at - self._credit, len(text))
                end = text.find("\n", end) + 1 or len(text)
                self._skip(text, at, end)
                self._credit += end - at
                at = end

    def _skip(self, text: str, start: int, end: int) -> None:
        self.skipped += max(text.count("\n", start, end), 1)

    def _take(self, text: str, at: int, place: int) -> int:
        """Parse the message that includes `place`, and return where the next one begins."""
        start = _line_start(text, place, at)
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        if end - start > _LINE_LIMIT:
            self._skip(text, start, end)
            return end + 1
        begin = start if text[start] != " " else _message_start(text, start, at)
        line, following = _message(text, begin)
        if following <= start:  # that message ends before
            line, following = _message(text, start)
        raw = text[start:end].rstrip("\r")
        if line is None or self._may_be_forged(text, start, line, raw):
            self.foreign += KILLED in raw
            return following
        if line.text.startswith("__vm_enough_memory: pid: "):
            self.refusals += 1
            return following
        assembler = self._hosts.get(line.host)
        if assembler is None:
            if len(self._hosts) >= _HOSTS_LIMIT:
                self._finish_all()
            assembler = self._hosts[line.host] = Assembler()
        self._note(assembler.feed(line))
        self._rows += 1
        if self._rows >= _LOOK_AFTER_ROWS:
            self._look_after_rows()
        if not assembler.is_reading:
            self._reading.pop(line.host, None)
            self._table = None
        else:
            self._reading[line.host] = assembler
            if "total_vm" in line.text and assembler.row is not None and raw.endswith(line.text):
                self._credit -= _MESSAGE_COST + _REPORT_COST  # what beginning a table costs
                prefix = raw[: line.indent]
                self._table = _Table(assembler, prefix.translate(_DIGITS), line.host, prefix.find(line.host))
        return following

    def _may_be_forged(self, text: str, start: int, line: Line, raw: str) -> bool:
        """Return whether a line may continue another message, whose text a user chose.

        The device and the journal keep a message together. But syslog(2), and with it dmesg -S, rsyslog and a
        serial console, repeat the prefix on each line. Then all lines have the same microsecond, which a
        report does not share with the message before it.
        """
        if line.text.startswith("[") and "total_vm" not in line.text:
            return False  # a row names no victim
        if line.text == raw:
            return self._is_bare_among_stamped(text, start)
        stamp = _STAMP.search(raw, 0, line.indent)
        if stamp is None:
            return False
        run = self._runs.get(line.host)
        if run is None or run[0] != stamp[0]:
            first, seen = _first_of_run(text, start, stamp[0], line.host, raw[: line.indent])
            self._credit -= seen * _BACK_COST
            is_forged = first is not None and _REPORT.match(first) is None
            if len(self._runs) >= _HOSTS_LIMIT:
                self._runs.clear()
            run = self._runs[line.host] = (stamp[0], is_forged)
        return run[1]

    def _is_bare_among_stamped(self, text: str, start: int) -> bool:
        """Return whether a line without a prefix follows one with a time: some dmesg do not indent."""
        for found in _STAMPED.finditer(text, max(self._searched, start - _BARE_LIMIT), start):
            self._stamped = found.start()
        self._searched = start
        return start - self._stamped < _BARE_LIMIT

    def _take_rows(self, text: str, at: int, table: _Table) -> int:
        """Parse the rows that follow each other, and return where the next other line begins."""
        assembler, prefix, host, host_at = table
        indent = len(prefix)
        spaces = " " * indent
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
            if row is None or text[end - 1] == "\r" or (indent and text.startswith(spaces, end + 1)):
                break
            assembler.add_task(row.groups())
            self._rows += 1
            at = end + 1
        if self._rows >= _LOOK_AFTER_ROWS:
            self._look_after_rows()
        return at

    def _look_after_rows(self) -> None:
        """Finish all reports when they have too many rows together."""
        self._rows = 0
        if sum(assembler.size for assembler in self._hosts.values()) > _ROWS_LIMIT:
            self._finish_all()

    def _note(self, report: "Report | None") -> None:
        if report is not None:
            self._finished.append(report)
            self._credit -= _REPORT_COST

    def _finish_all(self) -> None:
        for assembler in self._hosts.values():
            self._note(assembler.finish())
        self._hosts.clear()
        self._reading.clear()
        self._table = None

    def _give_up(self, lines: int) -> None:
        """Finish reports whose end is lost; so many more lines did not mention memory."""
        self._quiet += lines + 1
        if self._quiet < _QUIET_LINES // 10:
            return
        for host, assembler in list(self._reading.items()):
            assembler.quiet += self._quiet
            if assembler.quiet > _QUIET_LINES:
                self._note(assembler.finish())
                del self._reading[host]
                self._table = None
        self._quiet = 0


def _next_trigger(text: str, at: int, places: list[tuple[int, str]]) -> int:
    """Return the place of the next trigger, or the end; `places` is a heap of where each is next."""
    while (first := places[0])[0] < at:
        place = text.find(first[1], at)
        heapreplace(places, (len(text) if place < 0 else place, first[1]))
    return places[0][0]


def _first_of_run(text: str, start: int, stamp: str, host: str, prefix: str) -> tuple[str | None, int]:
    """Return the first earlier line with this host and time, or None; and how many lines were read."""
    own, host_at, first = prefix.translate(_DIGITS), prefix.find(host), -1
    others = seen = 0
    least = max(start - _RUN_LIMIT, 0)
    while start > least and others < _OTHERS_LIMIT:
        seen += 1
        before = text.rfind("\n", least, start - 1) + 1 or least
        end = before + len(own)
        if not text.startswith(host, before + host_at) or text[before:end].translate(_DIGITS) != own:
            others += 1
        elif text.find(stamp, before, end) < 0:
            break  # another message of the same host
        else:
            first, others = before, 0
        start = before
    if first < 0:
        return None, seen
    line = split_line(text[first : min(text.find("\n", first), first + _LINE_LIMIT)])
    return "" if line is None else line.text, seen


def _line_start(text: str, place: int, least: int) -> int:
    """Return where the line that includes `place` begins; a line begins at `least`."""
    return max(text.rfind("\n", least, place) + 1, least)


def _message_start(text: str, start: int, least: int) -> int:
    """Return where the message that includes the line at `start` may begin: further lines are indented."""
    for _ in range(_MESSAGE_LINES):
        if start <= least or not text.startswith(" ", start):
            break
        before = text.rfind("\n", max(least, start - _MESSAGE_LIMIT), start - 1)
        if before < 0 and start - _MESSAGE_LIMIT > least:
            break
        start = max(before + 1, least)
    return start


def _message(text: str, start: int) -> tuple[Line | None, int]:
    """Return the message that begins with the line at `start`, and where the next one begins."""
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    line = split_line(text[start:end].rstrip("\r"))
    if line is None or not line.indent or not text.startswith(" ", end + 1):
        return line, end + 1
    spaces, more = " " * line.indent, [line.text]
    while text.startswith(spaces, end + 1):
        start, end = end + 1 + line.indent, text.find("\n", end + 1)
        end = len(text) if end < 0 else end
        if len(more) <= _MESSAGE_LINES:
            more.append(text[start : min(end, start + _MESSAGE_LIMIT)].rstrip("\r"))
    return line._replace(text="\n".join(more)[:_MESSAGE_LIMIT]), end + 1
