"""The journal's entries as a table."""

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from oomguard.report.cgroup_title import cgroup_title
from oomguard.report.log_entries import LoggedEntry, number
from oomguard.report.rank_table import compact
from oomguard.report.tables import NamesTable, dense_table

_STYLES = {"applied": "", "refused": "yellow", "denied": "red", "contended": "yellow", "killed": ""}


def history_table(entries: Sequence[LoggedEntry], *, width: int) -> Table:
    """Return the entries as a table: of changes, of kills, or of sentences if they are of several kinds.

    The cause of changes is left out where whole names need its room.
    """
    if all(entry.is_kill for entry in entries):
        return _made(entries, ("KILLED", "VALUE", "RAM", "OUT OF", "RULE"), _kill_cells)
    if not all(entry.is_adjustment for entry in entries):
        return _made(entries, ("EVENT", "WHAT"), lambda entry: (_event(entry), entry.message))
    made = _made(entries, ("EVENT", "WHAT", "FROM", "TO", "CAUSE", "BY"), _change_cells)
    made.leave_out(("CAUSE",), width)
    return made


def _made(
    entries: Sequence[LoggedEntry],
    columns: tuple[str, ...],
    cells: Callable[[LoggedEntry], tuple[str | Text, ...]],
) -> NamesTable:
    broken = ("KILLED", "OUT OF", "RULE", "WHAT", "CAUSE", "BY")
    made = dense_table("TIME", *columns, right=("FROM", "TO", "VALUE", "RAM"), broken=broken)
    for entry in entries:
        made.add_row(entry.time.strftime("%m-%d %H:%M:%S"), *cells(entry))
    return made


def _event(entry: LoggedEntry) -> Text:
    return Text(entry.event, style=_STYLES.get(entry.event, "dim"))


def _change_cells(entry: LoggedEntry) -> tuple[str | Text, ...]:
    more = f" +{entry.total - 1}" if entry.total > 1 else ""
    by = entry.rule or entry.source.rpartition("/")[2]
    return (_event(entry), entry.subject + more, entry.old, entry.new, entry.cause, by)


def _kill_cells(entry: LoggedEntry) -> tuple[str, ...]:
    rss_kib = number(entry.rss_kib)
    ram = "" if rss_kib is None else compact(rss_kib)
    return (entry.subject, entry.value, ram, _out_of(entry), entry.rule)


def _out_of(entry: LoggedEntry) -> str:
    """Return which memory ran out, or which program killed it before any did."""
    if entry.killer:
        return f"not the kernel: {entry.killer}"
    if entry.constraint == "memcg":
        return cgroup_title(entry.oom_memcg)
    return "the host" if entry.constraint == "none" else entry.constraint
