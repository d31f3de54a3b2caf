"""Tables for people, made with rich. The daemon never imports this."""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile, zip_longest

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from oomguard.core.text import wrapped

_BREAKS = tuple(map(re.compile, (r"(?<=  )", r"(?<= )", r"(?<=[|,/])|(?=\[)", r"(?<=[-._@])|(?=:)", "")))
"""Where a line of a cell may end, the best places first: between parts; between words; between a name and its
pid, or the names of a rule; in a name; anywhere."""

LEAST_WIDTH, _MOST_WIDTH = 20, 1000
"""Columns of a console, whatever COLUMNS or the terminal says."""

_UNKNOWN_WIDTH = 80
"""Columns if COLUMNS or the terminal says 0."""

_BAR_CELLS = 6

_LEAST_CELLS = 14
"""Where there is no room for its longest name, a column shrinks to this."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the current error again: `__main__` handles it for all output."""
        raise  # noqa: PLE0704 - rich calls it in its handler


class NamesTable(Table):
    """A table with whole names, and without spaces at the ends of lines: they would be in every paste."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        if widths:
            yield from self._lines(console, widths)
            return
        cells = (one for one in super().__rich_console__(console, options) if isinstance(one, Segment))
        for line in Segment.split_lines(cells):
            yield from _without_blank_end(line)
            yield Segment.line()

    def _widths(self, limit: int) -> list[int]:
        """Return the width of each column. Those that are too wide shrink, but not below their longest name.

        Nothing, if there is no room for that, or some cells are cut off instead.
        """
        columns = [[column.header, *column.cells] for column in self.columns]
        most = [max(max(map(cell_len, str(cell).split("\n"))) for cell in cells) for cells in columns]
        room = limit - len(self._gap) * (len(columns) - 1)
        if sum(most) <= room:
            return most
        if any(map(_is_cut, self.columns)):
            return []
        least = [min(low, room * 2 // 3) for low in self._least()]
        for at in reversed(range(len(least))):  # the first columns matter most
            if not self.columns[at].no_wrap:
                least[at] -= max(min(sum(least) - room, least[at] - _LEAST_CELLS), 0)
        for cap in range(room, 0, -1):
            widths = [max(low, min(high, cap)) for low, high in zip(least, most, strict=True)]
            if sum(widths) <= room:
                return widths
        return []

    def leave_out(self, headings: Sequence[str], limit: int) -> None:
        """Leave columns out, one after the other, until no name must be broken for lines of that length.

        If that is not enough, the others are broken, and not cut.
        """
        for heading in headings:
            if sum(self._least()) + len(self._gap) * (len(self.columns) - 1) <= limit:
                return
            self.columns = [column for column in self.columns if column.header != heading]
        for column in self.columns:
            column.no_wrap = False

    def _least(self) -> list[int]:
        """Return the width of the longest name in each column, of some cells in one that may be cut off."""
        return [
            _LEAST_CELLS
            if _is_cut(column)
            else max(
                cell_len(str(cell)) if column.no_wrap else _longest(str(cell))
                for cell in (column.header, *column.cells)
            )
            for column in self.columns
        ]

    @property
    def _gap(self) -> str:
        return "  " if self.collapse_padding else "   "  # a grid's, too

    def _lines(self, console: Console, widths: list[int]) -> Iterator[Segment]:
        """Yield what rich would, in a tenth of its time: a plan may have thousands of rows."""
        head = [Text(str(column.header), style=self.header_style) for column in self.columns]
        styles = [console.get_style(row.style or "") for row in self.rows]
        rows = zip(*(column.cells for column in self.columns), strict=True)
        for number, row in enumerate((head, *rows)):
            if number == 0 and not self.show_header:
                continue
            of_row = styles[number - 1] if number else Style.null()
            cells = [_broken(cell, width) for cell, width in zip(row, widths, strict=True)]
            for parts in zip_longest(*cells, fillvalue=""):
                line = []
                for column, part, width in zip(self.columns, parts, widths, strict=True):
                    blank = Segment(" " * (width - cell_len(str(part))))
                    text = _segments(part, console, of_row)
                    line += [blank, *text] if column.justify == "right" else [*text, blank]
                    line.append(Segment(self._gap))
                yield from _without_blank_end(line)
                yield Segment.line()
            if number == 0:
                yield Segment("─" * (sum(widths) + len(self._gap) * (len(widths) - 1)))
                yield Segment.line()


def _segments(part: RenderableType, console: Console, style: Style) -> list[Segment]:
    if isinstance(part, Text) and part.spans:
        return list(Segment.apply_style(part.render(console), style))
    own = console.get_style(part.style) if isinstance(part, Text) else Style.null()
    return [Segment(str(part), style + own)]


def _is_cut(column: Column) -> bool:
    if column.no_wrap and column.overflow == "ellipsis":
        return True
    return any(isinstance(cell, Text) and cell.no_wrap for cell in column.cells)


def _longest(text: str) -> int:
    """Return the width of the longest part that should not be broken."""
    parts = (part for word in text.split() for part in _BREAKS[2].split(word))
    return max(map(cell_len, parts), default=0)


def _broken(cell: RenderableType, width: int) -> Sequence[str | Text]:
    """Return a cell as lines."""
    text = str(cell)
    if cell_len(text) <= width and "\n" not in text:
        return [cell if isinstance(cell, Text) else text]
    lines = [line for one in text.split("\n") for line in _parts(one, width)]
    if not isinstance(cell, Text):
        return [line.rstrip() for line in lines]
    found, end = [], 0
    for line in lines:
        begin = cell.plain.index(line, end)
        end = begin + len(line)
        found.append(cell[begin : begin + len(line.rstrip())])
    return found


def _parts(text: str, width: int, breaks: int = 0) -> list[str]:
    """Return text in parts of at most that width."""
    lines = [""]
    for part in _BREAKS[breaks].split(text):
        if cell_len((lines[-1] + part).rstrip()) <= width:
            lines[-1] += part
        elif cell_len(part.rstrip()) <= width or breaks == len(_BREAKS) - 1:
            lines.append(part)
        else:
            lines += _parts(part, width, breaks + 1)
    return [line for line in lines if line]


def _without_blank_end(line: list[Segment]) -> list[Segment]:
    blank = sum(1 for _ in takewhile(lambda cell: not cell.text.strip(), reversed(line)))
    *before, last = line[: len(line) - blank] or [Segment("")]
    return [*before, last._replace(text=last.text.rstrip())]


def console() -> Console:
    """Return a console: plain when not a terminal, 80 columns then unless COLUMNS says otherwise."""
    made = _Console(highlight=False, emoji=False, markup=False, soft_wrap=False)
    made.width = made.width or _UNKNOWN_WIDTH
    made.width = min(max(made.width, LEAST_WIDTH), _MOST_WIDTH)
    return made


def table(*columns: str, right: tuple[str, ...] = ()) -> NamesTable:
    """Return an empty table in the one style all tables share."""
    made = NamesTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def dense_table(*columns: str, right: tuple[str, ...] = (), broken: tuple[str, ...] = ()) -> NamesTable:
    """Return an empty table with narrow gaps, in which only cells of `broken` columns have several lines."""
    made = table(*columns, right=right)
    made.collapse_padding = True
    for column in made.columns:
        column.no_wrap = column.header not in broken
    return made


def grid() -> Table:
    """Return an empty table without headings and lines."""
    return NamesTable.grid(padding=(0, 2))


def print_text(out: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    """Print a paragraph, broken between words, and indented by two more where it goes on."""
    for line in wrapped(" " * indent + text, out.width):
        if cell_len(line) <= out.width:
            out.print(line, style=style)
            continue
        left = len(line) - len(line.lstrip())
        for at, part in enumerate(_parts(line[left:], out.width - left - 2)):
            out.print(f"{' ' * (left + 2 * bool(at))}{part}", style=style)


def bar(part: float, whole: float) -> str:
    """Return a bar that is full when `part` reaches `whole`."""
    filled = 0 if whole <= 0 else min(_BAR_CELLS, round(_BAR_CELLS * part / whole))
    return "█" * filled + " " * (_BAR_CELLS - filled)
