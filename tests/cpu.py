"""A bound on the CPU time that something takes in this process: not of the wall clock, as hosts are busy."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
