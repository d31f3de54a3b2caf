"""The comparison of two revisions calls a figure slower when it is, and not otherwise."""

import pytest

from benchmarks.compare import compare, show
from benchmarks.figure import Figure, Target


def _rounds(*values: float, target: Target | None = None) -> list[list[Figure]]:
    return [[Figure("cost", value, "µs", target=target)] for value in values]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((10, 11, 12), (13, 14, 15), "slower"),
        ((13, 14, 15), (10, 11, 12), "faster"),
        ((10, 11, 14), (13, 14, 15), ""),
        ((100, 101, 102), (103, 104, 105), ""),
        ((0, 0, 0), (0, 0, 0), ""),
        ((0, 0, 0), (1, 1, 1), "slower"),
    ],
    ids=["slower", "faster", "rounds overlap", "too little", "nothing", "from nothing"],
)
def test_a_verdict_takes_a_clear_difference(
    before: tuple[float, ...], after: tuple[float, ...], verdict: str
) -> None:
    """Of a tenth at least, and in every round."""
    (row,) = compare(_rounds(*before), _rounds(*after))
    assert row.verdict == verdict


def test_more_of_what_should_be_high_is_faster() -> None:
    """Such as the CPU time that is left to others."""
    target = Target(0.9, at_least=True)
    (row,) = compare(_rounds(50, 50, target=target), _rounds(80, 80, target=target))
    assert row.verdict == "faster"


def test_a_figure_of_one_revision_only_is_left_out() -> None:
    """It has nothing to be compared with."""
    other = [[Figure("other", 1, "µs")]]
    assert compare(other, _rounds(1)) == []


def test_the_table_has_medians_and_their_ratio() -> None:
    """And the verdict."""
    text = show(compare(_rounds(1, 2, 3), _rounds(4, 4, 4)))
    assert text.splitlines()[1].split() == ["cost", "2.00", "4.00", "2.00", "µs", "slower"]
