"""The kill order as a table, to print or for a screen that updates."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from oomguard.core.choices import ObstacleKind
from oomguard.core.sample import NOTICED_KIB
from oomguard.core.text import printable, wrapped
from oomguard.oom.badness import share
from oomguard.oom.ranking import Rank, Ranked
from oomguard.report.plan_table import OBSTACLE_NAMES
from oomguard.report.rank_view import View, exemption, summary
from oomguard.report.tables import bar, console, dense_table, print_text

_USER_CELLS = 8
WIDTH_OF_ALL = 100
"""On narrower screens, a table with rules has no bars and no scores."""
WIDTH_OF_USERS = 70
"""On narrower screens, a table has no bars and no users, and beside rules no growth."""
_OBSTACLES: dict[ObstacleKind, str] = OBSTACLE_NAMES | {"denied": "denied", "may-be-denied": "denied?"}
"""Names of obstacles, short enough for the rule beside them."""
NAME_CELLS = 20
"""A name has 15 bytes, more only if escaped."""


def print_ranking(view: View, *, limit: int) -> None:
    """Print the summary and the first `limit` processes, now or under the policy; 0 for all."""
    out = console()
    for line in summary_lines(view, out.width):
        out.print(line)
    shown = view.first(limit)
    out.print()
    out.print(rank_table(view, shown, width=out.width))
    hidden = len(view.ranked) - len(shown)
    if hidden:
        never = sum(one.now.place is None for one in view.ranked) - sum(
            one.now.place is None for one in shown
        )
        spared = f", {never} of them never killed" if never else ""
        print_text(out, f"and {hidden} more{spared}; --limit 0 shows all")


def summary_lines(view: View, width: int, *, limit: int = 0) -> list[Text]:
    """Return the summary in lines of that width, with highlighted notes.

    Of more than `limit` lines, the last sentences are left out, but never the first; 0 is no limit.
    """
    lines: list[Text] = []
    for sentence in summary(view):
        style = "yellow" if sentence in view.notes else ""
        broken = [Text(line, style) for line in wrapped(sentence, width)]
        if lines and limit and len(lines) + len(broken) > limit:
            break
        lines += broken
    return lines


def rank_table(view: View, shown: Iterable[Ranked], *, width: int) -> Table:
    """Return the table of the processes in `shown`, in that order, for a screen of that many columns.

    NOW is the place in the kernel's order, NEW the one under the policy. SCORE is the badness, as `oomguard
    postmortem` shows it. MEMORY is what the kernel counts, +/MIN how fast it grows or shrinks.
    """
    headings = ["NOW", "NEW", "SCORE", "PID", "NAME", "USER", "MEMORY", "+/MIN", "", "VALUE", "RULE"]
    if view.growth is None:
        headings.remove("+/MIN")
    if not view.has_policy:
        headings = [name for name in headings if name not in ("NEW", "RULE")]
    elif width < WIDTH_OF_ALL:
        headings = [
            name for name in headings if name not in ("", "SCORE")
        ]  # the rule is more useful than those
    if width < WIDTH_OF_USERS:
        lesser = ("", "USER", "+/MIN") if view.has_policy else ("", "USER")
        headings = [name for name in headings if name not in lesser]
    worst = max((one.now.badness or 0 for one in view.ranked), default=0)
    rows = [_cells(one, view, worst) for one in shown]
    headings, name_cells = fitting(headings, rows, width)
    made = order_table(headings, name_cells)
    for cells in rows:
        made.add_row(*(cells[name] for name in headings))
    return made


def fitting(
    headings: Sequence[str], rows: Sequence[Mapping[str, str | Text]], width: int
) -> tuple[list[str], int]:
    """Return the columns for a screen of that width, and the longest name that it has room for.

    Names are cut only after lesser columns are left out, and numbers never: a cut pid is another pid.
    """
    kept, room = list(headings), NAME_CELLS
    for lesser in ("RULE", "SCORE", "UID", None):
        widths = {name: max(map(cell_len, (name, *(str(row[name]) for row in rows)))) for name in kept}
        wanted = min(widths.pop("NAME"), NAME_CELLS)
        if "RULE" in widths:
            widths["RULE"] = len("RULE")  # it is shortened first
        room = width - sum(widths.values()) - 2 * len(widths)
        if room >= wanted:
            return kept, NAME_CELLS
        kept = [name for name in kept if name != lesser]
    return kept, max(room, 1)


def order_table(headings: Sequence[str], name_cells: int) -> Table:
    """Return an empty table for a kill order. If there is no room, the rule is shortened first."""
    right = ("NOW", "NEW", "SCORE", "PID", "UID", "MEMORY", "+/MIN", "VALUE")
    made = dense_table(*headings, right=right, broken=("RULE",))
    for column in made.columns:
        column.overflow = "ellipsis"
        column.max_width = name_cells if column.header == "NAME" else None
    return made


def _cells(one: Ranked, view: View, worst: int) -> dict[str, str | Text]:
    candidate = one.candidate
    pages = sum(candidate.usage)
    user = view.users.get(candidate.uid, str(candidate.uid))
    return {
        "NOW": _place(one.now),
        "NEW": "" if one.new is None else _moved(one.now, one.new),
        "SCORE": _score(one, view),
        "PID": str(candidate.identity.pid),
        "NAME": printable(candidate.comm),
        "USER": user if len(user) <= _USER_CELLS else user[: _USER_CELLS - 1] + "+",
        "MEMORY": compact(pages * view.domain.page_kib),
        "+/MIN": _growth((view.growth or {}).get(candidate.identity, 0)),
        "": bar(max(one.now.badness or 0, 0), worst),
        "VALUE": _value(one),
        "RULE": _rule(one),
    }


def _growth(amount_kib: int) -> Text:
    if abs(amount_kib) < NOTICED_KIB:
        return Text("")
    sign, style = ("+", "red") if amount_kib > 0 else ("-", "green")
    return Text(f"{sign}{compact(abs(amount_kib))}", style)


def _score(one: Ranked, view: View) -> str:
    points = one.now.badness
    return "" if points is None else f"{share(points, view.domain.total_pages, view.domain.era):.1%}"


def _place(rank: Rank) -> str:
    return "never" if rank.place is None else str(rank.place)


def _moved(now: Rank, new: Rank) -> Text:
    if now.place == new.place:
        return Text(_place(new))
    safer = new.place is None or (now.place is not None and new.place > now.place)
    return Text(_place(new), style="green" if safer else "red")


def _value(one: Ranked) -> Text:
    before = one.now.oom_score_adj
    if one.new is None or one.new.oom_score_adj == before:
        return Text(str(before))
    after = one.new.oom_score_adj
    return Text(f"{before}→{after}", style="green" if after < before else "red")


def _rule(one: Ranked) -> Text:
    decision = one.decision
    if decision is not None and decision.rule is not None:
        if decision.obstacle is not None:
            return cut(f"{_OBSTACLES[decision.obstacle.kind]}: {decision.rule.label}", "yellow")
        return cut(decision.rule.label)
    return cut(exemption(one.candidate, one.now), "dim")


def cut(text: str, style: str = "") -> Text:
    """Return a cell that is shortened to one line if there is no room."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def compact(amount_kib: int) -> str:
    """Return an amount of KiB in at most five characters, as top does: `812M`, `1.2G`."""
    size = float(amount_kib)
    for unit in "KMGT":
        if round(size) < 1000 or unit == "T":
            return f"{size:.0f}{unit}" if size >= 10 or unit == "K" else f"{size:.1f}{unit}"
        size /= 1024
    raise AssertionError


SORTS: dict[str, tuple[str, Callable[[Ranked, View], Any]]] = {
    "k": ("kill order", lambda _, __: 0),
    "p": ("order under the policy", lambda one, view: (one.new or one.now).place or len(view.ranked) + 1),
    "m": ("memory", lambda one, _: -sum(one.candidate.usage)),
    "+": ("growth", lambda one, view: -(view.growth or {}).get(one.candidate.identity, 0)),
    "v": ("value", lambda one, _: -one.now.oom_score_adj),
    "n": ("name", lambda one, _: one.candidate.comm),
}
"""The sort orders, by the key that selects each: the name, and by what it sorts."""


def sorted_by(key: str, view: View) -> list[Ranked]:
    """Return the rows in one of these orders; equal ones stay in the kernel's order."""
    order = SORTS[key][1]
    return sorted(view.ranked, key=lambda one: order(one, view))
