"""Reads OOM reports from a log of any size, and skips most of the log without parsing it.

Users choose much of what is in a log, so no text may cost more than a fixed time per character: each
parsed message uses up characters of the log. Memory holds one unfinished report for each host in the log,
with a limit on the rows of all of them.
"""

import re
from heapq import heapreplace
from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.oom.kill import KILLED
from oomguard.oom.log_line import (
    Line,
    find_message,
    has_mark,
    is_decoration,
    is_field,
    is_in_entry,
    seconds_between,
    shape_of,
    split_entry,
    split_line,
    unmarked_line,
)
from oomguard.oom.other_killer import TRIGGERS as OTHER_TRIGGERS
from oomguard.oom.other_killer import OtherKill, parse_other
from oomguard.oom.report import Report
from oomguard.oom.report_parser import LONGEST_SECONDS, TASKS_LIMIT, Assembler, is_row, is_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TRIGGERS = (
    "oom-kill",  # oom-killer:, oom-kill:
    "oom_",  # oom_reaper:, oom_kill_process: … suppressed
    "ill process ",
    KILLED,
    "total-vm:",  # where a mail broke the line before
    "ut of memory",
    "total_vm",
    "as a result of limit of",
    "Tasks in /",
    "memory.oom.group",
    "no killable process",
    "panic - not syncing",
    "already exiting",
    " callbacks suppressed",
    "__vm_enough_memory",
    '"MESSAGE":[',  # not printable, so it is there as a list of bytes
    '"MESSAGE" : [',
    *OTHER_TRIGGERS,
)
"""Where a report may begin, or continue after the kill: a superset of the lines that matter.

Searching for each alone is five times faster than one regular expression of all.
"""

_DETAILS = re.compile(
    "|".join(map(re.escape, _TRIGGERS))
    + r"|\[ *\d{1,10}\]|Mem-[Ii]nfo|: usage \d|omm: |Node \d|\d pages |[el] swap|[a-z_]{3}:\d|mems_allowed="
    + r"|mem_cgroup_o|pagefault_o|hugepages_t"
)
"""What may also matter between the beginning of a report and the kill."""

_KILL = re.compile(r"[Kk]ill(?:ed)? process (\d{1,10})|oom-kill:constraint=")
"""What a line that names a kill has."""
_UNREAD_LIMIT = 1000
_PIDS_LIMIT = 1 << 16
_INVOKED = " invoked oom-killer: "
_AHEAD = 1 << 15
"""Characters that are known beyond a line, unless the log ends."""
_WRAPPED_FROM, _WRAPPED_LINES, _FIELD_LIMIT = 72, 6, 400
"""A line may continue in so many more if its first word had no room; the beginning of a line."""
_TERMINALS = frozenset((72, 76, 80, 100, 120, 132, 160))
_LINE_LIMIT = 1 << 15
"""Characters of a line. A record of the kernel has 1 KiB; the largest form is a list of bytes in JSON."""
_MESSAGE_LINES = 64
_MESSAGE_LIMIT = 1 << 14
"""Characters and lines of a message: the longest of the kernel's has some twenty lines."""
_MESSAGE_COST = 108
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
_MARKED = re.compile(r"ernel: |\[(?:[ +<]{0,12}\d{1,12}\.\d|[^][\n]{0,40}\d:\d\d)|_TRANSPORT[=\"]")
"""What shows that the lines of a log have a mark, or are fields of an entry."""
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


Why = Literal["another program", "no message of its own", "unknown prefix", "unknown form"]
"""Why a line that names a kill is in no report: its prefix shows another program; it may be part of another
message, as users can forge it; the lines around it have another prefix; no kernel prints it so."""


class Unread(NamedTuple):
    """A line of a log, counted from 1, that names the kill of a process and is in no report."""

    number: int
    pid: int
    why: Why


