"""A bound on time."""

import re
import time

import pytest

from oomguard.kernel.timeout import TooLongError, within


def test_a_pattern_that_backtracks_is_given_up() -> None:
    """It would take years."""
    start = time.monotonic()
    with pytest.raises(TooLongError):
        within(0.02, lambda: re.search(r"(a+)+$", "a" * 64 + "!"))
    assert time.monotonic() - start < 5


def test_work_in_time_is_done_and_nothing_rings_later() -> None:
    """The timer is off when the work is over."""
    assert within(0.02, lambda: 7) == 7
    time.sleep(0.04)
