"""The messages in the text of a log: where each begins and ends, and whether it is the kernel's own.

A message may have further lines, or a mail may have wrapped it. Users choose what is in many of them, line
breaks included, so a line counts only where it cannot be a part of another message.
"""

import re
from collections.abc import Iterator
from typing import Literal

from oomguard.oom.head import Head
from oomguard.oom.kill import parse_kill
from oomguard.oom.log_entry import is_damaged, is_field, is_in_entry, split_entry, split_line
from oomguard.oom.log_line import (
    INVOKED,
    Line,
    begins_report,
    find_message,
    has_mark,
    is_decoration,
    shape_of,
    unmarked_line,
    without_ending,
)
from oomguard.oom.report_lines import is_row, is_whole, parse_columns, row_pattern

Why = Literal[
    "another program",
    "no message of its own",
    "unknown prefix",
    "unknown form",
    "no kill before",
    "words about a kill",
]
"""Why a line that names a kill is in no report: its prefix shows another program; it may be part of another
message, as users can forge it; the lines around it have another prefix; no kernel prints it so; it follows
the line of a kill, which is missing; it speaks of one as people do."""

LINE_LIMIT = 1 << 15
"""Characters of a line. A record of the kernel has 1 KiB; the largest form is a list of bytes in JSON."""
RUN_LIMIT = 1 << 16
"""Characters of a record that has a prefix on each line: it may have a thousand lines."""
DIGITS = str.maketrans("123456789", "000000000")
"""Makes prefixes of one form equal."""
_MESSAGE_LINES = 64
_MESSAGE_LIMIT = 1 << 14
"""Characters and lines of a message: the longest of the kernel's has some twenty lines."""
_WRAPPED_FROM, _WRAPPED_LINES, _FIELD_LIMIT = 71, 6, 400
"""A line may continue in so many more if its first word had no room; the beginning of a line."""
_NUMBER_WIDTHS = 16
"""Numbers and spaces in two prefixes of one form differ by less."""
_IN_ROW = re.compile(r"\[ *\d{1,10}\] ")
_TORN_ROW = re.compile(r"\[ *\d{1,10}\](?: +-?\d{1,20}){0,15} *")
"""A row of the task table, whatever is in it, and one that ends among its numbers."""
_TERMINALS = frozenset((72, 76, 80, 100, 120, 132, 160))
_STAMP = re.compile(r"\[ *\d{1,12}\.\d{1,9}[] ]")
_MARKED = re.compile(
    r"ernel: |\[(?!\d\d?[./]\d\d?[./]\d\d)(?:[ +<]{0,12}\d{1,12}\.\d|[^][\n]{0,40}\d:\d\d)|_TRANSPORT[=\"]"
)
"""What shows that the lines of a log have a mark, or are fields of an entry; the date in a chat does not."""
_BARE_LIMIT = 1 << 12
"""Characters of a record whose further lines have no prefix."""
_OTHERS_LIMIT = 32
"""Lines of other hosts and programs between two of one record."""
_BACK_COST, _FURTHER_COST = 6, 40
"""The cost of reading an earlier line again, and a later one, in characters of the log."""
_UNMARKED_COST, _PREFIX_COST, _CHARACTER_COST = 55, 50, 4
"""The additional cost of a line without a mark, of its prefix, and of each character of that."""
_HOSTS_LIMIT = 256


