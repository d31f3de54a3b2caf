"""Reads OOM reports from a log of any size, and skips most of the log without parsing it.

Users choose much of what is in a log, so no text may cost more than a fixed time per character: each
parsed message uses up characters of the log. Memory holds one unfinished report for each host in the log,
with a limit on the rows of all of them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from heapq import heapreplace
from itertools import islice

from oomguard.oom.garbled import garbled_kills, is_garbled_kill
from oomguard.oom.head import PREFIX_LIMIT
from oomguard.oom.kill import MARKS
from oomguard.oom.log_entry import begins_log
from oomguard.oom.log_line import WHEN, Line, plain
from oomguard.oom.log_messages import (
    LINE_LIMIT,
    RUN_LIMIT,
    Messages,
    Why,
    line_end,
    line_start,
)
from oomguard.oom.log_time import is_near
from oomguard.oom.open_reports import MESSAGE_COST, OpenReports
from oomguard.oom.other_killer import TRIGGERS as OTHER_TRIGGERS
from oomguard.oom.other_killer import OtherKill, OtherKillers, is_known
from oomguard.oom.pasted import WHOLE, as_logged
from oomguard.oom.prose import killed_in, lines_about_kills
from oomguard.oom.quoted import is_literal, quoted_messages
from oomguard.oom.report import UNKNOWN_MEMORY, Report
from oomguard.oom.unread import Unread, UnreadKills, part_about_kill

_TRIGGERS = (
    "oom-kill",  # oom-killer:, oom-kill:
    "oom_",  # oom_reaper:, oom_kill_process: … suppressed
    *MARKS,
    "total-vm:",  # where a mail broke the line before
    "or sacrifice child",
    "ut of memory",
    "total_vm",
    "as a result of limit of",
    "memory: usage ",
    "Tasks in /",
    "memory.oom.group",
    "no killable process",
    "panic - not syncing",
    "already exiting",
    " callbacks suppressed",
    "__vm_enough_memory",
    "Manual OOM execution",
    '"MESSAGE":[',  # not printable, so it is there as a list of bytes
    '"MESSAGE" : [',
    *(word for word in OTHER_TRIGGERS if not word.startswith("oom")),  # those begin as above
)
"""Where a report may begin, or continue after the kill: a superset of the lines that matter.

Searching for each alone is five times faster than one regular expression of all.
"""

_DETAILS = re.compile(
    r"\[ *[\doOIl|]{1,10}\]|Mem(?:-[Ii]nfo|ory cgroup st)|Node \d|hugepages_t|m(?:ems_allowed=|em_cgroup_o)"
    r"|:(?: usage \d|(?<=[a-z_]{3}:)\d|(?<=omm:) )|p(?:(?<=[\dd] p)ages\b|agefault_o)"
    r"|s(?:(?<=[el] s)wap|hmem \d|lab_unreclaimable \d)"
)
"""What else may matter between the beginning of a report and the kill.

Each alternative begins with a character, and no two with the same one: that makes it ten times faster.
"""

_KILL = re.compile(
    r"[Kk]ill(?:ed)? process (?:(\d{1,10})(?= \(|, UID)|\d)|oom-kill:constraint=|reaped process (\d{1,10}) \("
    r"|invoked oom-killer:"
)
"""The marks of a line that names a kill, or begins a report."""
_NAMES_LIMIT, _NAME_WITHIN, _WORDS_LIMIT = 16, 100, 4000
"""Names in a line that names kills, characters before a name, lines that may be words about a kill."""
_TOLD_LIMIT = 1 << 16
"""Reports that are compared with later ones."""
_AHEAD = 1 << 15
"""Characters that are known beyond a line, unless the log ends."""
_REPORT_COST = 540
"""The additional cost of a report, in JSON: a line of a kill takes longer to print than to parse."""
_OTHER_COST = 300
"""The additional cost of a line of another program."""
_WITHIN_COST = 400
"""The additional cost of a log in a string, however short: it is searched for each trigger by itself."""
_STRING_COST = 16
"""The cost of a string in a line that may have a message in quotes."""
_CREDIT = 10_500_000
"""The cost of a log beyond its length after which lines are skipped: some 16,000 kills in a row."""
_EVIDENCE_LIMIT, _EVIDENCE_COST = 16, 30
"""Kills that programs report, for which the kernel's report may follow, and what comparing one costs."""


