"""A line of a kernel log without its prefix: time, host, program, and whatever people's tools add.

The kernel's messages reach people through /dev/kmsg, dmesg, syslog, journalctl, serial consoles, container
runtimes, mails and tables. Few prefixes are known by form: what counts is the mark next to the message, the
kernel's own time in brackets or the program `kernel:`. A line of another program is not the kernel's, even
if it mentions a kill. A line without a mark is split where the kernel's words begin (`find_message`).
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from oomguard.core.cgroup import UNIT_SUFFIXES
from oomguard.oom.kill import COMM_CHARACTERS, fits_comm


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
    is_log: bool = False
    """Whether the text is a log of several lines: a string in an entry of JSON."""


# Every quantifier is bounded: users choose much of a log.
_STAMP = r"\[[^][\n]{0,40}\d[.:]\d[^][\n]{0,30}\]"
"""A time in any form and language: of uptime, of dmesg -T, -e or -d."""
_TAG = r"ernel(?:\[0\])?(?::(?:[ ]:)?|[ ]\||[ ]-[ ]-[ ](?:-|(?:\[[^]\n]{0,200}\]){1,8}))"
"""The program in syslog; RFC 5424 has three more fields instead of a colon. With a pid, it is another's."""
_MARK = re.compile(rf"(?:k(?<![\w./@-]k){_TAG}|K(?<![\w./@-]K){_TAG}|{_STAMP}:?)[ \t]?")
_CALLER = (
    r"[ ]?\[[ ]*(?:[CT]\d{1,10}|\d{1,4}:[ ]{0,16}[^][:\n]{1,16}:[ ]{0,7}\d{1,7})\]"
    r"|(?:<\d>)?[ ]?[.-]?\(\d{1,2}\)\[\d{1,7}:[^][:\n]{1,16}\]|<\d>"
)
"""The thread or CPU that printed the message; some vendors of phones add the name."""
_PREFIX_LIMIT = 400
_UPTIME = re.compile(r"\[[ ]*(\d{1,12}\.\d{1,9})[] ]")

