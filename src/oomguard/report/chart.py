"""Samples as lines: how the memory of processes grew, and what was left."""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.overcommit import kib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.core.sample import Holder, Sample

LINES = 5
_WIDTH, _HEIGHT = 1000, 300
"""The size that the template has, too."""


class Line(NamedTuple):
    """A line of a chart, as the path of an SVG. Number 0 is what was left."""

    number: int
    path: str


class Chart(NamedTuple):
    """Lines over time. `top` and `half` are the amounts at these heights."""

    label: str
    lines: "Sequence[Line]"
    top: str
    half: str
    begin: str
    end: str


def chart_of(samples: "Sequence[Sample]", holders: "Sequence[Holder]", left: "Sequence[int | None]") -> Chart:
    """Return how these processes grew, and what was left at each sample, in KiB, None if it is unknown."""
    sizes = [[_size(sample, holder) for sample in samples] for holder in holders]
    rows = [left, *sizes]
    most = max((size for row in rows for size in row if size is not None), default=0) or 1
    begin, end = samples[0].at, samples[-1].at
    times = [(sample.at - begin) / ((end - begin) or 1) for sample in samples]
    lines = [
        Line(number, _path(times, [None if size is None else size / most for size in row]))
        for number, row in enumerate(rows)
    ]
    day = "" if end - begin < 86400 / 2 else "%m-%d "
    clocks = [datetime.fromtimestamp(at).astimezone().strftime(f"{day}%H:%M:%S") for at in (begin, end)]
    label = f"The memory of {len(holders)} processes and what was left, from {clocks[0]} to {clocks[1]}"
    return Chart(label, lines, kib(most), kib(most // 2), *clocks)


def _size(sample: "Sample", holder: "Holder") -> int | None:
    return next((one.held_kib for one in sample.holders if one.is_same(holder)), None)


def _path(times: "Sequence[float]", shares: "Sequence[float | None]") -> str:
    """Return a path through the points there are, broken where one is missing."""
    parts, is_on = [], False
    for time, share in zip(times, shares, strict=True):
        if share is not None:
            point = f"{time * _WIDTH:.1f} {_HEIGHT - share * (_HEIGHT - 2):.1f}"
            parts.append(f"L{point}" if is_on else f"M{point}L{point}")
        is_on = share is not None
    return "".join(parts)
