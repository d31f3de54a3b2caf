"""Values that somebody else writes too: when to give way, and for how long."""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

TOLERATED = 5
"""Times a value may be healed inside WINDOW_SECONDS before oomguard backs off."""

WINDOW_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 1.0

_LIMIT = 10_000
"""Targets remembered at most; beyond it the oldest are forgotten, which only costs patience."""


class _Record:
    __slots__ = ("healed", "pause", "until")

    def __init__(self) -> None:
        self.healed: deque[float] = deque(maxlen=TOLERATED + 1)
        self.pause = 0.0
        self.until = 0.0


class Contention:
    """Counts how often each target had to be healed, and paces the next time."""

    def __init__(self, longest_pause_seconds: float) -> None:
        self.longest_pause_seconds = longest_pause_seconds
        self._records: dict[Hashable, _Record] = {}

    def healed(self, target: "Hashable", now: float) -> None:
        """Take note that `target` was put right at monotonic time `now`."""
        record = self._records.get(target)
        if record is None:
            while len(self._records) >= _LIMIT:
                del self._records[next(iter(self._records))]
            record = self._records[target] = _Record()
        record.healed.append(now)
        often = len(record.healed) > TOLERATED and now - record.healed[0] <= WINDOW_SECONDS
        if record.pause or often:
            record.pause = min(record.pause * 2 or FIRST_PAUSE_SECONDS, self.longest_pause_seconds)
            record.until = now + record.pause

    def is_paused(self, target: "Hashable", now: float) -> bool:
        """Tell whether `target` is to be left alone at `now`."""
        record = self._records.get(target)
        return record is not None and record.until > now

    def contended(self) -> "list[Hashable]":
        """Return the targets that are contended."""
        return [target for target, record in self._records.items() if record.pause]

    def next_retry(self, now: float) -> float | None:
        """Return when the first pause ends, or None."""
        return min((r.until for r in self._records.values() if r.until > now), default=None)

    def settle(self, now: float) -> "list[Hashable]":
        """Forget targets that stayed right for long enough; return those that were contended."""
        ended = []
        for target, record in list(self._records.items()):
            if now - max(record.healed[-1], record.until) > WINDOW_SECONDS:
                if record.pause:
                    ended.append(target)
                del self._records[target]
        return ended
