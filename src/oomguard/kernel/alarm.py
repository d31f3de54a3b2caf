"""A bound on time for work that cannot bound itself."""

import signal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class TooLongError(Exception):
    """The work took longer than it may."""


def within(seconds: float, work: "Callable[[], _T]") -> _T:
    """Return what `work` returns, or raise TooLongError when it takes longer than `seconds`.

    Made for regular expressions: a pattern that backtracks can take longer than the universe is
    old on a text made for it, and `re` lets signals interrupt it (Modules/_sre: sigcount). Main
    thread only; it takes SIGALRM for itself.
    """
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ring(_number: int, _frame: object) -> None:
    raise TooLongError
