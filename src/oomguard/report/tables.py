"""Tables for people, made with rich. The daemon never imports this."""

import textwrap
from itertools import takewhile
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.segment import Segment
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the current error again: `__main__` handles it for all output."""
        raise  # noqa: PLE0704 - rich calls it in its handler


class _Table(Table):
    """A table without spaces at the ends of lines: they would be in every file and paste."""

    def __rich_console__(self, console: Console, options: "ConsoleOptions") -> "RenderResult":
        cells = (one for one in super().__rich_console__(console, options) if isinstance(one, Segment))
        for line in Segment.split_lines(cells):
            blank = sum(1 for _ in takewhile(lambda cell: not cell.text.strip(), reversed(line)))
            *before, last = line[: len(line) - blank] or [Segment("")]
            yield from before
            yield last._replace(text=last.text.rstrip())
            yield Segment.line()


def console() -> Console:
    """Return a console: plain when not a terminal, 80 columns then unless COLUMNS says otherwise."""
    return _Console(highlight=False, emoji=False, markup=False, soft_wrap=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table in the one style all tables share."""
    made = _Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def grid() -> Table:
    """Return an empty table without headings and lines."""
    return _Table.grid(padding=(0, 2))


def print_text(out: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    """Print a paragraph, broken between words, and indented by two more where it goes on."""
    left = " " * indent
    made = textwrap.TextWrapper(out.width, left, left + "  ", break_on_hyphens=False)
    for line in made.wrap(text):
        out.print(line, style=style)


def bar(part: float, whole: float, width: int = 20) -> str:
    """Return a bar that is full when `part` reaches `whole`."""
    filled = 0 if whole <= 0 else min(width, round(width * part / whole))
    return "█" * filled + " " * (width - filled)
