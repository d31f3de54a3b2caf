"""A line of a kernel log without its prefix: time, host, program, and whatever people's tools add.

The kernel's messages reach people through /dev/kmsg, dmesg, syslog, journalctl, serial consoles, container
runtimes, mails and tables. Few prefixes are known by form: what counts is the mark next to the message, the
kernel's own time in brackets or the program `kernel:`. A line of another program is not the kernel's, even
if it mentions a kill. A line without a mark is split where the kernel's words begin (`find_message`).
"""

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.oom.kmsg import parse_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Line(NamedTuple):
    """A message of the kernel. `when` is the wall clock as written, "" if it is missing.

    `indent` is the width of the prefix: further lines of the message are indented by it. `is_marked` is
    whether something next to the message shows that it is the kernel's, and where it begins.
    """

    text: str
    when: str = ""
    uptime_seconds: float | None = None
    host: str = ""
    indent: int = 0
    is_marked: bool = True


# Every quantifier is bounded: users choose much of a log.
_STAMP = r"\[[^][\n]{0,40}\d[.:]\d[^][\n]{0,30}\]"
"""A time in any form and language: of uptime, of dmesg -T, -e or -d."""
_TAG = r"ernel(?:\[\d{1,10}\])?(?::|[ ]-[ ]-[ ](?:-|(?:\[[^]\n]{0,200}\]){1,8}))"
"""The program in syslog; RFC 5424 has three more fields instead of a colon."""
_MARK = re.compile(rf"(?:k(?<![\w./@-]k){_TAG}|K(?<![\w./@-]K){_TAG}|{_STAMP}:?)[ ]?")
_NEXT = re.compile(rf"(?:\[[ ]*[CT]\d{{1,10}}\]|{_STAMP}:?|(?P<host>[^\s:]{{1,255}}[ ])?[Kk]{_TAG})[ ]?")
_PREFIX_LIMIT = 400
_UPTIME = re.compile(r"\[[ ]*(\d{1,12}\.\d{1,9})[] ]")

_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_ISO = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[ ]?[+-]\d\d:?\d\d)?"
_LETTERS = r"[^\W\d_]{1,9}"
_DAY = rf"\d{{0,2}}{_LETTERS}\.?[ ]{{1,2}}\d{{1,2}}|\d{{1,2}}\.?[ ]{_LETTERS}\.?"
"""A month and a day in any language, in any order."""
_WHEN = re.compile(
    rf"(?<!\w)(?:{_LETTERS}[ ]{_ISO}(?:[ ][A-Z+-][\w/+-]{{0,9}}(?=[ ]))?|{_ISO}"
    rf"|(?:{_LETTERS}[.,]?[ ]{{1,2}})?(?:{_DAY})[ ](?:\d{{4}}[ ])?{_CLOCK}(?:[ ]\d{{4}}(?![\w:.-]))?"
    r"|\d{9,10}\.\d{1,9}(?![\w.]))"
)
_PRIORITY = re.compile(r"[\s>|]{0,20}<(\d{1,3})>")
_LEVELS = "emerg|alert|crit|err|warn|notice|info|debug"
_FACILITY = re.compile(rf"\b([a-z]{{2,8}}\d?)[ ]{{0,6}}[.:][ ]?(?:{_LEVELS})[a-z]{{0,4}}\b")
_SOMEBODYS = re.compile(
    rf"[^\s:]\[\d{{1,10}}\]:[ ]"
    rf"|{_CLOCK}\S{{0,9}}(?:[ ]\d{{4}})?[ ]{{1,2}}(?:\S{{1,255}}[ ])?[^\s:[]{{1,255}}:[ ]"
)
"""A program and its pid, or a time, a host and a program, as in syslog."""
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")
_DECORATION = re.compile(r"(?:[\s>|]|\d{1,9}[:-]|<\d{1,3}>|std(?:out|err) [FP] )*")
"""What mails, tables, `grep -n`, `dmesg -r` and container runtimes add."""
_NOT_IN_HOSTS = re.compile(r"[<>{}=\"']")

_MICRO = 1_000_000
_NOT_KERN = 8
"""From this priority on, the facility is not kern."""


