"""Lines of a report besides those about a kill: the header, what was chosen, the table, and what ended it."""

import re
from collections.abc import Callable

from oomguard.oom.kill import (
    COMM,
    COMM_CHARACTERS,
    fits_comm,
    is_within,
    parse_context,
    parse_group,
    parse_kill,
    parse_limit,
)
from oomguard.oom.log_line import INVOKED, begins_report
from oomguard.oom.report import Choice, Invoker, Task

_COLUMNS_LIMIT = 24
# At most one quantifier in each is unbounded. Names and paths are found by the fixed words around them.
_INVOKED = " invoked oom-killer: gfp_mask="
_HEADER = re.compile(
    r"(?P<gfp_mask>0x[0-9a-f]{1,16}(?:\([^)]{0,400}(?:\)|\Z))?)"
    r"(?:,? nodemask=(?:\(null\)|(?P<nodemask>[\d,-]{0,200}?)))?(?:,? {1,2}order=(?P<order>-?\d{1,4}))?"
    r"(?:,? oom_adj=-?\d{1,5}(?=,? oom_score_adj))?"  # 2.6.36 to 3.6 had both
    r"(?:,? (?:oom_score_adj|oom_adj|oomkilladj)=(?P<value>-?\d{1,5}))?"
    r"(?:,[ ]{0,2}(?:[a-z_]{0,15}=?[^,= ]{0,6}[>…]?)?)?"  # a mail or a screen may cut the rest
)
_CPU = re.compile(
    r"(?:CPU: \d{1,6} {1,4})?(?:UID: \d{1,10} {1,4})?P(?:ID|id): (?P<pid>\d{1,10}),? {1,4}[Cc]omm: "
)
CPU_LENGTH = 400
_KDUMP = re.compile(r" Kdump: loaded ?\Z")
_RELEASE = re.compile(r"\(?(\d{1,3}\.\d{1,5}\.\d{1,5}[^ )]{0,80})")
_CHOICE = re.compile(r"(?:(?P<message>[\w ()]{1,80}): )?[Kk]ill process (?P<pid>\d{1,10}) \(")
_SCORE = re.compile(r"(\d{1,20}) (?:or (?:sacrifice child|a child)|and children\.)\s*")
_PANIC = "Kernel panic - not syncing: "
_PANIC_ENDS = ("on memory", "processes", "enabled", "selected")
_EXITING = re.compile(r"(?:[\w ()]{1,80}: )?OOM victim \d{1,10} \(")
_COLUMNS = frozenset(
    "pid uid tgid total_vm rss rss_anon rss_file rss_shmem cpu "  # noqa: SIM905 - as in a heading
    "nr_ptes nr_pmds nr_puds pgtables_bytes swap swapents oom_adj oom_score_adj name".split()
)
"""Those that kernels have printed so far."""
_HAS_ROWS = ("uid", "tgid", "total_vm", "rss", "name")


def is_row(text: str) -> bool:
    """Return whether a text looks like a whole row of a task table, or its heading."""
    if not text.startswith("["):
        return False
    columns = parse_columns(text)
    return _COLUMNS.issuperset(columns) if columns else _ROW.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Return whether a text is one of the messages about a kill, to its end."""
    if is_row(text) or parse_kill(text, has_note=False) is not None:
        return True
    if is_panic(text):
        return text.rstrip(" .").endswith(_PANIC_ENDS)
    if INVOKED in text:
        return begins_report(text) and parse_header(text) is not None
    if (context := parse_context(text)) is not None:
        return is_within(context.task_memcg, context.oom_memcg)  # otherwise a path is torn
    if (limit := parse_limit(text)) is not None:
        return is_within(*limit)
    return any(parse(text) is not None for parse in (parse_choice, parse_group, parse_header))


_ROW = re.compile(r"\[ *\d{1,10}\](?: +-?\d{1,20}){6,16} [^\s\d].{0,60} *")


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns of a heading, () for another line."""
    columns = tuple(text.replace("[", " ").replace("]", " ").split())
    is_heading = len(columns) <= _COLUMNS_LIMIT and set(_HAS_ROWS).issubset(columns) and columns[-1] == "name"
    return columns if is_heading else ()


