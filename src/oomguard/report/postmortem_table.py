"""Reports of the OOM killer for people: one at length, or many in a table."""

from typing import TYPE_CHECKING

from rich.text import Text

from oomguard.core.postmortem import share
from oomguard.core.text import printable
from oomguard.report.postmortem import label, moment, prose, title, unranked
from oomguard.report.rank_table import WIDTH_OF_ALL, compact
from oomguard.report.tables import bar, console, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from oomguard.core.backtest import Replayed
    from oomguard.core.postmortem import Finding, Place
    from oomguard.report.postmortem import Told

_BAR_CELLS = 6
_NAME_CELLS = 20
_WHERE_CELLS = 26
_WIDTH_OF_BARS = 72


class Row(tuple[str, ...]):
    """A report as a line of the list of many: all that is kept of it."""


def print_told(told: "Told", *, limit: int, out: "Console | None" = None) -> None:
    """Print a report: first what happened in words, then who could have been taken."""
    out = console() if out is None else out
    out.print(title(told), style="bold")
    for paragraph in prose(told):
        out.print()
        out.print(paragraph)
    if told.finding.report.tasks:
        out.print()
        places = list(told.finding.ranked) or unranked(told.finding.report)
        killed = {kill.pid for kill in told.finding.report.kills}
        shown = [one for at, one in enumerate(places) if not limit or at < limit or one.task.pid in killed]
        out.print(task_table(told, shown, width=out.width))
        hidden = len(places) - len(shown)
        if hidden:
            out.print(f"and {hidden} more; --tasks 0 shows all")


def task_table(told: "Told", shown: "Iterable[Place]", *, width: int) -> "Table":
    """Return who could have been taken, the first victim first, for a screen of that many columns."""
    finding = told.finding
    replayed = {} if told.backtest is None else {one.place.task.pid: one for one in told.backtest.replayed}
    headings = ["", "PLACE", "NEW", "PID", "NAME", "UID", "MEMORY", "BAR", "VALUE", "SCORE", "RULE"]
    if not replayed:
        headings = [name for name in headings if name not in ("NEW", "RULE")]
    if width < (WIDTH_OF_ALL if replayed else _WIDTH_OF_BARS):
        headings.remove("BAR")  # the rule, and whole numbers, tell more
    if not finding.ranked:
        headings = [name for name in headings if name not in ("PLACE", "SCORE")]
    made = table(
        *["" if name == "BAR" else name for name in headings],
        right=("PLACE", "NEW", "PID", "UID", "MEMORY", "VALUE", "SCORE"),
    )
    made.collapse_padding = True
    for column in made.columns:
        column.no_wrap = column.header != "RULE"
        column.overflow = "ellipsis"
        column.max_width = _NAME_CELLS if column.header == "NAME" else None
    killed = {kill.pid for kill in finding.report.kills}
    worst = max((one.badness or 0 for one in finding.ranked), default=0)
    largest = max((one.pages for one in finding.ranked or unranked(finding.report)), default=0)
    for one in shown:
        cells = _cells(one, finding, replayed.get(one.task.pid))
        part, whole = (max(one.badness or 0, 0), worst) if finding.ranked else (one.pages, largest)
        row = ["†" if one.task.pid in killed else ""]
        cells["BAR"] = bar(part, whole, _BAR_CELLS)
        row += [cells[name] for name in headings[1:]]
        made.add_row(*row, style="bold red" if one.task.pid in killed else "")
    return made


def _cells(one: "Place", finding: "Finding", replayed: "Replayed | None") -> dict[str, str]:
    task = one.task
    cells = {
        "PLACE": "never" if one.place is None else str(one.place),
        "PID": str(task.pid),
        "NAME": printable(task.comm),
        "UID": str(task.uid),
        "MEMORY": compact(one.pages * finding.report.memory.page_kib),
        "VALUE": str(task.oom_score_adj),
        "SCORE": "" if one.badness is None else f"{share(one.badness, finding):.1%}",
        "NEW": "",
        "RULE": "",
    }
    if replayed is not None:
        values = sorted({verdict.value for verdict in replayed.verdicts})
        if values != [task.oom_score_adj]:
            cells["VALUE"] = f"{task.oom_score_adj}→{replayed.likely.value}{'?' if len(values) > 1 else ''}"
        cells["NEW"] = "never" if replayed.place.place is None else str(replayed.place.place)
        cells["RULE"] = "" if replayed.likely.rule is None else replayed.likely.rule.label
    return cells


def list_row(told: "Told") -> Row:
    """Return what the list of many reports says of one."""
    finding, report = told.finding, told.finding.report
    victim = report.victim
    place = finding.victim
    value = victim.oom_score_adj if victim is not None else None
    if value is None and place is not None:
        value = place.task.oom_score_adj
    where = {"memcg": _short(report.oom_memcg) or "a cgroup", "none": "the host", None: ""}.get(
        finding.constraint, str(finding.constraint)
    )
    return Row(
        (
            str(told.number),
            moment(report),
            printable(report.host),
            where,
            "none" if victim is None else label(victim),
            "" if len(report.kills) < 2 else f"+{len(report.kills) - 1}",
            "" if victim is None or victim.rss_kib is None else compact(victim.rss_kib),
            "" if value is None else str(value),
            _under_policy(told),
        )
    )


def _short(path: str) -> str:
    """Return the end of a cgroup's path, which tells most."""
    text = printable(path)
    return text if len(text) <= _WHERE_CELLS else f"…{text[1 - _WHERE_CELLS :]}"


def _under_policy(told: "Told") -> str:
    if not told.policy:
        return ""
    backtest = told.backtest
    if backtest is None:
        return "unknown"
    match backtest.result:
        case "same":
            return "the same"
        case "nobody":
            return "nobody"
        case "other":
            return label(backtest.victims[0].place.task)
        case "open":
            return f"{label(backtest.victims[0].place.task)}?"


def print_list(rows: "Sequence[Row]", *, has_policy: bool) -> None:
    """Print many reports, a line each."""
    headings = ["#", "WHEN", "HOST", "WHERE", "KILLED", "", "RAM", "VALUE", "UNDER POLICY"]
    has_hosts = len({row[2] for row in rows}) > 1
    shown = [
        at
        for at, name in enumerate(headings)
        if (name != "HOST" or has_hosts)
        and (name != "UNDER POLICY" or has_policy)
        and (name or any(row[at] for row in rows))
    ]
    made = table(*[headings[at] for at in shown], right=("#", "RAM", "VALUE"))
    made.collapse_padding = True
    for column, at in zip(made.columns, shown, strict=True):
        column.no_wrap = True
        column.overflow = "ellipsis"
        if headings[at] != "WHERE":  # the one that gives way where there is no room
            column.min_width = max(len(headings[at]), *(len(row[at]) for row in rows))
    for row in rows:
        made.add_row(*[Text(row[at]) for at in shown])
    console().print(made)
