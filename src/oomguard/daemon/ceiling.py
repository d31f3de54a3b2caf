"""The most CPU time that others can make the daemon use.

At a real-time priority, every microsecond that it spends is lost to everybody else on that CPU, and any user
can start, rename and rewrite processes as fast as a CPU allows. The unit forbids the daemon to change its own
scheduling class (RestrictRealtime=), so it pauses instead.

A bucket of CPU time is refilled at SHARE of the wall clock. A burst may empty it; then the daemon works only
as fast as the bucket refills. Time is an argument: both clocks in seconds, wall (monotonic) and CPU.
"""

LIMIT_PERCENT = 10
"""The share of a CPU to stay below once a burst is over."""

SHARE = 0.07
"""CPU time refilled each second. It is less than the limit, because a turn can use more than was left, and
a program on the same CPU should keep 90 % of it."""

CAPACITY_SECONDS = 5.0
"""CPU time of a burst: an exec bomb for 10 s, or the first pass over 50,000 processes (3 s)."""

_BURST_SECONDS = 10.0
"""However little the use is above the limit, a burst is over after about this time."""

_SOON_SECONDS = 0.1
_DEBT_SECONDS = 0.1
"""Do something at least this often, unless more than this is owed: one long turn would delay the next
programs until it is paid for."""

_WINDOW_SECONDS = 1.0
_RECOVERED_SECONDS = CAPACITY_SECONDS / 2


class Ceiling:
    """Decides when to pause. `is_reached` from when the bucket is empty until it is half full again."""

    def __init__(self, now: float, cpu: float) -> None:
        self.is_reached = False
        self.reached_at = 0.0
        """When that was, by the wall clock."""
        self._left = CAPACITY_SECONDS
        self._resume_at = 0.0
        self._now, self._cpu = now, cpu
        self._window_now, self._window_cpu = now, cpu

    def pause(self, now: float, cpu: float) -> float:
        """Account for the CPU time used so far; return how long to pause, mostly 0."""
        self._left += (now - self._now) * SHARE - (cpu - self._cpu)
        self._now, self._cpu = now, cpu
        if now - self._window_now >= _WINDOW_SECONDS:
            self._end_window(now, cpu)
        # Timers that run during a pause are charged too, but no attack is paid for long after its end.
        self._left = max(-CAPACITY_SECONDS, min(self._left, CAPACITY_SECONDS))
        if self._left < 0 and not self.is_reached:
            self.is_reached, self.reached_at = True, now
        elif self._left >= _RECOVERED_SECONDS:
            self.is_reached = False
        if self._left >= 0:
            self._resume_at = 0.0
            return 0.0
        if not self._resume_at:
            debt = -self._left
            self._resume_at = now + (
                debt / SHARE if debt > _DEBT_SECONDS else min(debt / SHARE, _SOON_SECONDS)
            )
        if now < self._resume_at:
            return self._resume_at - now
        self._resume_at = 0.0
        return 0.0

    def _end_window(self, now: float, cpu: float) -> None:
        """Charge a second above the limit as part of a burst, or twice the limit could last a minute."""
        seconds, used = now - self._window_now, cpu - self._window_cpu
        self._window_now, self._window_cpu = now, cpu
        if used * 100 > seconds * LIMIT_PERCENT and not self.is_reached:
            least = seconds * (CAPACITY_SECONDS / _BURST_SECONDS + SHARE)
            if self._left > 0:  # unused time is no debt: paying for it would take a pause of seconds
                self._left = max(0.0, self._left - max(0.0, least - used))
