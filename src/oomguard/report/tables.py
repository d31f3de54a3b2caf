"""Tables for people, made with rich. The daemon never imports this."""

from itertools import takewhile
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from oomguard.core.text import wrapped

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the current error again: `__main__` handles it for all output."""
        raise  # noqa: PLE0704 - rich calls it in its handler


class _Table(Table):
    """A table without spaces at the ends of lines: they would be in every file and paste."""

    def __rich_console__(self, console: Console, options: "ConsoleOptions") -> "RenderResult":
        if self.box is box.SIMPLE_HEAD and not options.ascii_only:
            lines = self._lines(console, options.max_width)
            if lines:
                yield from lines
                return
        cells = (one for one in super().__rich_console__(console, options) if isinstance(one, Segment))
        for line in Segment.split_lines(cells):
            yield from _without_blank_end(line)
            yield Segment.line()

    def _lines(self, console: Console, limit: int) -> list[Segment]:
        """Return what rich would, in a tenth of its time: a plan may have thousands of rows.

        Nothing, if a line is longer than the limit, a column empty, or a cell of several lines or styles.
        """
        widths = []
        for column in self.columns:
            cells = [column.header, *column.cells]
            if any("\n" in str(one) or (isinstance(one, Text) and one.spans) for one in cells):
                return []
            widths.append(max(cell_len(str(one)) for one in cells))
        gap = "  " if self.collapse_padding else "   "
        whole = sum(widths) + len(gap) * (len(widths) - 1)
        if whole > limit or 0 in widths:
            return []
        is_right = [column.justify == "right" for column in self.columns]
        head = [Text(str(column.header), style=self.header_style) for column in self.columns]
        rows = zip(*(column.cells for column in self.columns), strict=True)
        lines: list[Segment] = []
        for number, row in enumerate((head, *rows)):
            line = []
            for cell, width, right in zip(row, widths, is_right, strict=True):
                text, style = str(cell), cell.style if isinstance(cell, Text) else ""
                blank = " " * (width - cell_len(text))
                before, after = (blank, "") if right else ("", blank)
                line += [Segment(before), Segment(text, console.get_style(style)), Segment(after + gap)]
            rule = [Segment("─" * whole), Segment.line()] if number == 0 else []
            lines += [*_without_blank_end(line), Segment.line(), *rule]
        return lines


def _without_blank_end(line: list[Segment]) -> list[Segment]:
    blank = sum(1 for _ in takewhile(lambda cell: not cell.text.strip(), reversed(line)))
    *before, last = line[: len(line) - blank] or [Segment("")]
    return [*before, last._replace(text=last.text.rstrip())]


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
    for line in wrapped(" " * indent + text, out.width):
        out.print(line, style=style)


def bar(part: float, whole: float, width: int = 20) -> str:
    """Return a bar that is full when `part` reaches `whole`."""
    filled = 0 if whole <= 0 else min(width, round(width * part / whole))
    return "█" * filled + " " * (width - filled)