_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
ISO = rf"\d{{4}}-\d\d-\d\d[T _]{_CLOCK}(?:Z|[ ]?[+-]\d\d:?\d\d)?"
_LETTERS = r"[^\W\d_]{1,9}"
_DAY = rf"\d{{0,2}}{_LETTERS}\.?[ ]{{1,2}}\d{{1,2}}|\d{{1,2}}\.?[ ]{_LETTERS}\.?"
"""A month and a day in any language, in any order."""
_NEXT = re.compile(
    rf"(?:{_CALLER}|[ ]?{_STAMP}:?"
    rf"|(?:[ ]?:\s{{1,4}})?(?:\[[\w /-]{{1,20}}\][ ]){{1,2}}(?=\[[ ]{{0,12}}\d{{1,12}}\.\d)"
    rf"|(?:(?:{ISO}|{_LETTERS}[ ]{{1,2}}\d{{1,2}}[ ]{_CLOCK})[ ])?"
    rf"(?P<host>[^\s:]{{1,255}}[ ])?[Kk]{_TAG})[ \t]?"
)
_CHAT = re.compile(
    r"[\s>|]{0,20}(?:\[(?:\d{1,2}[./]\d{1,2}[./]\d{2,4},? )?\d{1,2}:\d\d(?::\d\d)?(?: [AP]M)?\]"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}, \d{1,2}:\d\d(?: [AP]M)? -) ?(?!kernel\b)[^\W\d][^][:\n]{0,40}: "
)
"""A time as chats show it, and who wrote the line. The kernel's own times differ."""
WHEN = re.compile(
    rf"(?<!\w)(?:{_LETTERS}\d{{1,2}}[ ]\d\d:\d\d(?=\])"
    rf"|{_LETTERS}[ ]{ISO}(?:[ ][A-Z+-][\w/+-]{{0,9}}(?=[ ]))?|{ISO}"
    rf"|(?:{_LETTERS}[.,]?[ ]{{1,2}})?(?:{_DAY})[ ](?:\d{{4}}[ ])?{_CLOCK}(?:[ ]\d{{4}}(?![\w:.-]))?"
    r"|\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?[ ]\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:[ ][AP]M)?(?!\w)"
    rf"|\d{{9,10}}\.\d{{1,9}}(?![\w.])|{_CLOCK}(?![\w:.]))"
)
_PRIORITY = re.compile(r"[\s>|]{0,20}<(\d{1,3})>")
_LEVELS = "emerg|alert|crit|err|warn|notice|info|debug"
_FACILITY = re.compile(rf"\b([a-z]{{2,8}}\d?)[ ]{{0,6}}[.:][ ]?(?:{_LEVELS})[a-z]{{0,4}}\b")
_FIELDS = re.compile(r"\S - ")
"""RFC 5424: the kernel's program stands next to them."""
_SOMEBODYS = re.compile(
    rf"\S\[\d{{1,10}}\]:[ ]"
    rf"|{_CLOCK}\S{{0,9}}(?:[ ]\d{{4}})?[ ]{{1,2}}(?:\S{{1,255}}[ ])?[^\s:[]{{1,255}}:[ ]"
)
"""A program and its pid, or a time, a host and a program, as in syslog."""
_TERMINAL = re.compile(r"\x1b\[[0-9;]{0,20}[mK]")
_TERMINAL_LENGTH = 23
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“”", "‘": "’", "«": "»"}
_DECORATION = re.compile(
    rf"(?:[\s>|│*+=#;/•·–—{''.join(_QUOTES)}-]|\[[ x]?\]|<[\w@-]{{1,30}}>|std(?:out|err) [FP] "
    r"|\d{1,4}[./-]\d{1,2}(?:[./-]\d{1,4})?,? |\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: [AP]M)? "
    r"|\d{1,12}\.\d{1,9}\] |\d{1,6} +\d{1,6} [A-Z] {1,9}: |(?:message|textPayload): |\d{1,9}[:.)-]"
    r"|@[0-9a-f]{24} )*+"
)
"""What mails, chats, lists, comments, `grep -n`, `dmesg -r`, logcat and container runtimes add."""
_OPENING = frozenset("|│*").union(_QUOTES)
_TIMES = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_NOT_IN_HOSTS = re.compile(r"[][<>{}=\"']")

_UNUSUAL = dict.fromkeys("\xa0\u2009\u202f", " ") | dict.fromkeys("\u2011\u2212", "-")
_UNUSUAL |= dict.fromkeys("\xad\u200b\ufeff", "") | {"\ufb01": "fi", "\ufb02": "fl"}
"""Characters of web pages, editors and PDF files, and the usual ones in their place."""
NOT_KERN = 8
"""From this priority on, the facility is not the kernel's."""


