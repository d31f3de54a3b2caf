"""Processes that change their name or user so often that the kernel is told to drop these events.

A process can do either a million times a second, and each event takes longer to read than to cause. So
changes are polled for instead: those of muted processes once a second, and if everybody's renames are
dropped, by a pass. Forks and execs are never dropped.
"""

from collections import Counter

PROCESS_LIMIT = 50
"""Changes by one process in a second; with more, it is muted."""

TOTAL_LIMIT = 1000
"""Changes by all unmuted processes in a second; with more, all renames are dropped."""

MUTED_LIMIT = 64
"""Processes muted at once: the filter in the kernel lists each."""

MUTE_SECONDS = 10.0
LONGEST_MUTE_SECONDS = 80.0
"""How long everybody's renames are dropped; twice as long each time this soon happens again."""

LOOK_SECONDS = 1.0
"""How often muted processes are checked."""


class Noise:
    """Which events to drop: those of the pids in `muted`, and `all_renames`. `now` is monotonic time."""

    def __init__(self) -> None:
        self.muted: frozenset[int] = frozenset()
        self.all_renames = False
        self._until: dict[int, float] = {}
        self._all_until = float("-inf")
        self._all_seconds = MUTE_SECONDS
        self._since = 0.0
        self._counts: Counter[int] = Counter()
        self._total = 0

    @property
    def is_any(self) -> bool:
        """Whether anything is dropped."""
        return bool(self.muted) or self.all_renames

    def take(self, changed: list[int], now: float) -> bool:
        """Count a change by each pid in the list; return whether more events must be dropped from now on."""
        if now - self._since >= 1.0:
            self._since, self._total = now, 0
            self._counts.clear()
        muted = len(self._until)
        for pid, count in Counter(changed).items():
            if pid in self._until:
                continue  # from before it was muted
            before = self._counts[pid]
            self._counts[pid] = before + count
            self._total += min(count, max(0, PROCESS_LIMIT - before))
            if before + count > PROCESS_LIMIT and len(self._until) < MUTED_LIMIT:
                self._until[pid] = now + MUTE_SECONDS
        if self._total > TOTAL_LIMIT and not self.all_renames:
            is_soon = now - self._all_until < LONGEST_MUTE_SECONDS
            self._all_seconds = min(2 * self._all_seconds, LONGEST_MUTE_SECONDS) if is_soon else MUTE_SECONDS
            self._all_until = now + self._all_seconds
            self.all_renames = True
        elif len(self._until) == muted:
            return False
        self.muted = frozenset(self._until)
        return True

    def expire(self, now: float) -> bool:
        """Unmute what was muted for long enough; return whether there was any."""
        ended = [pid for pid, until in self._until.items() if until <= now]
        for pid in ended:
            del self._until[pid]
        self.muted = frozenset(self._until)
        was_all, self.all_renames = self.all_renames, self.all_renames and now < self._all_until
        return bool(ended) or was_all != self.all_renames
