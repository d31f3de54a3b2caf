"""The content of the flight recorder as an HTML page."""

from collections.abc import Sequence

from oomguard.core.sample import Growth, Holder, Sample
from oomguard.core.text import kib, span
from oomguard.report import recording
from oomguard.report.chart import LINES, growth_chart, left_chart
from oomguard.report.html_page import Article, Cell, Column, Page, Row, Section, Table, numbers, render

_POINTS = 300
_ROWS = 60
_GREW = 20
"""Less growth is not worth a row."""


def recording_page(samples: Sequence[Sample]) -> str:
    """Return memory over time, and what grew, as HTML."""
    article = _article(samples) if samples else Article("Nothing was recorded in that time.", is_calm=True)
    return render(Page("What held memory, and what grew", [article]))


def _article(samples: Sequence[Sample]) -> Article:
    grown = recording.what_grew(samples)
    rows, hidden = grown.seen_often[:_GREW], len(grown.seen_often[_GREW:])
    notes = (f"And {hidden} more that grew less." if hidden else "", recording.seen_once(grown))
    fewer = recording.condensed(recording.of_host(samples), _POINTS)
    shown = [one.holder for one in rows[:LINES]] or list(samples[-1].holders[:LINES])
    chart = growth_chart(fewer or samples, shown)
    sections = [
        Section(
            "What grew", charts=[chart], table=growth_table(rows, shown), note=" ".join(filter(None, notes))
        ),
        Section(
            "What was left",
            charts=[left_chart(fewer)] if fewer else (),  # none, if only a cgroup was short
            table=_moments(recording.condensed(samples, _ROWS)),
        ),
    ]
    return Article(recording.headline(samples), recording.extent(samples), sections, is_calm=True)


def growth_table(grown: Sequence[Growth], shown: Sequence[Holder]) -> Table:
    """Return the table that explains a chart with these lines, and what else grew."""
    columns = [Column("Process"), Column("Unit", is_lesser=True), *map(numbers, ("From", "To", "In"))]
    lines = {holder[:2]: number for number, holder in enumerate(shown, 1)}
    rows = []
    for one in grown or [Growth(holder, holder.held_kib, 0.0) for holder in shown]:
        holder = one.holder
        cells = (
            Cell(holder.label, line=lines.get(holder[:2])),
            Cell(holder.unit),
            Cell(kib(one.before_kib) if grown else ""),
            Cell(kib(holder.held_kib)),
            Cell(span(one.seconds) if grown else ""),
        )
        rows.append(Row(cells))
    caption = "The lines, and what else grew" if grown else "None of the largest processes grew"
    return Table(caption, columns, rows)


def _moments(samples: Sequence[Sample]) -> Table:
    of_several = any(one.cgroup for one in samples)
    columns = [
        *(numbers("Time"), numbers("Available"), Column("Of", is_lesser=not of_several)),
        *(numbers(name, is_lesser=True) for name in ("Swap free", "Promised", "Stalled")),
        *(Column("First to go"), numbers("Memory", is_lesser=of_several)),
    ]
    form = recording.clock_form(samples)
    rows = []
    for one in samples:
        available, *others = map(Cell, recording.moment(one, kib))
        rows.append(
            Row((Cell(recording.clock(one, form)), available, Cell(recording.shown_by(one)), *others))
        )
    return Table("Of equal parts of the time, the moment with the least memory", columns, rows)
