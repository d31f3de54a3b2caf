"""A figure, its floor and its target, and how they are shown."""

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Target(NamedTuple):
    """At most `best`, in the figure's unit or, if `ratio`, in floors; above `short` it falls short."""

    best: float
    short: float | None = None
    ratio: bool = False
    at_least: bool = False


class Figure(NamedTuple):
    """One line of the table. `floor` is what the same job costs at least, measured in the same run."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    target: Target | None = None
    floor_name: str = "C"
    note: str = ""

    @property
    def verdict(self) -> str:
        """Tell whether the target is met."""
        target = self.target
        if target is None:
            return ""
        value = self.value
        if target.ratio:
            if not self.floor:
                return "?"
            value /= self.floor
        if target.at_least:
            met, short = value >= target.best, target.short is not None and value < target.short
        else:
            met, short = value <= target.best, target.short is None or value > target.short
        return "met" if met else "falls short" if short else "close"


HEADER = ("figure", "oomguard", "floor", "ratio", "target", "")


def cells(figure: Figure) -> tuple[str, ...]:
    """Return the columns of HEADER."""
    target = figure.target
    wanted = ""
    if target is not None:
        wanted = f"{'>=' if target.at_least else '<='} {target.best:g} {'×' if target.ratio else figure.unit}"
    return (
        figure.name + (f" ({figure.note})" if figure.note else ""),
        _amount(figure.value, figure.unit),
        "" if figure.floor is None else f"{_amount(figure.floor, figure.unit)} ({figure.floor_name})",
        f"{figure.value / figure.floor:.2f} ×"
        if _is_number(figure.value) and figure.floor and _is_number(figure.floor)
        else "",
        wanted,
        figure.verdict,
    )


def markdown(figures: "Sequence[Figure]") -> str:
    """Return a table for docs/internals/performance.md."""
    rows = [HEADER, ("---", "---:", "---:", "---:", "---:", "---"), *map(cells, figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percentile(values: "Sequence[float]", percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def middle(values: "Sequence[float]") -> float:
    """Return the median; of nothing, infinity: it never happened."""
    return median(values) if values else float("inf")


def _is_number(value: float) -> bool:
    return value < float("inf")


def _amount(value: float, unit: str) -> str:
    if value == float("inf"):
        return "never"
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()
