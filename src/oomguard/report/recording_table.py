"""What the flight recorder holds, as tables."""

from datetime import datetime
from typing import TYPE_CHECKING

from oomguard.core.overcommit import kib
from oomguard.core.text import span
from oomguard.report.recording import condensed, courses, sparkline
from oomguard.report.tables import console, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from oomguard.core.sample import Left, Sample

_ROWS = 20
_CELLS = 12
_GREW = 10
_NOTICED_KIB = 1024
"""Less growth is not worth a row."""


def print_recording(samples: "Sequence[Sample]") -> None:
    """Print the course of memory, and the processes that grew most."""
    out = console()
    out.print(_memory_table(condensed(samples, _ROWS)))
    grown = [one for one in courses(samples, cells=_CELLS) if one.growth.kib >= _NOTICED_KIB][:_GREW]
    if not grown:
        out.print("\nNone of the largest processes grew.")
        return
    made = table("GREW", "UNIT", "FROM", "TO", "IN", "", right=("FROM", "TO", "IN"))
    for grown_by, sizes in grown:
        holder = grown_by.holder
        made.add_row(
            holder.label,
            holder.unit,
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
    is_one_day = len({_clock(sample, "%x") for sample in samples}) == 1
    for sample in samples:
        first = sample.holders[0] if sample.holders else None
        made.add_row(
            _clock(sample, "%H:%M:%S" if is_one_day else "%m-%d %H:%M"),
            kib(sample.left.available_kib),
            _swap(sample.left),
            kib(sample.committed_kib),
            "" if sample.stalled_percent is None else f"{sample.stalled_percent:.0f} %",
            "" if first is None else first.label,
            "" if first is None else kib(first.held_kib),
        )
    return made


def _clock(sample: "Sample", form: str) -> str:
    return datetime.fromtimestamp(sample.at).astimezone().strftime(form)


def _swap(left: "Left") -> str:
    return kib(left.swap_kib) if left.swap_total_kib else "none"