class Messages:
    """Finds the messages of a log. `cost` is what that took so far, in characters of the log."""

    def __init__(self) -> None:
        self.cost = 0
        self.head = Head()
        self._runs: dict[str, tuple[str, bool]] = {}
        self._shapes: set[str] = set()
        self._row: re.Pattern[str] | None = None
        """A row below the last heading."""
        self.begin_piece(0)

    def begin_piece(self, begin: int) -> None:
        """Forget places in the text: it is another one, and nothing from `begin` on was taken."""
        self._begin = begin
        self._searched = 0
        self._marked = -_BARE_LIMIT
        self._last: tuple[int, str] | None = None
        """The end and the host of the last line, if it has the kernel's time."""

    def take(self, text: str, start: int, end: int, least: int) -> tuple[Line | Why, int]:
        """Return the message that includes the line from `start` to `end`, and where the next one begins.

        The message begins at `least` or later. If the line is not the kernel's, the reason is in its place.
        """
        raw = text[start:end].rstrip("\r")
        if raw[:1] in ' \tM"' and is_in_entry(raw):
            return self._entry(text, start) or "another program", end + 1
        line, following = self._message(text, start, end, least)
        if line is None:
            return "unknown form" if is_damaged(raw) else "another program", following
        if not line.is_marked:
            bare = self._take_unmarked(text, start, end, line.text)
            if not isinstance(bare, Line):
                return bare, following
            line, following = self._unwrapped(text, start, end, bare)
        else:
            self.cost += line.indent
            if self._may_be_forged(text, start, line, raw):
                return "no message of its own", following
        if "total_vm" in line.text and (columns := parse_columns(line.text)):
            self._row = re.compile(row_pattern(columns))
        return line, following

    def _message(self, text: str, start: int, end: int, least: int) -> tuple[Line | None, int]:
        """Return the message that includes the line from `start` to `end`, and where the next one begins."""
        if text[start] == " ":
            is_further, begin = self.head.is_further(text, start), self.head.at
            if begin >= (least if least > self._begin else 0):
                line, following = self._with_further(text, begin, line_end(text, begin))
                if following > start:
                    return line, following
            if is_further:
                return None, end + 1
        line, following = self._with_further(text, start, end)
        if line is None or line.is_marked:
            return line, following
        begin = start
        for _ in range(_WRAPPED_LINES):  # it may continue a line that was wrapped
            before = line_start(text, begin - 1, least)
            if begin <= least or not _is_wrapped(text, before, begin - 1):
                break
            if has_mark(text[before:begin]):
                whole, ending = self._with_further(text, before, begin - 1)
                return (whole, ending) if ending > start else (line, following)
            begin = before
        return line, following

    def _with_further(self, text: str, start: int, end: int) -> tuple[Line | None, int]:
        """Return the message that begins with this line, and where the next one begins."""
        line = split_line(text[start:end].rstrip("\r"))
        if line is None or not line.indent or not line.is_marked:
            return line, end + 1
        indent = " " * line.indent
        if not text.startswith(indent, end + 1):
            return self._unwrapped(text, start, end, line)
        following = _further_end(text, end + 1, indent)
        more = text[end + 1 : min(following - 1, end + 1 + _MESSAGE_LIMIT)].split("\n", _MESSAGE_LINES)
        lines = [line.text, *(one[line.indent :].rstrip("\r") for one in more[:_MESSAGE_LINES])]
        return line._replace(text="\n".join(lines)[:_MESSAGE_LIMIT]), following

    def _unwrapped(self, text: str, start: int, end: int, line: Line) -> tuple[Line, int]:
        """Return a message that a mail or a terminal wrapped, whose further lines have no mark."""
        is_torn = self._is_torn(line.text)
        if not (is_torn or _is_wrapped(text, start, end)):
            return line, end + 1
        first = text[start:end]
        decoration = _decoration(first)
        glues = ("", " ") if is_torn or end - start in _TERMINALS else (" ", "")
        parts, ends = [line.text], [end]
        while (
            len(parts) < _WRAPPED_LINES and end + 1 < len(text) and (is_torn or _is_wrapped(text, start, end))
        ):
            start, end = end + 1, line_end(text, end + 1)
            more = text[start : min(end, start + _FIELD_LIMIT)].rstrip("\r").removeprefix(decoration)
            self.cost += len(more) + _FURTHER_COST
            if not more.strip() or has_mark(more):
                break
            if find_message(more) >= 0 and (not line.is_marked or is_whole(line.text.strip())):
                break
            if ")" in more and parse_kill(line.text.rstrip()) is not None:
                break  # the name ends in the first line
            parts.append(more)
            ends.append(end)
            is_torn = is_torn and self._is_torn(" ".join(parts))
        if len(parts) > 1 and not is_row(line.text):
            for count in range(len(parts), 1, -1):
                for glue in glues:
                    whole = glue.join([one.strip() if glue else one for one in parts[:count]])
                    whole = without_ending(whole, first[: line.indent])
                    self.cost += len(whole)
                    if self._is_whole(whole):
                        return line._replace(text=whole), ends[count - 1] + 1
        return line, ends[0] + 1

    def _is_torn(self, text: str) -> bool:
        """Return whether a text is a row of a table, or its heading, that ends before the last column."""
        if "total_vm" in text:
            return text.startswith("[") and not is_row(text)
        return self._row is not None and _TORN_ROW.fullmatch(text) is not None

    def _is_whole(self, text: str) -> bool:
        """Return whether a text is one of the messages about a kill, or has what its heading says."""
        if self._row is not None and _IN_ROW.match(text) is not None:
            return self._row.fullmatch(text) is not None
        return is_whole(text)

    def _entry(self, text: str, start: int) -> Line | None:
        """Return the message of an entry that has a line for each field."""
        begin = end = start
        for _ in range(_MESSAGE_LINES):
            before = line_start(text, begin - 1, max(begin - _MESSAGE_LIMIT, 0))
            head = text[before : max(begin - 1, 0)]
            if begin == 0 or not is_field(head) or head.endswith(": {"):
                break
            if is_in_entry(head):
                return None  # an entry has one message: this line is of its text
            begin = before
        else:
            self.cost += (start - begin) * 2
            return None  # where it begins is not known, and so not which lines are fields
        own, first = (text[at : at + _FIELD_LIMIT] for at in (start, begin))
        indent = len(first) - len(first.lstrip())
        if len(own) - len(own.lstrip()) != indent:
            return None  # a line of a field's text
        for _ in range(_MESSAGE_LINES):
            end = line_end(text, end) + 1
            field = text[end : end + _FIELD_LIMIT]
            if end >= len(text) or not is_field(field):
                break
            if is_in_entry(field) and len(field) - len(field.lstrip()) == indent:
                return None  # programs may write several messages, the kernel does not
        self.cost += (end - begin) * 2
        return split_entry(head, text[begin:end].split("\n"), indent)

    def _take_unmarked(self, text: str, start: int, end: int, raw: str) -> Line | Why:
        """Return the message of a line without a mark, or why it is not the kernel's."""
        at, name_end = find_message(raw), raw.find(INVOKED, 0, _FIELD_LIMIT)
        before = at if at >= 0 else min(len(raw), _FIELD_LIMIT)
        self.cost += _UNMARKED_COST + (before and _PREFIX_COST + before * _CHARACTER_COST)
        line = unmarked_line(raw, max(at, 0))
        if line is None:
            return "another program"
        if self._is_bare_among_marked(text, start):
            return "no message of its own"
        if at == 0:
            return line
        if 0 <= name_end < at:
            self.cost += _CHARACTER_COST * _FIELD_LIMIT
            return unmarked_line(raw, _name_start(text, end, raw, name_end)) or "another program"
        if at < 0:
            return "unknown form"
        if is_decoration(raw[:at]) or self._is_shared(text, start, end, shape_of(raw[:at])):
            return line
        return "unknown prefix"

    def _is_shared(self, text: str, start: int, end: int, shape: str) -> bool:
        """Return whether the previous or the next line begins alike."""
        if shape in self._shapes:
            return True
        self.cost += _FIELD_LIMIT
        before = text[line_start(text, start - 1, max(start - LINE_LIMIT, 0)) : max(start - 1, 0)]
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
        run, last = self._runs.get(line.host), self._last
        self._last = (start + len(raw) + 1, line.host)
        if run is not None and run[0] == stamp[0]:
            return run[1]
        first = None
        if run is None or last != (start, line.host):  # otherwise the line before has another time
            first, seen = _first_of_run(text, start, stamp[0], line.host, raw[: line.indent])
            self.cost += seen * _BACK_COST
        if len(self._runs) >= _HOSTS_LIMIT:
            self._runs.clear()
        is_forged = not begins_report(line.text if first is None else first)
        self._runs[line.host] = (stamp[0], is_forged)
        return first is not None and is_forged

    def _is_bare_among_marked(self, text: str, start: int) -> bool:
        """Return whether a line without a mark follows one that has it: some dmesg do not indent."""
        for found in _MARKED.finditer(text, max(self._searched, start - _BARE_LIMIT), start):
            self._marked = found.start()
        self._searched = start
        return start - self._marked < _BARE_LIMIT