def plain(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a log without colors, which `grep` puts within words, and with usual spaces and hyphens only."""
    rest = ""
    for block in blocks:
        text, rest = rest + block, ""
        if "\x1b" in text:
            last = text.rfind("\x1b", max(len(text) - _TERMINAL_LENGTH, 0))
            if last >= 0 and _TERMINAL.match(text, last) is None:
                text, rest = text[:last], text[last:]
            text = _TERMINAL.sub("", text)
        for character, usual in _UNUSUAL.items():
            text = text.replace(character, usual)
        yield text
    yield rest


def split_text(line: str) -> Line | None:
    """Split a line of any kernel log; None if it is not the kernel's.

    A line without a mark may be the kernel's: somebody may have removed the prefixes.
    """
    if "\x1b" in line:
        line = _TERMINAL.sub("", line)
    chat = _CHAT.match(line)
    start = 0 if chat is None else chat.end()
    mark = _MARK.search(line, start, _PREFIX_LIMIT)
    outer = "" if mark is None else line[: mark.start()]
    if mark is None or "(" in outer.replace("(none)", "") or "task=" in outer:  # a name may look like a mark
        return Line(line, is_marked=False)
    if outer and is_others(outer[start:]):
        return None
    end, host = mark.end(), ""
    while (further := _NEXT.match(line, end)) is not None:
        host = further["host"] or host
        end = further.end()
    uptime = _UPTIME.search(line, mark.start(), end)
    when = WHEN.search(line, 0, end) if outer or uptime is None else None
    text = line[end:]
    text = without_ending(text, outer) if outer else text
    if "#0" in text:
        text = text.replace("#012", "\n")  # rsyslog's newline
    return Line(
        text,
        "" if when is None else when[0],
        None if uptime is None else float(uptime[1]),
        host.rstrip() or (_host(outer, when, is_next=line[mark.start()] != "[") if outer else ""),
        end,
    )


def has_mark(line: str) -> bool:
    """Return whether a line begins a message by itself, which no further line of a message does."""
    return _MARK.search(line, 0, _PREFIX_LIMIT) is not None


def is_others(outer: str) -> bool:
    """Return whether a program, not the kernel, wrote the line with this prefix."""
    if "<" in outer:
        priority = _PRIORITY.match(outer)
        if priority is not None and int(priority[1]) >= NOT_KERN:
            return True  # a program wrote it to /dev/kmsg
    last = outer.rstrip().rpartition(" ")[2]
    if "." in last and last.partition(".")[0] in _FACILITIES:  # BusyBox
        return True
    if " - " in outer and _FIELDS.search(outer) is not None:
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


def _host(outer: str, when: re.Match[str] | None, *, is_next: bool) -> str:
    """Return the host in a prefix: what stands before `kernel:`, or the only word that is nothing else."""
    rest = outer if when is None else f"{outer[: when.start()]} {outer[when.end() :]}"
    words = [word for word in rest.replace("|", " ").split() if _is_name(word)]
    return words[-1] if words and (is_next or len(words) == 1) else ""


def _is_name(word: str) -> bool:
    return not (
        not word[0].isalnum()
        or word[-1] in ':>-"'
        or word.rstrip(".)").isdecimal()
        or _TIMES.fullmatch(word) is not None
        or word.startswith("kern.")
        or word in ("kern", "AM", "PM")
        or _NOT_IN_HOSTS.search(word)
    )


def without_ending(text: str, outer: str) -> str:
    """Return the message without what closes a quotation or a table that the prefix opened."""
    if not _OPENING.intersection(outer):
        return text
    if "|" in outer or "│" in outer:
        text = text.rstrip(" \t|│")
    if "**" in outer:
        text = text.rstrip().removesuffix("**")
    for quote, ends in _QUOTES.items():
        if quote in outer and outer.count(quote) % 2:
            at = max(map(text.rfind, ends))
            text = text[:at].rstrip(ends).removesuffix("\\n").removesuffix("\\r") if at > 0 else text
    return text


# Without a mark


_WORDS = re.compile(
    r"Out of [mM]emory(?::? [KO\(]|: kill| and no killable)|Memory cgroup out of memory: [KO]"
    r"|No available memory (?:in|\()|mem_cgroup_o\w{1,40}(?:\+0x| from )|pagefault_o\w{1,20}\+0x"
    r"|[A-Z]\w{2,9} free:\d|[Kk]ill(?:ed)? process \d|oom-kill:constraint=|oom-killer: gfp_mask="
    r"|(?:SysRq |sysrq): Manual OOM|(?<!\[ end )Kernel panic - not syncing: "
    r"|CPU: \d{1,6} (?:UID: \d{1,10} )?PID: |P[Ii][Dd]: \d{1,10}, [Cc]omm: |Call Trace:|Hardware name: "
    r"|Mem-[Ii]nfo:|Node \d{1,5} \w|(?:Free|Total) swap|\d{1,20} (?:pages |reserved pages)"
    r"|(?:slab_|in)?[Aa]ctive(?:_[a-z]{1,9})?:\d|(?:free|slab_\w{1,20}|mapped):\d"
    r"|(?:memory|memory\+swap|swap|kmem): usage |(?:shmem|slab_unreclaimable) \d|Memory cgroup st"
    r"|Tasks? (?:in /|state )|OOM victim |oom_[a-z_]{1,30}: "
    r"|\[ {0,9}pid {0,4}\] |\[ {0,9}[\doOIl|]{1,10}\] {1,9}\d|__vm_enough_memory: "
)
"""How the lines of a report begin."""


def begins_message(text: str) -> bool:
    """Return whether a text begins with the kernel's words."""
    return _WORDS.match(text) is not None


def find_message(line: str) -> int:
    """Return where the kernel's words begin in a line without a mark; -1 if it has none.

    Of `NAME invoked oom-killer: …`, where the name ends: names begin like any other text.
    """
    found = _WORDS.search(line, 0, _PREFIX_LIMIT)
    return -1 if found is None else found.start()


def is_decoration(prefix: str) -> bool:
    """Return whether a prefix is only what mails, tables and grep add, or the time of dmesg --time-format."""
    if "OOMKilling" in prefix.split():  # an event of Kubernetes
        return True
    return _DECORATION.fullmatch(WHEN.sub("", prefix, count=1) if prefix[-1:] == " " else prefix) is not None


def unmarked_line(line: str, start: int) -> Line | None:
    """Return the message that begins at `start`; None if the prefix shows that another program wrote it."""
    if not start:
        return Line(line, is_marked=False)
    outer = line[:start]
    if is_others(outer):
        return None
    when = WHEN.search(outer)
    host = _host(outer, when, is_next=False)
    text = without_ending(line[start:], outer)
    return Line(text, "" if when is None else when[0], host=host, indent=start, is_marked=False)


def shape_of(prefix: str) -> str:
    """Return a prefix with its numbers and spaces made equal: the same for all lines of a host in a log."""
    return _SPACES.sub(" ", _NUMBERS.sub("0", prefix)).rstrip()


_NUMBERS, _SPACES = re.compile(r"\d+(?:[:-](?!\d))?"), re.compile(r"\s+")
"""`grep -nC` has `12:` before what it found, and `13-` before the lines around it."""


def begins_report(text: str) -> bool:
    """Return whether a message is a line of a report, without anything in front."""
    at = text.find(INVOKED, 0, COMM_CHARACTERS + len(INVOKED))
    return fits_comm(text[:at]) if at >= 0 else _REPORT.match(text) is not None


INVOKED = " invoked oom-killer: "
_REPORT = re.compile(
    r"(?:[a-z_]{1,40}: \d{1,12} callbacks suppressed|(?:SysRq |sysrq): Manual OOM execution)\Z|oom-kill:"
    r"|Out of memory|Memory cgroup out of memory: |Kill|Tasks? |CPU: "
    r"|P(?:ID|id): | .{0,80}\+0x| </?TASK>| ?[a-z_]{1,40}:\d|[a-z_]{1,40} \d{1,20}\Z|\[ *(?:pid|\d+) *\] "
    r"|Mem-[Ii]nfo:|Node \d|\d{1,20} (?:total |(?:reserved )?pages)|(?:Free|Total) swap|lowmem_reserve"
    r"|Call Trace:|Code: |Hardware name: |[A-Z0-9]{3}: |Memory cgroup stats for "
    r"|(?:memory|memory\+swap|swap|kmem): usage "
)
"""How lines of a report begin. No name in them is long enough for a line break and a kill."""

# Lines of other programs


_PROGRAM = re.compile(r"(?<![^\s|\]>])(\[talos\]|[A-Za-z][\w.@-]{0,60}(?:\[\d{1,10}\]|[ ]{1,5}(?=: ))?:) ")
"""The name of a program, which logcat fills to eight characters."""


def split_program(line: str) -> tuple[str | None, Line] | None:
    """Return which program wrote a line, and its message; None for what is no line of a program.

    The program is None if the line does not say: a program's own log has no name in it.
    """
    time = WHEN.search(line, 0, _PREFIX_LIMIT)
    when, start = ("", 0) if time is None else (time[0], time.end())
    found = _PROGRAM.search(line, start, _PREFIX_LIMIT)
    if found is None:
        start += len(line[start:]) - len(line[start:].lstrip(" >|\t:"))
        return None, Line(line[start:], when)
    program = found[1].strip("[]: ").partition("[")[0]
    if program.endswith(UNIT_SUFFIXES):  # systemd's words without its name
        return None, Line(line[found.start() :], when)
    host = line[start : found.start()].split()
    is_host = len(host) == 1 and _is_name(host[0])
    return program, Line(line[found.end() :], when, host=host[0] if is_host else "")
