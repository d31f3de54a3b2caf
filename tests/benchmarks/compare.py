"""Two revisions measured in turn: what became slower, and what faster."""

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figure import Figure

NOTABLE = 1.1
"""A difference below a tenth is not told from noise."""


class Compared(NamedTuple):
    """A figure before and after, by round; `is_better_higher` where more is better."""

    name: str
    unit: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    is_better_higher: bool = False

    @property
    def ratio(self) -> float:
        """The median after by the median before."""
        before, after = median(self.before), median(self.after)
        return 1.0 if before == after else after / before if before else float("inf")

    @property
    def verdict(self) -> str:
        """What became of it, "" where rounds overlap or the difference is too small to tell."""
        low, high = sorted((self.before, self.after), key=median)
        if max(low) >= min(high) or median(high) < NOTABLE * median(low):
            return ""
        return "slower" if (high is self.after) != self.is_better_higher else "faster"


def compare(before: "Sequence[Iterable[Figure]]", after: "Sequence[Iterable[Figure]]") -> list[Compared]:
    """Return the figures that both revisions have, in order; each argument has one list a round."""
    earlier, later = _by_name(before), _by_name(after)
    return [
        Compared(
            name,
            figures[0].unit,
            tuple(figure.value for figure in earlier[name]),
            tuple(figure.value for figure in figures),
            figures[0].target is not None and figures[0].target.at_least,
        )
        for name, figures in later.items()
        if name in earlier
    ]


def show(rows: "Iterable[Compared]") -> str:
    """Return a table."""
    head = f"{'figure':<66} {'before':>12} {'after':>12} {'ratio':>7}"
    return "\n".join(
        [
            head,
            *(
                f"{row.name:<66} {median(row.before):>12,.2f} {median(row.after):>12,.2f} {row.ratio:>7.2f}"
                f" {row.unit} {row.verdict}".rstrip()
                for row in rows
            ),
        ]
    )


def _by_name(rounds: "Sequence[Iterable[Figure]]") -> "dict[str, list[Figure]]":
    found: dict[str, list[Figure]] = {}
    for one in rounds:
        for figure in one:
            found.setdefault(figure.name, []).append(figure)
    return found