def _is_wrapped(text: str, start: int, end: int) -> bool:
    """Return whether the next line may continue this one: its first word had no room in it."""
    if text.startswith(("[", "<"), end + 1) and text[start] in "[<":
        return False
    more = text[end + 1 : end + 1 + _WRAPPED_FROM].lstrip(">|\t")
    word = more.lstrip(" >|\t").partition(" ")[0].partition("\n")[0]
    if not word or end - start in _TERMINALS or word.startswith("total-vm:"):
        return bool(word)
    kept = len(more) - len(more.lstrip(" "))  # of the spaces in which the line was broken
    return end - start + kept + len(word) >= _WRAPPED_FROM


def _decoration(line: str) -> str:
    """Return what a mail or a table put in front of a line, and in front of what was broken off."""
    return line[: len(line) - len(line.lstrip(" >|\t"))]


_GREPS = {":": "-", "-": ":"}


def _name_start(text: str, end: int, raw: str, name_end: int) -> int:
    """Return the start of the name that ends there, after the prefix of further lines."""
    for _ in range(_WRAPPED_LINES):
        start, end = end + 1, line_end(text, end + 1)
        below = text[start : min(end, start + _FIELD_LIMIT)]
        found = find_message(below)
        if found < 0 or INVOKED in below:
            continue
        prefix = below[:found]
        shape = shape_of(prefix)
        near = range(max(len(prefix) - _NUMBER_WIDTHS, 0), min(len(prefix) + _NUMBER_WIDTHS, name_end) + 1)
        for at in sorted(near, key=lambda at: abs(at - len(prefix))):
            if shape_of(raw[:at]) == shape and raw[:at][-1:] in (prefix[-1:], *_GREPS.get(prefix[-1:], ())):
                return at
        break
    return len(raw[:name_end]) - len(raw[:name_end].lstrip(" >|\t"))


