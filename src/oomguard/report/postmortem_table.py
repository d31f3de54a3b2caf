"""Reports of the OOM killer for people: one in detail, or many in a table."""

import re
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oomguard.core.text import counted, legible, printable
from oomguard.oom.backtest import Replayed
from oomguard.oom.kill import Kill
from oomguard.oom.log_messages import Why
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import Finding, Place, share_of
from oomguard.oom.report import Report
from oomguard.report.cgroup_title import cgroup_title
from oomguard.report.postmortem import (
    Incident,
    brief,
    candidates,
    circumstances,
    facts,
    headline,
    killed_by_other,
    label,
    left_out,
    listed,
    paths,
    short_moment,
    value_of,
    value_of_victim,
)
from oomguard.report.rank_table import (
    NAME_CELLS,
    WIDTH_OF_ALL,
    WIDTH_OF_USERS,
    compact,
    cut,
    fitting,
    order_table,
)
from oomguard.report.tables import bar, console, dense_table

_AMOUNT = re.compile(r"(\d) ([KMGT]iB|s|more)\b")
_LEAST_CELLS = 8
_WIDTH_OF_BARS = 72


class ListRow(tuple[str, ...]):
    """A report as a line of the list of many: all that is kept of it."""


def print_incident(incident: Incident, *, limit: int, out: Console, is_brief: bool = False) -> None:
    """Print a report: what happened and why in words, and then the candidates in a table.

    One that is only the line of a kill is two lines if `is_brief`: there may be hundred thousands.
    """
    finding = incident.finding
    bold = "\x1b[1m{}\x1b[0m" if out.color_system else "{}"
    parts = _parts(incident, out.width, bold, is_brief=is_brief and finding.is_bare)
    out.file.write("\n".join([*parts, ""]))  # rich takes ten times as long
    if finding.report.tasks:
        out.print()
        shown, hidden = listed(incident, limit)
        out.print(task_table(incident, shown, width=out.width))
        if hidden:
            out.print(f"and {hidden} more; --tasks 0 shows all")


def _parts(incident: Incident, width: int, bold: str, *, is_brief: bool) -> Iterator[str]:
    """Yield which process was killed and why, when and where, and the rest as a list."""
    report, number = incident.finding.report, f"#{incident.number}  "
    yield _hanging(number, headline(incident.finding), width, bold, bold)
    if where := brief(incident) if is_brief else circumstances(report):
        yield _hanging(" " * len(number), where, width)
    found, of_paths = [] if is_brief else [*facts(incident)], [*paths(report)]
    if not found and not of_paths:
        return
    yield ""
    indent = max(len(fact.label) for fact in (*found, *of_paths)) + 2
    for fact in found:
        yield _hanging(f"{fact.label:<{indent}}", fact.text, width, bold)
    for fact in of_paths:  # whole, so that it can be copied
        between = " " * (indent - len(fact.label)) if indent + len(fact.text) <= width else "\n"
        yield f"{bold.format(fact.label)}{between}{fact.text}"


def _hanging(first: str, text: str, width: int, label: str = "{}", style: str = "{}") -> str:
    """Return text in lines to the right of and below a label, unbroken between a number and its unit."""
    if len(first) + len(text) <= width:
        return label.format(first) + style.format(text)
    lines = _broken(_AMOUNT.sub("\\1\xa0\\2", text), max(width - len(first), 1))
    between = "\n" + " " * len(first)
    return label.format(first) + between.join(style.format(line.replace("\xa0", " ")) for line in lines)


