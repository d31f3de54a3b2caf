"""Tables look as rich draws them, without its cost for each cell."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from oomguard.report import tables

CELLS = st.text(st.sampled_from("ab -漢é─"), max_size=6).map(str.strip)


def drawn(one: Table, width: int, *, colors: bool = False) -> str:
    """Return what a terminal of this width shows, without the spaces at the ends of lines."""
    screen = io.StringIO()
    out = tables._Console(
        file=screen,
        width=width,
        highlight=False,
        emoji=False,
        markup=False,
        force_terminal=colors,
        color_system="standard" if colors else None,
    )
    out.print(one)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())


def of_rich(*columns: str, right: tuple[str, ...]) -> Table:
    """Return rich's own table in the style of ours."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), st.booleans())
def test_a_table_that_fits_looks_as_rich_draws_it(rows: list[tuple[str, str, str]], is_narrow: bool) -> None:
    """Which takes ten times as long."""
    ours, theirs = (make("WHAT", "TO", "BY", right=("TO",)) for make in (tables.table, of_rich))
    ours.collapse_padding = theirs.collapse_padding = is_narrow
    for what, to, state in rows:
        for one in (ours, theirs):
            one.add_row(what, Text(to, style="green"), Text(state, style="yellow"))
    assert drawn(ours, 60) == drawn(theirs, 60)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), st.integers(12, 30))
def test_no_line_is_too_long_and_no_character_lost(rows: list[tuple[str, str, str]], width: int) -> None:
    """However narrow the screen is."""
    made = tables.table("WHAT", "TO", "BY", right=("TO",))
    made.collapse_padding = True
    for row in rows:
        made.add_row(*row)
    shown = drawn(made, width)
    assert max(map(cell_len, shown.splitlines())) <= width
    _, body = shown.split("─\n", 1) if rows else ("", "")
    assert sorted("".join(body.split())) == sorted("".join(map("".join, rows)).replace(" ", ""))


@pytest.mark.parametrize("cell", [Text.assemble("a", ("b", "red")), "two\nlines"])
def test_several_styles_or_lines_in_a_cell_look_as_rich_draws_them(cell: Text | str) -> None:
    """And so does the style of a row."""
    ours, theirs = (make("WHAT", right=()) for make in (tables.table, of_rich))
    for one in (ours, theirs):
        one.add_row(cell, style="bold red")
    assert drawn(ours, 40) == drawn(theirs, 40)
    for one in (ours, theirs):
        assert "\x1b[1;31m" in drawn(one, 40, colors=True)


def test_lines_are_broken_where_names_end() -> None:
    """Between words; else between a name and its pid, or names of a rule; else in the last columns."""
    made = tables.table("WHAT", "BY")
    made.add_row("gnome-shell-cal[3999812] +2", "name=chromium|chrome|google-chrome*")
    made.add_row("vm.overcommit_memory", "50-database-hosts.yaml:3")
    assert drawn(made, 48).splitlines() == [
        "WHAT                    BY",
        "─" * 48,
        "gnome-shell-cal         name=chromium|chrome|",
        "[3999812] +2            google-chrome*",
        "vm.overcommit_memory    50-database-hosts.yaml:3",
    ]
    assert drawn(made, 38).splitlines()[2:] == [
        "gnome-shell-cal        name=chromium|",
        "[3999812] +2           chrome|",
        "                       google-chrome*",
        "vm.overcommit_memory   50-database-",
        "                       hosts.yaml:3",
    ]


def test_parts_stay_together_where_they_can() -> None:
    """Two spaces are between parts."""
    made = tables.grid()
    made.add_row("chrome[4711]  2.1 GiB  oom_score_adj 300  name=chrome")
    assert drawn(made, 38).splitlines() == ["chrome[4711]  2.1 GiB", "oom_score_adj 300  name=chrome"]


def test_a_grid_has_whole_names_too() -> None:
    """And no headings."""
    made = tables.grid()
    made.add_row("", "name=chromium|chrome unit=a.service", "no", "name is sleep")
    assert drawn(made, 40).splitlines() == [
        "  name=chromium|       no  name is sleep",
        "  chrome",
        "  unit=a.service",
    ]


def test_the_least_columns_are_left_out_before_names_are_broken() -> None:
    """One after the other."""
    made = tables.table("WHAT", "CAUSE", "FROM", "BY")
    made.collapse_padding = True
    made.add_row("vm.overcommit_memory", "drift", "0", "60-memory.yaml:3")
    made.leave_out(("CAUSE", "FROM"), 60)
    assert len(made.columns) == 4
    made.leave_out(("CAUSE", "FROM"), 45)
    assert drawn(made, 45).splitlines()[0].split() == ["WHAT", "FROM", "BY"]


def test_a_paragraph_is_broken_within_a_word_only_where_that_is_too_long() -> None:
    """A path then at a slash, and indented."""
    screen = io.StringIO()
    out = tables._Console(file=screen, width=30)
    tables.print_text(out, "cgroup=/user.slice/user-1000.slice/app.slice (a.yaml:10) and more", indent=2)
    assert screen.getvalue().splitlines() == [
        "  cgroup=/user.slice/",
        "    user-1000.slice/app.slice",
        "    (a.yaml:10) and more",
    ]


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("1", 20), ("20", 20), ("99999999", 1000)])
def test_a_console_has_columns_that_can_be_filled(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell without a terminal may export 0: it does not know."""
    monkeypatch.setenv("COLUMNS", columns)
    assert tables.console().width == width
