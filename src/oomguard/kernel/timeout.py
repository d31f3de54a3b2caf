"""A limit on processor time for work that has none."""

import signal
from collections.abc import Callable

from oomguard.core.process import UnknownFactError
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")


class TooLongError(UnknownFactError):
    """The work reached its limit."""


def within(seconds: float, work: "Callable[[], _T]") -> "_T":
    """Return what `work` returns. TooLongError: it took more than `seconds` of processor time.

    For regular expressions: on some texts a pattern that backtracks never ends, and signals interrupt `re`
    (Modules/_sre: sigcount). Main thread only; it uses SIGVTALRM.
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
