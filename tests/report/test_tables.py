"""Tables look as rich draws them, without its cost for each cell."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.table import Table
from rich.text import Text

from oomguard.report import tables

CELLS = st.text(st.sampled_from("ab -漢é─"), max_size=6).map(str.strip)


def drawn(one: Table, width: int) -> str:
    """Return what a terminal of this width shows, without colors and the spaces at the ends of lines."""
    screen = io.StringIO()
    tables._Console(file=screen, width=width, highlight=False, emoji=False, markup=False).print(one)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())


def of_rich(*columns: str, right: tuple[str, ...]) -> Table:
    """Return rich's own table in the style of ours."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), st.integers(12, 60), st.booleans())
def test_a_table_looks_as_rich_draws_it(
    rows: list[tuple[str, str, str]], width: int, is_narrow: bool
) -> None:
    """Whether its lines fit or must be broken."""
    ours, theirs = (make("WHAT", "TO", "", right=("TO",)) for make in (tables.table, of_rich))
    ours.collapse_padding = theirs.collapse_padding = is_narrow
    for what, to, state in rows:
        for one in (ours, theirs):
            one.add_row(what, Text(to, style="green"), Text(state, style="yellow"))
    assert drawn(ours, width) == drawn(theirs, width)


@pytest.mark.parametrize("cell", [Text.assemble("a", ("b", "red")), "two\nlines"])
def test_what_is_not_a_plain_line_is_left_to_rich(cell: Text | str) -> None:
    """Several styles or lines in a cell."""
    ours, theirs = (make("WHAT", right=()) for make in (tables.table, of_rich))
    for one in (ours, theirs):
        one.add_row(cell)
    assert drawn(ours, 40) == drawn(theirs, 40)
