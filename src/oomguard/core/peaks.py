"""The highest Committed_AS of the last days: a host that has just booted has promised little yet.

In modes 0 and 1, any user can get any amount promised. So a level counts only if it *lasted*, and after
ONCE_DAYS only if another day reached it, too. A single peak does not prevent strict accounting for a month,
but a regular one is remembered across reboots.

Days are counted from 1970. The clock may be wrong, for example early in the boot. So a day in the future
counts as recent, and only newer days replace older ones in the file.
"""

import json

from oomguard.core.typed import NamedTuple

KEPT_DAYS = 30
ONCE_DAYS = 7

LASTING_SECONDS = 300.0
"""A level has lasted if no sample in this time was lower."""

_GROWTH = 64
"""A day's level is stored again only if it rises by this share, because each time writes to the disk."""

_VERSION = 1
_DATE_LENGTH = len("2026-11-20")


class Day(NamedTuple):
    """The level that lasted on a day, the day's number, and its date as text."""

    number: int
    date: str
    committed_kib: int


class Lasting:
    """Finds the level that lasted: the lowest sample in LASTING_SECONDS."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, int]] = []

    def look(self, committed_kib: int, now: float) -> int | None:
        """Add a sample at the monotonic time `now`; return the level that lasted, None if it is too early.

        It needs two samples, however rare they are.
        """
        looks = self._looks
        looks.append((now, committed_kib))
        while len(looks) > 2 and now - looks[1][0] >= LASTING_SECONDS:
            del looks[0]
        if now - looks[0][0] < LASTING_SECONDS:
            return None
        return min(level for _, level in looks)


def note(days: "tuple[Day, ...]", today: Day) -> "tuple[Day, ...]":
    """Return the days with today's level, or the same ones if it is stored already."""
    known = next((day for day in days if day.number == today.number), None)
    if known is None:
        return (*days, today)[-KEPT_DAYS:]
    if today.committed_kib <= known.committed_kib + known.committed_kib // _GROWTH:
        return days
    return tuple([today if day is known else day for day in days])


def highest(days: "tuple[Day, ...]", today: int) -> Day | None:
    """Return the day with the level that counts: of the last days, or of two days with another between."""
    levels = sorted(
        (day for day in days if today - day.number <= KEPT_DAYS), key=lambda day: -day.committed_kib
    )
    # One that lasted over midnight is of two days, too.
    others = [day for day in levels[1:] if abs(day.number - levels[0].number) > 1]
    counted = [day for day in levels if today - day.number <= ONCE_DAYS][:1] + others[:1]
    return max(counted, key=lambda day: day.committed_kib, default=None)


def encode(days: "tuple[Day, ...]") -> bytes:
    """Return the file's content."""
    rows = [day._asdict() for day in days]
    return json.dumps({"version": _VERSION, "days": rows}, indent=1).encode("ascii") + b"\n"


def decode(raw: bytes) -> "tuple[Day, ...]":
    """Return the days of a file. ValueError: it is damaged."""
    try:
        document = json.loads(raw)
        days = tuple([Day(**row) for row in document["days"]])
        if document["version"] == _VERSION and all(map(_is_sound, days)):
            return days[-KEPT_DAYS:]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise ValueError("its content is damaged")


def _is_sound(day: Day) -> bool:
    if type(day.number) is not int or type(day.committed_kib) is not int or type(day.date) is not str:
        return False
    return day.committed_kib >= 0 and len(day.date) == _DATE_LENGTH and day.date.isprintable()