class OomLog:
    """Reads a log, block by block; blocks may end anywhere.

    `refusals` counts allocations that overcommit refused, which kill nothing; `skipped` counts lines that
    were not parsed because no kernel log has such lines, or so many of them.
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
        self._marked = -_BARE_LIMIT
        self._shapes: set[str] = set()
        self._others: dict[str, tuple[Line, OtherKill]] = {}
        self._indent = ""
        self._resume = 0
        self._lines = 0
        self._rows = 0
        self.refusals = 0
        self._begin = 0
        self._unread: list[Unread] = []
        self._unread_more = 0
        self._pids: set[int] = set()
        self.skipped = 0

    def read(self, blocks: "Iterable[str]") -> "Iterator[Report]":
        """Yield each report when it is complete, and the unfinished ones at the end of the log."""
        for text, begin, end in self._pieces(blocks):
            yield from self._scan(text, begin, end)
            self._lines += text.count("\n", begin, end)
        self._finish_all()
        yield from self._finished

    def _pieces(self, blocks: "Iterable[str]") -> "Iterator[tuple[str, int, int]]":
        """Yield the log in pieces of whole lines, without lines that are too long.

        The text around a piece, from its beginning to its end, is what precedes and follows it in the log.
        """
        text, begin, is_too_long = "", 0, False
        for block in blocks:
            more = block
            if is_too_long:
                _, found, more = block.partition("\n")
                if not found:
                    continue
                is_too_long = False
            text += more.replace("\xa0", " ").replace("\ufeff", "")  # web pages, and editors
            last = _line_start(text, len(text) - 1, begin)
            if len(text) - last > _LINE_LIMIT:
                is_too_long = True
                self.skipped += 1
                end = last
            else:
                end = max(text.rfind("\n", begin, max(len(text) - _AHEAD, begin)) + 1, begin)
            if end > begin:
                yield text, begin, end
            if is_too_long:
                text = text[:last]
                self._lines += 1
            least = max(end - _RUN_LIMIT, 0)
            text, begin = text[least:], end - least
        yield text, begin, len(text)

    def _scan(self, text: str, begin: int, end: int) -> "Iterator[Report]":
        at = begin + self._resume
        if self._indent:
            at = _further_end(text, at, self._indent)
        self._indent, self._resume, self._begin = "", 0, begin
        self._searched = 0
        self._marked = -_BARE_LIMIT
        places = [(-1, trigger) for trigger in _TRIGGERS]
        while at < end:
            if self._table is not None:
                at = self._take_rows(text, at, end, self._table)
            if self._reading:
                found = _DETAILS.search(text, at, end)
                place = end if found is None else found.start()
                self._give_up(text.count("\n", at, place))
            else:
                place = _next_trigger(text, at, end, places)
            if place >= end:
                self._credit = min(self._credit + end - at, _CREDIT)
                return
            following = self._take(text, at, place)
            if self._finished:
                yield from self._finished
                self._finished.clear()
            self._credit = min(self._credit + following - at - _MESSAGE_COST, _CREDIT)
            at = following
            if self._credit < 0:
                following = min(at - self._credit, end)
                following = text.find("\n", following, end) + 1 or max(end, at)
                self._skip(text, at, following)
                self._credit += following - at
                at = following
        self._resume = at - end

    def _skip(self, text: str, start: int, end: int) -> None:
        self.skipped += max(text.count("\n", start, end), 1)

    def _take(self, text: str, at: int, place: int) -> int:
        """Parse the message that includes `place`, and return where the next one begins."""
        start = _line_start(text, place, at)
        end = _line_end(text, place)
        if end - start > _LINE_LIMIT:
            self._skip(text, start, end)
            return end + 1
        raw = text[start:end].rstrip("\r")
        if text.startswith(OTHER_TRIGGERS, place) and (other := parse_other(raw)) is not None:
            self._take_other(*other)
            return end + 1
        if is_in_entry(raw):
            line, following = self._entry(text, start), end + 1
        else:
            line, following = self._message(text, start, at)
        why: Why = "another program"
        if line is not None and not line.is_marked:
            line, why = self._take_unmarked(text, start, end, line.text)
        elif line is not None and self._may_be_forged(text, start, line, raw):
            line, why = None, "no message of its own"
        if line is not None and not self._feed(line, raw):
            line, why = None, "unknown form"
        if line is None and (found := _KILL.search(raw)) is not None:
            pid = found[1] or raw.rpartition(",pid=")[2].partition(",")[0]
            self._note_unread(text, start, int(pid) if pid.isdecimal() and len(pid) <= 10 else 0, why)
        return following

    def _take_other(self, line: Line, other: OtherKill) -> None:
        """Report the kill of another program, unless another line has said so already."""
        assembler, before = self._hosts.get(line.host), self._others.get(line.host)
        if before is not None and _is_same(before, line, other):
            return
        if other.by == "systemd" and assembler is not None and assembler.explains(line, other.victim):
            return
        if len(self._others) >= _HOSTS_LIMIT:
            self._others.clear()
        self._others[line.host] = (line, other)
        kills = () if other.kill is None else (other.kill,)
        self._note(Report(line.when, line.uptime_seconds, line.host, kills=kills, other=other))

    def _feed(self, line: Line, raw: str) -> bool:
        """Give a message to the report that it belongs to. Return whether it was used."""
        if line.text.startswith("__vm_enough_memory: pid: "):
            self.refusals += 1
            return True
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
        return assembler.is_used

    def _note_unread(self, text: str, start: int, pid: int, why: Why) -> None:
        """Remember a line that names a kill and is in no report so far."""
        if len(self._unread) < _UNREAD_LIMIT:
            number = self._lines + text.count("\n", self._begin, start) + 1
            self._unread.append(Unread(number, pid, why))
        else:
            self._unread_more += 1

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The first lines that name a kill which is in no report; programs may repeat the kernel's lines."""
        return tuple(one for one in self._unread if one.pid not in self._pids)

    @property
    def unread_count(self) -> int:
        """How many such lines there are, as far as they were remembered."""
        return len(self.unread) + self._unread_more

    # Messages

    def _message(self, text: str, start: int, least: int) -> tuple[Line | None, int]:
        """Return the message that includes the line at `start`, and where the next one begins."""
        if text[start] == " ":
            line, following = self._with_further(text, _message_start(text, start, least))
            if following > start:
                return line, following
        line, following = self._with_further(text, start)
        if line is None or line.is_marked:
            return line, following
        begin = start
        for _ in range(_WRAPPED_LINES):  # it may continue a line that was wrapped
            before = _line_start(text, begin - 1, least)
            if begin <= least or not _is_wrapped(text, before, begin - 1):
                break
            if has_mark(text[before:begin]):
                whole, ending = self._with_further(text, before)
                return (whole, ending) if ending > start else (line, following)
            begin = before
        return line, following

    def _with_further(self, text: str, start: int) -> tuple[Line | None, int]:
        """Return the message that begins with the line at `start`, and where the next one begins."""
        end = _line_end(text, start)
        line = split_line(text[start:end].rstrip("\r"))
        if line is None or not line.indent or not line.is_marked:
            return line, end + 1
        indent = " " * line.indent
        if not text.startswith(indent, end + 1):
            return _unwrapped(text, start, end, line)
        following = _further_end(text, end + 1, indent)
        if following >= len(text):
            self._indent = indent
        more = text[end + 1 : min(following - 1, end + 1 + _MESSAGE_LIMIT)].split("\n", _MESSAGE_LINES)
        lines = [line.text, *(one[line.indent :].rstrip("\r") for one in more[:_MESSAGE_LINES])]
        return line._replace(text="\n".join(lines)[:_MESSAGE_LIMIT]), following

    def _entry(self, text: str, start: int) -> Line | None:
        """Return the message of an entry that has a line for each field."""
        begin = end = start
        head = ""
        for _ in range(_MESSAGE_LINES):
            before = _line_start(text, begin - 1, max(begin - _MESSAGE_LIMIT, 0))
            head = text[before : max(begin - 1, 0)]
            if begin == 0 or not is_field(head):
                break
            begin = before
        for _ in range(_MESSAGE_LINES):
            end = _line_end(text, end) + 1
            if end >= len(text) or not is_field(text[end : end + _FIELD_LIMIT]):
                break
        self._credit -= end - begin
        own = text[start : start + _FIELD_LIMIT]
        indent = len(own) - len(own.lstrip())
        return split_entry(head, text[begin:end].split("\n"), indent)

    def _take_unmarked(self, text: str, start: int, end: int, raw: str) -> tuple[Line | None, Why]:
        """Return the message of a line without a mark; None and why if it is not the kernel's."""
        at, name_end = find_message(raw), raw.find(_INVOKED, 0, _FIELD_LIMIT)
        self._credit -= max(at, 0) * _BACK_COST
        line = unmarked_line(raw, max(at, 0))
        if line is None:
            return None, "another program"
        if self._is_bare_among_marked(text, start):
            return None, "no message of its own"
        if at == 0:
            return line, "unknown form"
        if 0 <= name_end < at:
            self._credit -= _BACK_COST * _FIELD_LIMIT
            return unmarked_line(raw, _name_start(text, end, raw, name_end)), "another program"
        if at < 0:
            return None, "unknown form"
        if is_decoration(raw[:at]) or self._is_shared(text, start, end, shape_of(raw[:at])):
            return line, "unknown form"
        return None, "unknown prefix"

    def _is_shared(self, text: str, start: int, end: int, shape: str) -> bool:
        """Return whether the line before or the next one begins alike."""
        if shape in self._shapes:
            return True
        before = text[_line_start(text, start - 1, max(start - _LINE_LIMIT, 0)) : max(start - 1, 0)]
        for other in (before, text[end + 1 : end + 1 + _FIELD_LIMIT].partition("\n")[0]):
            if shape_of(other[:_FIELD_LIMIT]).startswith(shape):
                if len(self._shapes) >= _HOSTS_LIMIT:
                    self._shapes.clear()
                self._shapes.add(shape)
                return True
        return False

    def _may_be_forged(self, text: str, start: int, line: Line, raw: str) -> bool:
        """Return whether a line may continue another message, whose text a user chose.

        The device and the journal keep a message together. But syslog(2), and with it dmesg -S, rsyslog and a
        serial console, repeat the prefix on each line. Then all lines have the same microsecond, which a
        report does not share with the message before it.
        """
        if line.text.startswith("[") and "total_vm" not in line.text:
            return False  # a row names no victim
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

    def _is_bare_among_marked(self, text: str, start: int) -> bool:
        """Return whether a line without a mark follows one that has it: some dmesg do not indent."""
        for found in _MARKED.finditer(text, max(self._searched, start - _BARE_LIMIT), start):
            self._marked = found.start()
        self._searched = start
        return start - self._marked < _BARE_LIMIT

    def _take_rows(self, text: str, at: int, most: int, table: _Table) -> int:
        """Parse the rows that follow each other, and return where the next other line begins."""
        assembler, prefix, host, host_at = table
        indent = len(prefix)
        spaces = " " * indent
        if assembler.row is None:  # another report has begun meanwhile
            self._table = None
            return at
        match = assembler.row.fullmatch
        while at < most and (end := text.find("\n", at)) >= 0:
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
            if len(self._pids) < _PIDS_LIMIT:
                self._pids.update(kill.pid for kill in report.kills)
                if report.chosen is not None:
                    self._pids.add(report.chosen.pid)

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