def split_line(line: str) -> Line | None:
    """Split a line of any kernel log; None if it is not the kernel's.

    A line without a mark may be the kernel's: somebody may have removed the prefixes.
    """
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    start = line.lstrip("\x1e \t\ufeff")
    if start.startswith(("{", "data: {")):
        return _split_json(start.removeprefix("data: "))
    if start[:1].isdigit() and ";" in start:
        record = parse_record(start)
        if record is not None:
            if not record.is_kernels:
                return None
            return Line(record.text, uptime_seconds=record.uptime_us / _MICRO)
    mark = _MARK.search(line, 0, _PREFIX_LIMIT)
    outer = "" if mark is None else line[: mark.start()]
    if mark is None or "(" in outer or "task=" in outer:  # a name may look like a mark
        return Line(line, is_marked=False)
    if outer and _is_others(outer):
        return None
    end, host = mark.end(), ""
    while (further := _NEXT.match(line, end)) is not None:
        host = further["host"] or host
        end = further.end()
    when, uptime = _WHEN.search(line, 0, end), _UPTIME.search(line, mark.start(), end)
    text = line[end:]
    if outer and ('"' in outer or "|" in outer):
        text = _without_ending(text, outer)
    if "#0" in text:
        text = text.replace("#012", "\n")  # rsyslog's newline
    return Line(
        text,
        "" if when is None else when[0],
        None if uptime is None else float(uptime[1]),
        host.rstrip() or (_host(outer, when, is_next=line[mark.start()] != "[") if outer else ""),
        end,
    )


def seconds_between(one: Line, other: Line) -> float | None:
    """Return how much later the other line is, by the clock that says more; None if there is none."""
    by_clock = _clock_between(one, other)
    if one.uptime_seconds is None or other.uptime_seconds is None:
        return by_clock
    return max(other.uptime_seconds - one.uptime_seconds, by_clock or 0.0, key=abs)


def _clock_between(one: Line, other: Line) -> float | None:
    if one.when == other.when:
        return 0.0 if one.when else None
    times = [moment_of(line.when) for line in (one, other)]
    if times[0] is not None and times[1] is not None:
        return times[1] - times[0]
    first, second = _TIME.search(one.when), _TIME.search(other.when)
    if first is None or second is None:
        return None
    days = 0 if _date(one.when, first) == _date(other.when, second) else 86400
    clocks = [int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]) for found in (first, second)]
    return clocks[1] - clocks[0] + days


def moment_of(when: str) -> float | None:
    """Return a time in seconds since 1970; None if only people can read it, or it has no zone."""
    try:
        return float(when)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(when.replace(",", ".")).replace(tzinfo=None).timestamp()
    except (ValueError, OverflowError):
        return None


_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:[.,]\d{1,9})?")


def _date(when: str, clock: "re.Match[str]") -> str:
    return when[: clock.start()] + when[clock.end() :]


def has_mark(line: str) -> bool:
    """Return whether a line begins a message by itself, which no further line of a message does."""
    return _MARK.search(line, 0, _PREFIX_LIMIT) is not None


def _is_others(outer: str) -> bool:
    """Return whether a program, not the kernel, wrote the line with this prefix."""
    if "<" in outer:
        priority = _PRIORITY.match(outer)
        if priority is not None and int(priority[1]) >= _NOT_KERN:
            return True  # a program wrote it to /dev/kmsg
    last = outer.rstrip().rpartition(" ")[2]
    if "." in last and last.partition(".")[0] in _FACILITIES:  # BusyBox
        return True
    if ": " not in outer:
        return False
    facility = _FACILITY.search(outer)
    is_programs = facility is not None and facility[1] in _FACILITIES
    return is_programs or _SOMEBODYS.search(outer) is not None