def _broken(text: str, width: int) -> Iterator[str]:
    """Yield text in lines of at most that width, broken at spaces if there are any."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
        while len(line) > width:
            yield line[:width]
            line = line[width:]
    if line:
        yield line


def task_table(incident: Incident, shown: Iterable[Place], *, width: int) -> Table:
    """Return the candidates, the first in kill order first, for a screen of that many columns."""
    finding = incident.finding
    replayed = incident.replayed
    headings = ["", "NOW", "NEW", "PID", "NAME", "UID", "MEMORY", "BAR", "VALUE", "SCORE", "RULE"]
    if not replayed:
        headings = [name for name in headings if name not in ("NEW", "RULE")]
    if width < (WIDTH_OF_ALL if replayed else _WIDTH_OF_BARS):
        headings.remove("BAR")  # the rule and whole numbers matter more
    left_out = set()
    if replayed and width < WIDTH_OF_ALL:
        left_out = {"SCORE"} if width >= WIDTH_OF_USERS else {"SCORE", "UID", "RULE"}
    if finding.total_pages is None:
        left_out.add("SCORE")
    if not finding.ranked:
        left_out |= {"NOW", "SCORE"}
    headings = [name for name in headings if name not in left_out]
    killed = {kill.pid for kill in finding.report.kills}
    worst = max((one.badness or 0 for one in finding.ranked), default=0)
    largest = max((one.pages for one in candidates(finding)), default=0)
    rows = []
    for one in shown:
        cells = _cells(one, finding, replayed.get(one.task.pid))
        part, whole = (max(one.badness or 0, 0), worst) if finding.ranked else (one.pages, largest)
        rows.append(cells | {"": "†" if one.task.pid in killed else "", "BAR": bar(part, whole)})
    headings, name_cells = fitting(headings, rows, width)
    made = order_table(["" if name == "BAR" else name for name in headings], name_cells)
    for cells in rows:
        row = [cut(cells[name]) if name == "RULE" else cells[name] for name in headings]
        made.add_row(*row, style="bold red" if cells[""] else "")
    return made


def _cells(one: Place, finding: Finding, replayed: Replayed | None) -> dict[str, str]:
    task, share = one.task, share_of(one, finding)
    cells = {
        "NOW": "never" if one.place is None else str(one.place),
        "PID": str(task.pid),
        "NAME": printable(task.comm),
        "UID": str(task.uid),
        "MEMORY": compact(one.pages * finding.report.memory.page_kib),
        "VALUE": value_of(task, replayed),
        "SCORE": "" if share is None else f"{share:.1%}",
        "NEW": "",
        "RULE": "",
    }
    if replayed is not None:
        cells["NEW"] = "never" if replayed.place.place is None else str(replayed.place.place)
        cells["RULE"] = "" if replayed.likely.rule is None else replayed.likely.rule.label
    return cells


def print_left_out(log: OomLog) -> None:
    """Print what in the log is in no report: kills, refused allocations, and lines that were skipped."""
    count, lines = log.unread.count, log.unread.lines[:_UNREAD]
    if count:
        print(f"\n{counted(count, 'line')} about {'a kill' if count == 1 else 'kills'} could not be used:")
    for line in lines:
        print(f"  line {line.number}: {_WHY_UNREAD[line.why]}\n    {legible(line.text)}")
    if count > len(lines):
        print(f"  and {count - len(lines)} more")
    for sentence in left_out(log):
        print(f"\n{sentence}")


_UNREAD = 10
_WHY_UNREAD: dict[Why, str] = {
    "another program": "another program wrote it",
    "no message of its own": "it may be part of another message, which a user can forge",
    "unknown prefix": "the lines around it have another prefix",
    "unknown form": "no known kernel prints such a line",
    "no kill before": "the line about the kill, which comes before it, is missing",
    "words about a kill": "it speaks of a kill, but is no report",
}


def list_row(incident: Incident) -> ListRow:
    """Return what the list of many reports shows of one."""
    finding, report = incident.finding, incident.finding.report
    victim = report.victim
    value = None if victim is None else value_of_victim(finding)
    if report.other is not None:
        killed = killed_by_other(report.other)
        where = "the kernel" if report.other.is_kernels else report.other.by
        where = f"{where}?" if report.other.or_by else where
        host = printable(report.host)
        return ListRow((str(incident.number), short_moment(report), killed, "", "", where, host, ""))
    where = {"memcg": cgroup_title(report.oom_memcg) or "a cgroup", "none": "the host", None: ""}.get(
        finding.constraint, str(finding.constraint)
    )
    return ListRow(
        (
            str(incident.number),
            short_moment(report),
            _chosen(report) if victim is None else _killed(victim, len(report.kills) - 1),
            "" if victim is None or victim.rss_kib is None else compact(victim.rss_kib),
            "" if value is None else str(value),
            where,
            printable(report.host),
            _under_policy(incident),
        )
    )


def _chosen(report: Report) -> str:
    """Return what was chosen where the line about its kill is missing; `none` if the report says that."""
    if report.ending:
        return "none"
    return "unknown" if report.chosen is None else f"{label(report.chosen)}?"


def _killed(victim: Kill, others: int) -> str:
    comm = printable(victim.comm)
    comm = comm if len(comm) <= NAME_CELLS else f"{comm[: NAME_CELLS - 1]}…"
    return f"{comm}[{victim.pid}]{f' +{others}' if others else ''}"


def _under_policy(incident: Incident) -> str:
    if not incident.policy:
        return ""
    backtest = incident.backtest
    if backtest is None:
        return "unknown"
    match backtest.result:
        case "same":
            return "same"
        case "nobody":
            return "none"
        case "other":
            return label(backtest.victims[0].place.task)
        case "open":
            return f"{label(backtest.victims[0].place.task)}?"


def print_list(rows: Sequence[ListRow], *, has_policy: bool) -> None:
    """Print many reports, one per line."""
    out = console()
    columns = list(zip(_HEADINGS, *rows, strict=True))
    if not has_policy:
        del columns[_HEADINGS.index("INSTEAD")]
    if len(set(columns[_HEADINGS.index("HOST")])) <= 2:  # the heading, and one host
        del columns[_HEADINGS.index("HOST")]
    widths = _fitting({cells[0]: max(map(cell_len, cells)) for cells in columns}, out.width)
    made = dense_table(*widths, right=("#", "RAM", "VALUE"))
    for column in made.columns:
        column.width = widths[str(column.header)]
    shown = [cells for cells in columns if cells[0] in widths]
    for at in range(len(rows)):
        made.add_row(*[_shortened(cells[at + 1], widths[cells[0]], cells[0]) for cells in shown])
    out.print(made)


_HEADINGS = ("#", "WHEN", "KILLED", "RAM", "VALUE", "WHERE", "HOST", "INSTEAD")


def _fitting(widths: dict[str, int], room: int) -> dict[str, int]:
    """Return the columns that fit, with their widths: HOST and WHERE give way, then the least important."""
    widths = dict(widths)
    for name in ("HOST", "WHERE", "VALUE", "WHEN"):
        excess = sum(widths.values()) + 2 * (len(widths) - 1) - room
        for flexible in ("HOST", "WHERE"):
            if excess > 0 and flexible in widths:
                given = min(excess, max(widths[flexible] - _LEAST_CELLS, 0))
                widths[flexible] -= given
                excess -= given
        if excess <= 0:
            break
        widths.pop(name, None)
    return widths


def _shortened(text: str, cells: int, heading: str) -> Text:
    """Return text of at most so many cells. Paths, and hosts of one kind, differ at their ends."""
    if cell_len(text) <= cells:
        return Text(text)
    if text[0] in "/…":
        return Text(f"…{text[1 - cells :]}")
    end = (cells - 1) // 2 if heading == "HOST" else 0
    if not end:
        return Text(f"{text[: cells - 1]}…")
    return Text(f"{text[: cells - 1 - end]}…{text[-end:]}")