class _Source:
    """A text being read: the log, or one in a string of its lines."""

    def __init__(self, line_number: Callable[[], int] | None = None) -> None:
        """`line_number` returns that of the line which has all of it; else its lines are counted."""
        self.messages = Messages()
        self.lines = 0
        """How many lines precede the current piece."""
        self.begin = 0
        """Where that begins."""
        self.resume = 0
        """How much of it was read with the piece before."""
        self._line_number = line_number

    def line_number(self, text: str, start: int) -> int:
        """Return the number of the line that begins there, counted from 1. It takes time."""
        if self._line_number is not None:
            return self._line_number()
        return self.lines + text.count("\n", self.begin, start) + 1


class OomLog:
    """Reads a log, block by block; blocks may end anywhere.

    `refusals` counts allocations that overcommit refused, which kill nothing; `skipped` counts lines that
    were not parsed because no kernel log has such lines, or so many of them. Reports have up to `raw_limit`
    characters of their lines.
    """

    def __init__(self, *, raw_limit: int = 0) -> None:
        self._open = OpenReports(self._note, raw_limit=raw_limit)
        self._credit = _CREDIT
        self._finished: list[Report] = []
        self._source = _Source()
        self._killers = OtherKillers()
        self._evidence: list[tuple[Line, OtherKill]] = []
        self._told: set[int] = set()
        self._copied = WHOLE
        self._words = _WORDS_LIMIT
        self._reversed = 0
        self.unread = UnreadKills()
        self.refusals = 0
        self.skipped = 0

    def read(self, blocks: Iterable[str]) -> Iterator[Report]:
        """Yield each report when it is complete, and the unfinished ones at the end of the log."""
        logged, self._reversed = as_logged(plain(blocks))
        for text, begin, end in self._pieces(logged):
            yield from self._scan(text, begin, end)
            self._find_untriggered(text, begin, end)
            self._source.lines += text.count("\n", begin, end)
        self._open.finish_all()
        for one in self._evidence:
            self._note_other(*one)
        yield from self._finished

    def _pieces(self, blocks: Iterable[str]) -> Iterator[tuple[str, int, int]]:
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
            text += more
            last = line_start(text, len(text) - 1, begin)
            if len(text) - last > LINE_LIMIT:
                is_too_long = True
                self.skipped += 1
                end = last
            else:
                end = max(text.rfind("\n", begin, max(len(text) - _AHEAD, begin)) + 1, begin)
            if end > begin:
                yield text, begin, end
            if is_too_long:
                text = text[: last + PREFIX_LIMIT] + "\n"  # indented lines may continue it
                end = len(text)
                self._source.lines += 1
            least = max(end - RUN_LIMIT, 0)
            self._source.messages.head.end_piece(text, end, least)
            text, begin = text[least:], end - least
        yield text, begin, len(text)

    def _scan(self, text: str, begin: int, end: int) -> Iterator[Report]:
        source, messages = self._source, self._source.messages
        at = begin + source.resume
        messages.begin_piece(at)
        source.begin, source.resume = begin, 0
        places = [(-1, trigger) for trigger in _TRIGGERS]
        while at < end:
            at = self._open.take_rows(text, at, end)
            place = _next_trigger(text, at, end, places)
            if self._open.any_is_read:
                found = _DETAILS.search(text, at, place)
                place = place if found is None else found.start()
                self._open.give_up(text.count("\n", at, place))
            if place >= end:
                self._credit = min(self._credit + end - at, _CREDIT)
                return
            following = self._take(text, at, place)
            if self._finished:
                yield from self._finished
                self._finished.clear()
            cost = MESSAGE_COST + messages.cost + self._open.cost
            self._credit = min(self._credit + following - at - cost, _CREDIT)
            messages.cost = self._open.cost = 0
            at = following
            if self._credit < 0:
                following = min(at - self._credit, end)
                following = text.find("\n", following, end) + 1 or max(end, at)
                self._skip(text, at, following)
                self._credit += following - at
                at = following
        source.resume = line_start(text, at, end) - end  # the last line may be a part of one

    def _skip(self, text: str, start: int, end: int) -> None:
        self.skipped += max(text.count("\n", start, end), 1)

    def _take(self, text: str, at: int, place: int) -> int:
        """Parse the message that includes `place`, and return where the next one begins."""
        start = line_start(text, place, at)
        end = line_end(text, place)
        if end - start > LINE_LIMIT:
            self._skip(text, start, end)
            return end + 1
        raw = text[start:end].rstrip("\r")
        if text.startswith(OTHER_TRIGGERS, place):
            self._credit -= _OTHER_COST
            if (other := self._killers.parse(raw)) is not None:
                self._take_other(*other)
                return end + 1
        messages = self._source.messages
        is_string = is_literal(raw) and not messages.head.is_further(text, start)
        if is_string and self._take_quoted(raw, text, start):
            return end + 1
        message, following = messages.take(text, start, end, at)
        if isinstance(message, Line) and message.is_log:
            self._take_within(message.text, text, start)
        elif isinstance(message, Line) and not self._feed(message, raw):
            message = "no kill before" if message.text.startswith("oom_reaper: ") else "unknown form"
        elif message == "unknown prefix" and self._take_quoted(raw, text, start):
            return following
        if not isinstance(message, Line):
            self._note_names(raw, text, start, message)
        elif ("process " in raw or "oom-kill" in raw) and _KILL.search(rest := _beside(message, raw)):
            self._note_names(rest, text, start, "unknown form")
        return following

    def _note_names(self, raw: str, text: str, start: int, why: Why) -> None:
        """Remember what a line names that could not be read: processes, or a kill without one."""
        found = [*islice(_KILL.finditer(raw), _NAMES_LIMIT)]
        for name in found:
            pid = name[1] or name[2] or raw.rpartition(",pid=")[2].partition(",")[0]
            number = int(pid) if pid.isdecimal() and len(pid) <= 10 else 0
            self._note_unread(text, start, number, why, is_choice=name[0][:5] in ("kill ", "Kill ", "oom-k"))
        if not found and is_garbled_kill(raw):
            why = "unknown form" if why == "another program" else why  # which kill it is, nobody knows
            self._note_unread(text, start, 0, why)

    def _find_untriggered(self, text: str, begin: int, end: int) -> None:
        """Note the lines about a kill that no word in _TRIGGERS finds, at the beginning of a log."""
        end = min(end, begin + self._copied)
        self._copied -= end - begin
        for start in garbled_kills(text, begin, end):
            if not any(trigger in text[start : line_end(text, start)] for trigger in _TRIGGERS):
                self._note_unread(text, start, 0, "unknown form")
        for start, line in islice(lines_about_kills(text, begin, end), self._words):
            self._words -= 1
            if (pid := killed_in(line)) is not None and not is_known(text[start : line_end(text, start)]):
                when = WHEN.search(line)
                self._note_unread(
                    text, start, pid, "words about a kill", when="" if when is None else when[0]
                )

    def _take_quoted(self, raw: str, text: str, start: int) -> bool:
        """Take the messages in quotes in the line that begins there. Return whether one is the kernel's."""
        messages, strings = quoted_messages(raw)
        self._credit -= strings * _STRING_COST + len(raw)
        found = [one for one in map(str.strip, messages) if begins_log(one)]
        for inner in found:
            self._take_within(inner, text, start)
        if found and _count_names(raw) > _count_names("\n".join(found)):
            self._note_names(raw, text, start, "unknown form")
        return bool(found)

    def _take_within(self, inner: str, text: str, start: int) -> None:
        """Take the messages of a log that is a string in the line that begins there."""
        outer = self._source
        self._source = _Source(lambda: outer.line_number(text, start))
        self._finished += list(self._scan(inner, 0, len(inner)))
        self._find_untriggered(inner, 0, len(inner))
        self._source = outer
        self._credit -= len(inner) + _WITHIN_COST  # the line counts itself

    def _take_other(self, line: Line, other: OtherKill) -> None:
        """Report the kill by another program, or its words about the kernel's."""
        if not other.is_kernels:
            self._note_other(line, other)
            return
        if other.kill is not None:
            is_reported = self.unread.is_reported(other.kill.pid)
        else:
            is_reported = self._open.explain(line, other)
        if is_reported:
            return
        self._evidence.append((line, other))  # the kernel's own report may follow
        if len(self._evidence) > _EVIDENCE_LIMIT:
            self._note_other(*self._evidence.pop(0))

    def _note_other(self, line: Line, other: OtherKill) -> None:
        kills = () if other.kill is None else (other.kill,)
        self._note(Report(line.when, line.uptime_seconds, line.host, kills=kills, other=other))

    def _forget_evidence(self, report: Report) -> None:
        """Forget what other programs said before about a kill that the kernel reports."""
        self._credit -= len(self._evidence) * _EVIDENCE_COST
        self._evidence = [one for one in self._evidence if not _is_about(*one, report)]

    def _feed(self, line: Line, raw: str) -> bool:
        """Pass a message to the report that it belongs to. Return whether it was used."""
        if line.text.startswith("__vm_enough_memory: pid: "):
            self.refusals += 1
            return True
        return self._open.feed(line, raw)

    def _note_unread(
        self, text: str, start: int, pid: int, why: Why, *, is_choice: bool = False, when: str = ""
    ) -> None:
        """Remember a line that names a kill and is in no report so far."""

        def line() -> Unread:
            number = self._source.line_number(text, start)
            number = self._reversed + 1 - number if self._reversed else number
            return Unread(
                number, pid, why, is_choice, when, part_about_kill(text[start : line_end(text, start)])
            )

        self.unread.add(pid, line)

    def _note(self, report: Report | None) -> None:
        if report is not None and not self._is_copy(report):
            self.unread.note_report(report)
            self._finished.append(report)
            self._credit -= _REPORT_COST
            if self._evidence and report.other is None and report.kills:
                self._forget_evidence(report)

    def _is_copy(self, report: Report) -> bool:
        """Return whether the log has the same report before: two files, or two fields of an entry."""
        victim, memory = report.victim, "" if report.memory is UNKNOWN_MEMORY else str(report.memory)
        if not (memory or (victim and victim.total_vm_kib)) or len(self._told) >= _TOLD_LIMIT:
            return False
        time = report.when, report.uptime_seconds, report.host
        told = hash((time, report.kills, len(report.tasks), memory))
        is_copy = told in self._told
        self._told.add(told)
        return is_copy


