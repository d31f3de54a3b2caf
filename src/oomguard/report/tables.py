"""Tables that people read, made with rich. The daemon never imports this."""

from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oomguard.core.plan import SetOomScoreAdj
from oomguard.core.text import printable
from oomguard.report.text import subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.core.plan import Change


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `__main__`, as for every other way to print. Called while the error is handled."""
        raise  # noqa: PLE0704 - rich calls it in its handler


def console() -> Console:
    """Return a console: plain when not a terminal, 80 columns then unless COLUMNS says otherwise."""
    return _Console(highlight=False, emoji=False, markup=False, soft_wrap=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table in the one style all tables share."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def print_plan(changes: "Sequence[Change]", *, nothing: str) -> None:
    """Print what would change: what, from, to, by which rule, and why not where refused; or `nothing`."""
    out = console()
    if not changes:
        out.print(nothing)
        return
    made = table("WHAT", "FROM", "TO", "BY", right=("FROM", "TO"))
    for change in changes:
        made.add_row(subject(change), str(change.before), _to(change), _by(change))
    out.print(made)
    refused = [change for change in changes if change.refusal is not None]
    for _, group in groupby(refused, key=lambda one: getattr(one, "group", "") or one.target):
        first, *others = group
        assert first.refusal is not None
        subjects = ", ".join(subject(change) for change in (first, *others))
        out.print(f"\n{subjects}: {first.refusal.reason}", style="yellow")
        out.print(f"  {first.refusal.hint}")
    due = f"{len(changes) - len(refused)} to change"
    out.print(f"\n{due}, {len(refused)} refused" if refused else f"\n{due}")


def _to(change: "Change") -> Text:
    if change.refusal is not None:
        return Text(f"{change.after} refused", style="yellow")
    if isinstance(change, SetOomScoreAdj):
        return Text(str(change.after), style="green" if change.after < change.before else "red")
    return Text(str(change.after), style="bold")


def _by(change: "Change") -> str:
    if isinstance(change, SetOomScoreAdj):
        if change.rule is None:
            return "no rule any more: its own value"
        return f"{change.rule.label} ({_short(change.rule.file)}:{change.rule.line})"
    if change.cause == "restore":
        return "not in the policy any more: its own value"
    file, _, line = change.source.rpartition(":")
    return f"{_short(file)}:{line}"


def _short(path: str) -> str:
    return printable(path.rpartition("/")[2])


def bar(part: float, whole: float, width: int = 20) -> str:
    """Return a bar that is full when `part` reaches `whole`."""
    filled = 0 if whole <= 0 else min(width, round(width * part / whole))
    return "█" * filled + "░" * (width - filled)