def _further_end(text: str, at: int, indent: str) -> int:
    """Return where the lines with this indentation end."""
    while text.startswith(indent, at):
        at = line_end(text, at) + 1
    return min(at, len(text) + 1)


def _first_of_run(text: str, start: int, stamp: str, host: str, prefix: str) -> tuple[str | None, int]:
    """Return the first earlier line with this host and time, or None; and how many lines were read."""
    own, host_at, first = prefix.translate(DIGITS), prefix.find(host), -1
    others = seen = 0
    least = max(start - RUN_LIMIT, 0)
    while start > least and others < _OTHERS_LIMIT:
        seen += 1
        before = text.rfind("\n", least, start - 1) + 1 or least
        end = before + len(own)
        if not text.startswith(host, before + host_at) or text[before:end].translate(DIGITS) != own:
            others += 1
        elif text.find(stamp, before, end) < 0:
            break  # another message of the same host
        else:
            first, others = before, 0
        start = before
    if first < 0:
        return None, seen
    line = split_line(text[first : min(text.find("\n", first), first + LINE_LIMIT)])
    return "" if line is None else line.text, seen


def line_start(text: str, place: int, least: int) -> int:
    """Return where the line that includes `place` begins; a line begins at `least`."""
    return max(text.rfind("\n", least, place) + 1, least)


def line_end(text: str, place: int) -> int:
    """Return where the line that includes `place` ends."""
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def lines_with(pattern: re.Pattern[str], text: str, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each line with a match where the line begins, where its first match ends, and its own end."""
    while (found := pattern.search(text, begin, end)) is not None:
        after = line_end(text, found.start())
        yield line_start(text, found.start(), begin), found.end(), after
        begin = after + 1
