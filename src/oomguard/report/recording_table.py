"""The content of the flight recorder as tables."""

from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from oomguard.core.text import kib, span
from oomguard.report.rank_table import compact
from oomguard.report.recording import condensed, courses, is_noticed, moment, sparkline
from oomguard.report.tables import console, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from oomguard.core.sample import Sample

_ROWS = 20
_CELLS = 12
_GREW = 10


def print_recording(samples: "Sequence[Sample]") -> None:
    """Print memory over time, and the processes that grew most."""
    out = console()
    out.print(_memory_table(condensed(samples, _ROWS)))
    grown = [one for one in courses(samples, cells=_CELLS) if is_noticed(one.growth)][:_GREW]
    if not grown:
        is_first = len({one.booted for one in samples}) == 1
        out.print("\nOnly one sample so far." if is_first else "\nNone of the largest processes grew.")
        return
    made = table("GREW", "UNIT", "FROM", "TO", "IN", "", right=("FROM", "TO", "IN"))
    made.collapse_padding = True
    for column in made.columns:
        column.no_wrap = column.header != "UNIT"  # cut off where a line is too short
    for grown_by, sizes in grown:
        holder = grown_by.holder
        made.add_row(
            holder.label,
            Text(holder.unit, no_wrap=True, overflow="ellipsis"),
            kib(grown_by.before_kib),
            kib(holder.held_kib),
            span(grown_by.seconds),
            sparkline(sizes),
        )
    out.print()
    out.print(made)


def _memory_table(samples: "Sequence[Sample]") -> "Table":
    made = table(
        *("TIME", "AVAILABLE", "SWAP FREE", "PROMISED", "STALLED", "FIRST TO GO", "RAM"),
        right=("AVAILABLE", "SWAP FREE", "PROMISED", "STALLED", "RAM"),
    )
    made.collapse_padding = True
    for column in made.columns:
        column.no_wrap = column.header != "SWAP FREE"
    is_one_day = len({_clock(sample, "%x") for sample in samples}) == 1
    for sample in samples:
        clock = _clock(sample, "%H:%M:%S" if is_one_day else "%m-%d %H:%M")
        made.add_row(clock, *moment(sample, compact))
    return made


def _clock(sample: "Sample", form: str) -> str:
    return datetime.fromtimestamp(sample.at).astimezone().strftime(form)
