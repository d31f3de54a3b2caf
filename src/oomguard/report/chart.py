"""Samples as lines: how the memory of processes grew, and what was left."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from oomguard.core.sample import Holder, Sample
from oomguard.core.text import kib

LINES = 5
_WIDTH, _HEIGHT = 1000, 300
"""The size that the template has, too."""


class Line(NamedTuple):
    """A line of a chart, as the path of an SVG. Number 0 is what was left."""

    number: int
    path: str


class Chart(NamedTuple):
    """Lines over time. `top` and `half` are the amounts at these heights."""

    title: str
    lines: Sequence[Line]
    top: str
    half: str
    begin: str
    end: str


def growth_chart(samples: Sequence[Sample], holders: Sequence[Holder]) -> Chart:
    """Return a chart of how these processes grew."""
    rows = [
        [next((one.held_kib for one in sample.holders if one.is_same(holder)), None) for sample in samples]
        for holder in holders
    ]
    return _chart("Memory of processes", [one.at for one in samples], list(enumerate(rows, 1)))


def left_chart(samples: Sequence[Sample]) -> Chart:
    """Return a chart of what was left."""
    sizes = [one.left.available_kib for one in samples]
    return _chart("Available memory", [one.at for one in samples], [(0, sizes)])


def _chart(title: str, at: Sequence[float], rows: Sequence[tuple[int, Sequence[int | None]]]) -> Chart:
    most = max((size for _, row in rows for size in row if size is not None), default=0) or 1
    begin, end = at[0], at[-1]
    times = [(one - begin) / ((end - begin) or 1) for one in at]
    lines = [Line(number, _path(times, row, most)) for number, row in rows]
    day = "" if end - begin < 86400 / 2 else "%m-%d "
    clocks = [datetime.fromtimestamp(one).astimezone().strftime(f"{day}%H:%M:%S") for one in (begin, end)]
    return Chart(title, lines, kib(most), kib(most // 2), *clocks)


def _path(times: Sequence[float], sizes: Sequence[int | None], most: int) -> str:
    """Return a path through the points there are, broken where one is missing."""
    parts, is_on = [], False
    for time, size in zip(times, sizes, strict=True):
        if size is not None:
            point = f"{time * _WIDTH:.1f} {_HEIGHT - size / most * (_HEIGHT - 2):.1f}"
            parts.append(f"L{point}" if is_on else f"M{point}L{point}")
        is_on = size is not None
    return "".join(parts)
