"""The content of the flight recorder as tables."""

from collections.abc import Sequence

from rich.text import Text

from oomguard.core.sample import Growth, Sample
from oomguard.core.text import kib, span
from oomguard.report import recording
from oomguard.report.rank_table import compact
from oomguard.report.tables import NamesTable, console, dense_table, print_text

_ROWS = 20
_CELLS = 12
_GREW = 10
_COURSE = ""
"""The heading of the bars."""


def print_recording(samples: Sequence[Sample]) -> None:
    """Print memory over time, and the processes that grew most."""
    out = console()
    print_text(out, recording.headline(samples), style="bold")
    print_text(out, recording.extent(samples))
    out.print()
    memory = _memory_table(recording.condensed(samples, _ROWS))
    memory.leave_out(("PROMISED", "STALLED", "SWAP FREE"), out.width)
    out.print(memory)
    grown = recording.what_grew(samples)
    out.print()
    if grown.seen_often:
        growth = _growth_table(samples, grown.seen_often[:_GREW])
        growth.leave_out((_COURSE, "FROM"), out.width)
        out.print(growth)
    elif len({one.booted for one in samples}) == 1:
        out.print("Only one sample so far.")
    else:
        out.print("None of the largest processes grew.")
    if (hidden := len(grown.seen_often) - _GREW) > 0:
        out.print(f"and {hidden} more that grew less")
    if once := recording.seen_once(grown):
        print_text(out, once)


def _growth_table(samples: Sequence[Sample], grown: Sequence[Growth]) -> NamesTable:
    has_units = any(growth.holder.unit for growth in grown)
    units = ("UNIT",) if has_units else ()
    headings = ("GREW", *units, "FROM", "TO", "IN", _COURSE)
    made = dense_table(*headings, right=("FROM", "TO", "IN"), broken=("UNIT",))  # but cut off
    for growth in grown:
        holder = growth.holder
        unit = (Text(holder.unit, no_wrap=True, overflow="ellipsis"),) if has_units else ()
        amounts = (kib(growth.before_kib), kib(holder.held_kib), span(growth.seconds))
        sizes = recording.course(samples, holder, cells=_CELLS)
        made.add_row(holder.label, *unit, *amounts, recording.sparkline(sizes))
    return made


def _memory_table(samples: Sequence[Sample]) -> NamesTable:
    headings = ("AVAILABLE", "SWAP FREE", "PROMISED", "STALLED", "FIRST TO GO", "MEMORY")
    rows = [recording.moment(sample, compact) for sample in samples]
    shown = [at for at in range(len(headings)) if any(row[at] not in ("", "none") for row in rows)]
    form = recording.clock_form(samples)
    of = ("OF",) if any(sample.cgroup for sample in samples) else ()
    made = dense_table(
        *("TIME", *(headings[at] for at in shown), *of),
        right=("AVAILABLE", "SWAP FREE", "PROMISED", "STALLED", "MEMORY"),
        broken=("SWAP FREE", "OF"),
    )
    for sample, row in zip(samples, rows, strict=True):
        where = (recording.shown_by(sample),) if of else ()
        made.add_row(recording.clock(sample, form), *(row[at] for at in shown), *where)
    return made