_FACILITIES = frozenset(
    ["user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
    + [f"local{number}" for number in range(8)]
)


def _host(outer: str, when: "re.Match[str] | None", *, is_next: bool) -> str:
    """Return the host in a prefix: what stands before `kernel:`, or the only word that is nothing else."""
    rest = outer if when is None else f"{outer[: when.start()]} {outer[when.end() :]}"
    words = rest.replace("|", " ").split()
    if is_next and words and _is_name(words[-1]):
        return words[-1]
    words = [word for word in words if _is_name(word)]
    return words[-1] if words and (is_next or len(words) == 1) else ""


def _is_name(word: str) -> bool:
    return not (
        word.isdecimal() or word[-1] in ":>" or word.startswith("kern.") or _NOT_IN_HOSTS.search(word)
    )


def _without_ending(text: str, outer: str) -> str:
    """Return the message without what closes a quotation or a table that the prefix opened."""
    if '"' in outer:
        text = text.rpartition('"')[0] or text
    if "|" in outer:
        text = text.rstrip(" \t|")
    return text


# Without a mark


_WORDS = re.compile(
    r"Out of [mM]emory(?::? [KO\(]|: kill| and no killable)|Memory cgroup out of memory: [KO]"
    r"|No available memory (?:in|\()|mem_cgroup_o\w{1,40}\+0x|pagefault_o\w{1,20}\+0x|[A-Z]\w{2,9} free:\d"
    r"|[Kk]ill(?:ed)? process \d|oom-kill:constraint=|oom-killer: gfp_mask=|Kernel panic - not syncing: "
    r"|CPU: \d{1,6} (?:UID: \d{1,10} )?PID: |P[Ii][Dd]: \d{1,10}, [Cc]omm: |Call Trace:|Hardware name: "
    r"|Mem-[Ii]nfo:|Node \d{1,5} \w|(?:Free|Total) swap|\d{1,20} (?:pages |reserved pages)"
    r"|(?:slab_|in)?[Aa]ctive(?:_[a-z]{1,9})?:\d|(?:free|slab_\w{1,20}|mapped):\d"
    r"|(?:memory|memory\+swap|swap|kmem): usage |Tasks? (?:in /|state )|OOM victim |oom_[a-z_]{1,30}: "
    r"|\[ {0,9}pid {0,4}\] |\[ {0,9}\d{1,10}\] {1,9}\d|__vm_enough_memory: "
)
"""How the lines of a report begin."""


def find_message(line: str) -> int:
    """Return where the kernel's words begin in a line without a mark; -1 if it has none.

    Of `NAME invoked oom-killer: …`, where the name ends: names begin like any other text.
    """
    found = _WORDS.search(line, 0, _PREFIX_LIMIT)
    return -1 if found is None else found.start()


def is_decoration(prefix: str) -> bool:
    """Return whether a prefix is only what mails, tables and grep add, or the time of dmesg --time-format."""
    return _DECORATION.fullmatch(_WHEN.sub("", prefix, count=1) if prefix[-1:] == " " else prefix) is not None


def unmarked_line(line: str, start: int) -> Line | None:
    """Return the message that begins at `start`; None if the prefix shows that another program wrote it."""
    if not start:
        return Line(line, is_marked=False)
    outer = line[:start]
    if _is_others(outer):
        return None
    when = _WHEN.search(outer)
    host = _host(outer, when, is_next=False)
    text = _without_ending(line[start:], outer)
    return Line(text, "" if when is None else when[0], host=host, indent=start, is_marked=False)


def shape_of(prefix: str) -> str:
    """Return a prefix with its numbers and spaces made equal: the same for all lines of a host in a log."""
    return _SPACES.sub(" ", _NUMBERS.sub("0", prefix)).rstrip()


_NUMBERS, _SPACES = re.compile(r"\d+"), re.compile(r"\s+")


# Lines of other programs


_PROGRAM = re.compile(r"(?<![^\s|\]>])(\[talos\]|[A-Za-z][\w.@-]{0,60}(?:\[\d{1,10}\])?:) ")


def split_any(line: str) -> tuple[str | None, Line] | None:
    """Return which program wrote a line, and its message; None for what is no line of a program.

    The program is None if the line does not say: a program's own log has no name in it. In the journal it is
    the unit.
    """
    if line.lstrip("\x1e \t").startswith(("{", "data: {")):
        return _journal_any(line)
    when, found = _WHEN.search(line, 0, _PREFIX_LIMIT), None
    start = 0 if when is None else when.end()
    found = _PROGRAM.search(line, start, _PREFIX_LIMIT)
    if found is None:
        start += len(line[start:]) - len(line[start:].lstrip(" >|\t"))
        return None, Line(line[start:], "" if when is None else when[0])
    program = found[1].strip("[]:").partition("[")[0]
    host = line[start : found.start()].split()
    text = line[found.end() :]
    return program, Line(text, "" if when is None else when[0], host=host[0] if len(host) == 1 else "")


def _journal_any(line: str) -> tuple[str | None, Line] | None:
    try:
        entry = json.loads(line.lstrip("\x1e \t").removeprefix("data: "))
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("MESSAGE"), str):
        return None
    found = _split_journal(entry | {"_TRANSPORT": "kernel"})
    program = (
        "systemd"
        if entry.get("_PID") == "1"
        else _string(entry.get("_SYSTEMD_UNIT")).removesuffix(".service")
    )
    return None if found is None else (program, found)


