"""When to write values that something else writes too, or that the kernel denies.

Any process can rewrite its own value, or open it for writing, as often as it likes, and inotify wakes the
daemon each time. So a value that costs too much *rests*: no event causes a write to it for a while, nor is
it watched if it is a process's. Each value has a limit, and so has each user, who can have any number of
processes. A pass corrects every process, resting or not, so a wrong value lasts no longer than until the next
pass.

What the kernel denied once, it will likely deny again: it is not tried again for 1 s, and twice as long after
each denial, up to the resync interval. Then the next event or pass tries.
"""

from collections.abc import Hashable

from oomguard.core.budget import Budget
from oomguard.core.typed import NamedTuple

TOLERATED = 5
"""Corrections of a value within WINDOW_SECONDS before oomguard backs off."""

TOLERATED_LOOKS = 60
"""How often within WINDOW_SECONDS a watch may make oomguard check a value that is right."""

WINDOW_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 1.0

USER_BURST = 600
USER_PER_SECOND = 10
"""Checks and corrections that the processes of one user may cause: at 0.2 to 0.4 ms each, 0.4 % of a CPU."""

_LIMIT = 2_000
"""Maximum number of targets remembered: 0.5 MiB of what they cost, and as much of what was denied. Beyond it
the oldest are forgotten, which is harmless: users have a limit of their own."""

_RESTING_LIMIT = 10_000
"""Maximum number of targets that rest: of a process, in the place of its watch."""


class _Tally:
    __slots__ = ("corrected", "last", "looks", "pause", "since", "until")

    def __init__(self, now: float) -> None:
        self.since = self.last = now
        self.corrected = 0
        self.looks = 0
        self.pause = 0.0
        self.until = 0.0


class _Denial(NamedTuple):
    until: float
    pause: float


class Backoff:
    """What each target cost lately, and which targets rest.

    A target is a sysctl's name or an Identity. `user` is the account for a process's cost
    (core.cgroup.budget_key); `now` is monotonic time.
    """

    def __init__(self, longest_pause_seconds: float) -> None:
        self.longest_pause_seconds = longest_pause_seconds
        self._tallies: dict[Hashable, _Tally] = {}
        self._users = Budget(capacity=USER_BURST, refill=USER_PER_SECOND)
        self.resting: dict[Hashable, float] = {}
        """By target, the time until which it is not watched."""
        self._rested: list[Hashable] = []
        self._denials: dict[tuple[Hashable, int], _Denial] = {}
        """By target and value."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing was denied, corrected or checked lately: then nothing has to wait."""
        return not (self._tallies or self._denials or self._users.has_spent)

    def corrected(self, target: Hashable, now: float, user: str | None = None) -> None:
        """Count a correction of `target`. `user` is None in a pass, because users cannot cause passes."""
        tally = self._tally(target, now)
        tally.corrected += 1
        if tally.pause:
            self._pause(target, tally, now)
        if user is not None:
            self._users.charge(user, 1, now)

    def looked(self, target: Hashable, now: float, user: str) -> None:
        """Count that a watch woke the daemon for `target`, which was right."""
        tally = self._tally(target, now)
        tally.looks += 1
        if tally.looks > TOLERATED_LOOKS or self._users.is_spent(user, now):
            self._rest(target, now + WINDOW_SECONDS)
        self._users.charge(user, 1, now)

    def must_wait(self, target: Hashable, now: float) -> bool:
        """Return whether `target` must not be corrected now: one correction too many starts a pause."""
        tally = self._tallies.get(target)
        if tally is None:
            return False
        if not tally.pause and tally.corrected >= TOLERATED and now - tally.since <= WINDOW_SECONDS:
            self._pause(target, tally, now)
        return tally.until > now

    def denied(self, target: Hashable, value: int, now: float) -> None:
        """Count that the kernel denied `target` this value, so that it is retried only after a pause."""
        known = self._denials.pop((target, value), None)
        while len(self._denials) >= _LIMIT:
            del self._denials[next(iter(self._denials))]
        pause = self._longer(0.0 if known is None else known.pause)
        self._denials[target, value] = _Denial(now + pause, pause)

    def is_denied(self, target: Hashable, value: int, now: float) -> bool:
        """Return whether the kernel denied `target` this value just now."""
        known = self._denials.get((target, value))
        return known is not None and known.until > now

    @property
    def limits_users(self) -> bool:
        """Whether a user may have spent what events may cause; if not, the user need not be known."""
        return self._users.has_spent

    def is_spent(self, target: Hashable, now: float, user: str) -> bool:
        """Return whether events must not cause a write to any process of `user`; `target` then rests."""
        spent = self._users.is_spent(user, now)
        if spent:
            self._rest(target, now + WINDOW_SECONDS)
        return spent

    def take_rested(self) -> list[Hashable]:
        """Return the targets that began to rest since the last call."""
        rested, self._rested = self._rested, []
        return rested

    def wake(self, now: float) -> list[Hashable]:
        """Return the targets that have rested for long enough and must be watched again."""
        woken = [target for target, until in self.resting.items() if until <= now]
        for target in woken:
            del self.resting[target]
        return woken

    def next_wake(self) -> float | None:
        """Return when `wake` will have something to return, or None."""
        return min(self.resting.values(), default=None)

    def is_contended(self, target: Hashable) -> bool:
        """Return whether `target` is contended."""
        tally = self._tallies.get(target)
        return tally is not None and tally.pause > 0

    def contended(self) -> list[Hashable]:
        """Return the targets that are contended."""
        return [target for target, tally in self._tallies.items() if tally.pause]

    def forget_rested(self, now: float) -> list[Hashable]:
        """Forget targets that stayed right for long enough; return those that were contended."""
        ended = []
        for target, tally in list(self._tallies.items()):
            if now - max(tally.last, tally.until) > WINDOW_SECONDS:
                if tally.pause:
                    ended.append(target)
                del self._tallies[target]
        for key, denial in list(self._denials.items()):
            if now - denial.until > WINDOW_SECONDS:
                del self._denials[key]
        self._users.forget_paid(now)
        return ended

    def _tally(self, target: Hashable, now: float) -> _Tally:
        tally = self._tallies.get(target)
        if tally is None:
            while len(self._tallies) >= _LIMIT:
                del self._tallies[next(iter(self._tallies))]
            tally = self._tallies[target] = _Tally(now)
        elif now - tally.since > WINDOW_SECONDS:
            tally.since, tally.corrected, tally.looks = now, 0, 0
        tally.last = now
        return tally

    def _pause(self, target: Hashable, tally: _Tally, now: float) -> None:
        tally.pause = self._longer(tally.pause)
        tally.until = now + tally.pause
        self._rest(target, tally.until)

    def _longer(self, pause: float) -> float:
        return min(pause * 2 or FIRST_PAUSE_SECONDS, self.longest_pause_seconds)

    def _rest(self, target: Hashable, until: float) -> None:
        if target not in self.resting:
            if len(self.resting) >= _RESTING_LIMIT:
                return
            self._rested.append(target)
        self.resting[target] = max(until, self.resting.get(target, 0.0))
