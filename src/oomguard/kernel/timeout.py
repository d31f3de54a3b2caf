"""A bound on time for work that cannot bound itself."""

import signal
from typing import TYPE_CHECKING, TypeVar

from oomguard.core.process import UnknownFactError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class TooLongError(UnknownFactError):
    """The work took longer than it may."""


def within(seconds: float, work: "Callable[[], _T]") -> _T:
    """Return what `work` returns, or raise TooLongError when it takes more processor time than `seconds`.

    Made for regular expressions: a pattern that backtracks can take longer than the universe is
    old on a text made for it, and `re` lets signals interrupt it (Modules/_sre: sigcount). Time in which
    this process has no processor does not count. Main thread only; it takes SIGVTALRM for itself.
    """
    if signal.getsignal(signal.SIGVTALRM) is not _ring:
        signal.signal(signal.SIGVTALRM, _ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _ring(_number: int, _frame: object) -> None:
    raise TooLongError("a `cmdline` pattern takes too long on it")