# Entries of the journal, and other logs in JSON


def is_in_entry(line: str) -> bool:
    """Return whether a line is the message of an entry whose fields have a line each (`split_entry`)."""
    return _MESSAGE_FIELD.match(line) is not None


_MESSAGE_FIELD = re.compile(r"""[ \t]{0,40}(?:MESSAGE=|"(?:MESSAGE|msg)" ?: )""")
_FIELD = re.compile(
    r'[ \t]{0,40}(?:"(?P<key>[A-Za-z_]\w{0,63})" ?: {1,9}(?P<json>[^ ].*)'
    r"|(?P<name>[A-Z_][A-Z0-9_]{0,63})=(?P<text>.*))"
)


def is_field(line: str) -> bool:
    """Return whether a line is a field of such an entry."""
    return _FIELD.match(line) is not None


def split_entry(head: str, lines: "Iterable[str]", indent: int) -> Line | None:
    """Split an entry of journalctl -o export, verbose or json-pretty, or of dmesg -J.

    `head` is the line before its fields. Lines with another indent continue a field: users choose them.
    None if it is not the kernel's.
    """
    entry: dict[str, Any] = {}
    for line in lines:
        field = _FIELD.match(line.rstrip("\r"))
        if field is None or len(line) - len(line.lstrip()) != indent:
            continue
        if field["name"] is not None:
            entry[field["name"]] = field["text"]
        else:
            try:
                entry[field["key"]] = json.loads(field["json"].rstrip(", "))
            except (ValueError, RecursionError):
                return None
    if "MESSAGE" in entry:
        found, when = _split_journal(entry), _WHEN.search(head)
        return found if found is None or found.when or when is None else found._replace(when=when[0])
    priority, uptime = entry.get("pri", 0), entry.get("time")
    if not isinstance(priority, int) or priority >= _NOT_KERN or not isinstance(entry.get("msg"), str):
        return None
    return Line(entry["msg"], uptime_seconds=uptime if isinstance(uptime, float) else None)


def _split_json(line: str) -> Line | None:
    """Split an entry of `journalctl -o json`, or of a log whose entries are JSON in any form."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    if "MESSAGE" in entry:
        return _split_journal(entry)
    for text in _strings(entry, _JSON_DEPTH):
        found = _split_string(text.rstrip("\n"))
        if found is not None:
            when = next((value for key in _TIME_KEYS if isinstance(value := entry.get(key), str)), "")
            return found._replace(when=found.when or when, indent=0, is_marked=True)
    return None


_JSON_DEPTH = 3
_TIME_KEYS = ("time", "timestamp", "@timestamp", "ts")


def _strings(value: object, depth: int) -> "Iterator[str]":
    """Yield the strings in a value of JSON, not deeper than that."""
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one, depth - 1)


def _split_string(text: str) -> Line | None:
    line = split_line(text) if not text.startswith("{") else None
    if line is None or line.is_marked:
        return line
    start = find_message(text)
    if " invoked oom-killer: " in text:
        return line
    return unmarked_line(text, start) if start >= 0 and is_decoration(text[:start]) else None


def _split_journal(entry: "Mapping[str, Any]") -> Line | None:
    if entry.get("_TRANSPORT", "kernel") != "kernel":
        return None  # anybody can write to the journal
    message = entry["MESSAGE"]
    if isinstance(message, list):  # what is not printable is there as bytes
        try:
            message = bytes(message).decode("utf-8", "surrogateescape")
        except (TypeError, ValueError):
            return None
    if not isinstance(message, str):
        return None
    uptime = _micros(entry.get("_SOURCE_MONOTONIC_TIMESTAMP"))
    realtime = _micros(entry.get("__REALTIME_TIMESTAMP"))
    return Line(
        message,
        "" if realtime is None else f"{realtime / _MICRO:.6f}",
        None if uptime is None else uptime / _MICRO,
        _string(entry.get("_HOSTNAME")),
    )


def _micros(value: object) -> int | None:
    text = value if isinstance(value, str) else ""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 20 else None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