def _is_same(before: tuple[Line, OtherKill], line: Line, other: OtherKill) -> bool:
    """Return whether a program's line is about the kill that another line before was about."""
    seconds = seconds_between(before[0], line)
    if seconds is not None and abs(seconds) > LONGEST_SECONDS:
        return False
    known, victim = before[1], other.victim
    return known.by == other.by and (known.victim == victim or victim in known.victim.split("/"))


def _next_trigger(text: str, at: int, end: int, places: list[tuple[int, str]]) -> int:
    """Return the place of the next trigger, or the end; `places` is a heap of where each is next."""
    while (first := places[0])[0] < at:
        place = text.find(first[1], at, end)
        heapreplace(places, (end if place < 0 else place, first[1]))
    return places[0][0]


def _is_wrapped(text: str, start: int, end: int) -> bool:
    """Return whether the next line may continue this one: its first word had no room in it."""
    if text.startswith(("[", "<"), end + 1) and text[start] in "[<":
        return False
    more = text[end + 1 : end + 1 + _WRAPPED_FROM].lstrip(" >|\t")
    word = more.partition(" ")[0].partition("\n")[0]
    return bool(word) and (end - start + len(word) >= _WRAPPED_FROM or end - start in _TERMINALS)


def _unwrapped(text: str, start: int, end: int, line: Line) -> tuple[Line, int]:
    """Return a message that a mail or a terminal wrapped, whose further lines have no mark."""
    if not _is_wrapped(text, start, end):
        return line, end + 1
    first = text[start:end]
    decoration = first[: len(first) - len(first.lstrip(" >|\t"))]
    glues = ("", " ") if end - start in _TERMINALS else (" ", "")
    parts, ends = [line.text], [end]
    while len(parts) < _WRAPPED_LINES and end + 1 < len(text) and _is_wrapped(text, start, end):
        start, end = end + 1, _line_end(text, end + 1)
        more = text[start : min(end, start + _FIELD_LIMIT)].rstrip("\r").removeprefix(decoration)
        if not more.strip() or has_mark(more):
            break
        parts.append(more)
        ends.append(end)
    if len(parts) > 1 and not is_row(line.text):
        for count in range(len(parts), 1, -1):
            for glue in glues:
                whole = glue.join([one.strip() if glue else one for one in parts[:count]])
                if is_whole(whole):
                    return line._replace(text=whole), ends[count - 1] + 1
    return line, ends[0] + 1


def _name_start(text: str, end: int, raw: str, name_end: int) -> int:
    """Return where the name begins that ends there: behind what further lines have in front."""
    for _ in range(_WRAPPED_LINES):
        start, end = end + 1, _line_end(text, end + 1)
        below = text[start : min(end, start + _FIELD_LIMIT)]
        found = find_message(below)
        if found < 0 or _INVOKED in below:
            continue
        prefix = below[:found]
        shape = shape_of(prefix)
        for at in sorted(range(name_end + 1), key=lambda at: abs(at - len(prefix))):
            if shape_of(raw[:at]) == shape and raw[:at][-1:] == prefix[-1:]:
                return at
        break
    return len(raw[:name_end]) - len(raw[:name_end].lstrip(" >|\t"))


def _further_end(text: str, at: int, indent: str) -> int:
    """Return where the lines that are indented so end."""
    while text.startswith(indent, at):
        at = _line_end(text, at) + 1
    return min(at, len(text) + 1)


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


def _line_end(text: str, place: int) -> int:
    """Return where the line that includes `place` ends."""
    end = text.find("\n", place)
    return len(text) if end < 0 else end


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