def row_pattern(columns: tuple[str, ...]) -> str:
    """Return the pattern of a row below that heading, with a group for each number and the name."""
    return r"\[ *(\d{1,10})\]" + r" +(-?\d{1,20})" * (len(columns) - 2) + rf" ({COMM} *)"


def parse_header(text: str) -> Invoker | None:
    """Parse `NAME invoked oom-killer: gfp_mask=…`, or without the name, of old kernels."""
    at = text.find(_INVOKED, 0, COMM_CHARACTERS + len(_INVOKED))
    start = len(_INVOKED) + at if at >= 0 else len("oom-killer: gfp_mask=")
    if at < 0 and not text.startswith("oom-killer: gfp_mask="):
        return None
    found = _HEADER.fullmatch(text.rstrip(), start)
    if found is None:
        return None
    order, value = found["order"], found["value"]
    comm = text[: max(at, 0)]
    if not fits_comm(comm):  # what stands in front of it is not known
        comm = ""
    return Invoker(
        comm,
        None,
        found["gfp_mask"],
        None if order is None else int(order),
        None if value is None else int(value),
        "oom_score_adj=" in text,
        found["nodemask"] or "",
    )


def parse_choice(text: str) -> Choice | None:
    """Parse `Out of memory: Kill process 7 (name) score 9 or sacrifice child`; None for any other line."""
    head = _CHOICE.match(text)
    marker = ") score "
    end = text.rfind(marker)
    if head is None or not head.end() <= end <= head.end() + COMM_CHARACTERS:
        return None
    comm, score = text[head.end() : end], _SCORE.fullmatch(text, end + len(marker))
    if score is None or not fits_comm(comm):
        return None
    return Choice(int(head["pid"]), comm, int(score[1]), head["message"] or "")


def is_panic(text: str) -> bool:
    """Return whether the kernel panicked because no memory was left."""
    return text.startswith(_PANIC) and any(
        words in text for words in ("out of memory", "Out of memory", "deadlocked on memory")
    )


def is_without_victim(text: str) -> bool:
    """Return whether the kernel found nothing to kill, or nothing more."""
    if text.startswith("Out of memory and no killable processes"):
        return True
    return _EXITING.match(text) is not None and ") is already exiting" in text


def take_cpu(fields: dict[str, object], text: str) -> None:
    """Add the kernel's release, which follows the last word about taint, and the pid of the invoker."""
    text = text[:CPU_LENGTH]
    head = _CPU.match(text)
    if head is None or "release" in fields:
        return
    taint = max(text.rfind("Not tainted"), text.rfind("Tainted: "), head.end())
    for word in text[taint:].split():
        release = _RELEASE.match(word)
        if release is not None:
            fields["release"] = release[1]
            invoker = fields.get("invoker")
            if isinstance(invoker, Invoker):
                comm = invoker.comm or _KDUMP.sub("", text[head.end() : taint]).removesuffix(" ")
                fields["invoker"] = invoker._replace(
                    pid=int(head["pid"]), comm=comm if fits_comm(comm) else ""
                )
            return


_NONE = -1
"""The place of a number that is 0 because the table has no such column."""


def task_maker(columns: tuple[str, ...], page_kib: int) -> Callable[[tuple[str, ...]], Task]:
    """Return what makes a task of a row with these columns (mm/oom_kill.c:dump_task of many years)."""
    at = {name: place for place, name in enumerate(columns)}
    uid, total_vm, rss = at.get("uid", 0), at["total_vm"], at["rss"]
    swap = at.get("swapents", at.get("swap", _NONE))
    value = at.get("oom_score_adj", at.get("oom_adj", _NONE))
    tables = [place for name, place in at.items() if name in ("nr_ptes", "nr_pmds", "nr_puds")]
    table_bytes, page_bytes = at.get("pgtables_bytes", _NONE), page_kib * 1024

    def make(fields: tuple[str, ...]) -> Task:
        numbers = [*map(int, fields[:-1]), 0]
        page_tables = numbers[table_bytes] // page_bytes + sum([numbers[place] for place in tables])
        comm = fields[-1].rstrip(" ")  # a terminal may have filled the line
        sizes = numbers[total_vm], numbers[rss], numbers[swap], page_tables
        return Task(numbers[0], numbers[uid], comm, *sizes, numbers[value])

    return make
