"""Bounds on the CPU time that something takes in this process: not of the wall clock, as hosts are busy."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time


@contextmanager
def cpu_bound(seconds: float, what: str) -> Iterator[None]:
    """Raise AssertionError as soon as the body has taken that much, also from within a regular expression."""

    def ring(_number: int, _frame: object) -> None:
        raise AssertionError(f"{what} takes more than {seconds:.2f} s of CPU")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def takes_at_most(times: float, body: Callable[[], object], other: Callable[[], object], what: str) -> None:
    """Raise AssertionError if something takes longer than so many times another thing, by CPU time.

    Both are measured in turn, and the best of a few rounds counts, so other load on the host does not.
    """
    best, best_other = float("inf"), float("inf")
    for _ in range(_ROUNDS):
        best_other = min(best_other, _seconds(other))
        best = min(best, _seconds(body))
        if best <= times * best_other:
            return
    raise AssertionError(f"{what} takes {best / best_other:.1f} times as long, not {times:.1f}")


def _seconds(body: Callable[[], object]) -> float:
    before = thread_time()  # a timer makes the clock of the process as coarse as its ticks
    body()
    return thread_time() - before


def ordinary_work() -> int:
    """Split and search LENGTH characters of a log: what to compare with on this host."""
    return sum(len(_LINE.split(" ")) + len(_FIGURE.findall(_LINE)) for _ in range(LENGTH // len(_LINE)))


LENGTH = 1 << 16
_ROUNDS = 5
_LINE = "[ 8523.347168] Out of memory: Killed process 1377 (a) total-vm:9kB, anon-rss:9kB, file-rss:0kB"
_FIGURE = re.compile(r"(?:[Kk]ill(?:ed)? process (\d{1,10}) \(|([a-z-]{1,20}):(\d{1,20})kB)")