def _beside(message: Line, raw: str) -> str:
    """Return what a line has beside the message that was read: a cut may have joined it with another."""
    said = message.text
    if message.is_log or said.startswith(("oom-kill:", "Task")):
        return ""  # a path may have any words
    if (first := _KILL.search(said, 0, _NAME_WITHIN)) is None:
        return raw
    is_entry = raw.startswith("{") and raw.endswith("}")  # of which every field was read
    return said[first.end() :] + (raw.replace(said, "") if said in raw and not is_entry else "")


def _count_names(text: str) -> int:
    return len(_KILL.findall(text)) + is_garbled_kill(text)


def _is_about(line: Line, other: OtherKill, report: Report) -> bool:
    """Return whether a program's words are about the kernel's kill in a report."""
    if other.kill is not None:
        return any(kill.pid == other.kill.pid for kill in report.kills)
    if report.host != line.host or not is_near(Line("", report.when, report.uptime_seconds), line):
        return False
    return not report.task_memcg or other.may_be_in(report.task_memcg)


def _next_trigger(text: str, at: int, end: int, places: list[tuple[int, str]]) -> int:
    """Return the place of the next trigger, or the end; `places` is a heap of where each is next."""
    while (first := places[0])[0] < at:
        place = text.find(first[1], at, end)
        heapreplace(places, (end if place < 0 else place, first[1]))
    return places[0][0]
