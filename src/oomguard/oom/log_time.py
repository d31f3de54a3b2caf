"""The times of lines of a log, as far as they can be compared: many have no year, and any language."""

import re
from contextlib import suppress
from datetime import datetime
from functools import lru_cache

from oomguard.oom.log_line import Line

_NEXT_SECONDS, _DAY = 0.05, 86400
LONGEST_SECONDS = 120
"""A line that is so much later than the one before belongs to another report."""


def is_near(one: Line, other: Line) -> bool:
    """Return whether two lines may belong to one report by their times."""
    seconds = seconds_between(one, other)
    return seconds is None or abs(seconds) <= LONGEST_SECONDS


def seconds_between(one: Line, other: Line) -> float | None:
    """Return how much later the other line is, by the more precise clock; None if there is none."""
    if one.uptime_seconds is None or other.uptime_seconds is None:
        return _clock_between(one, other)
    by_uptime = other.uptime_seconds - one.uptime_seconds
    if 0 <= by_uptime < _NEXT_SECONDS:  # the clock was set; two boots seldom come so close
        return by_uptime
    return max(by_uptime, _clock_between(one, other) or 0.0, key=abs)


def _clock_between(one: Line, other: Line) -> float | None:
    if one.when == other.when:
        return 0.0 if one.when else None
    times = [moment_of(line.when) for line in (one, other)]
    if times[0] is not None and times[1] is not None:
        return times[1] - times[0]
    first, second = _TIME.search(one.when), _TIME.search(other.when)
    if first is None or second is None:
        return None
    dates = [_date(one.when, first), _date(other.when, second)]
    clocks = [int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]) for found in (first, second)]
    seconds = clocks[1] - clocks[0] + (0 if dates[0] == dates[1] else _DAY)
    return seconds if all(dates) else (seconds + _DAY // 2) % _DAY - _DAY // 2


@lru_cache(64)
def moment_of(when: str) -> float | None:
    """Return a time in seconds since 1970, this host's if it has no zone; None if only people can read it."""
    with suppress(ValueError):
        return float(when)
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(when.replace(",", ".")).timestamp()
    return None


_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:[.,]\d{1,9})?")


def _date(when: str, clock: re.Match[str]) -> str:
    return when[: clock.start()] + when[clock.end() :]
