"""A time in which memory is short, or on the way to it."""

from oomguard.core.sample import FALLING_PERCENT, SHORT_PERCENT, Left, Sample

_FALL_PARTS = 1000
"""A fall by less than this part of all memory is noise."""

_VICTIMS_LIMIT = 15
CGROUPS_LIMIT = 64
"""Cgroups that are remembered."""


class Episode:
    """A time in which tasks stall for memory, or memory falls and would soon be gone; times are monotonic."""

    def __init__(self, now: float, *, has_stalled: bool) -> None:
        self.begun = self.active_at = now
        self.has_stalled = has_stalled
        self.is_short = self.is_calm = False
        """Whether the host is short, and whether the last look saw nothing fall, which can be long ago."""
        self._has_fallen = True
        self._least: dict[str, Left] = {}
        self.lowest: dict[str, Sample] = {}
        """By cgroup, "" for the host: of the samples in which it was short, the one with the least memory
        left."""
        self._killed: dict[str, list[str]] = {}

    def is_short_of(self, left: Left, cgroup: str = "") -> bool:
        """Return whether so little is left that the host, or this cgroup, is short of memory."""
        is_slow = not self.has_stalled and cgroup not in self.lowest
        return left.percent < (FALLING_PERCENT if is_slow else SHORT_PERCENT)

    def is_news(self, left: Left, cgroup: str = "") -> bool:
        """Return whether the host, or this cgroup, is short of memory for the first time."""
        return cgroup not in self.lowest and self.is_short_of(left, cgroup)

    def note_kill(self, victim: str, cgroup: str) -> None:
        """Note which process was killed, and which cgroup ran out, "" for the host."""
        if cgroup in self._killed or len(self._killed) <= CGROUPS_LIMIT:
            victims = self._killed.setdefault(cgroup, [])
            if len(victims) < _VICTIMS_LIMIT:
                victims.append(victim)

    def killed(self, cgroup: str) -> list[str]:
        """Return which processes were killed because the host or this cgroup ran out."""
        return self._killed.get(cgroup, [])

    def end_look(self) -> None:
        """Note that all samples of a look were taken."""
        self.is_calm, self._has_fallen = not self._has_fallen, False

    def take(self, sample: Sample, now: float) -> bool:
        """Note what is left of the host, or of a cgroup that is short; return whether it is new."""
        cgroup, left = sample.cgroup, sample.left
        least, lowest = self._least.get(cgroup), self.lowest.get(cgroup)
        if least is None and len(self._least) > CGROUPS_LIMIT:
            return False
        if least is None or left.kib < least.kib - left.total_kib // _FALL_PARTS:
            self._least[cgroup], self.active_at, self._has_fallen = left, now, True
        is_short = self.is_short_of(left, cgroup)
        if not cgroup:
            self.is_short = is_short
        if is_short and (lowest is None or left.kib < lowest.left.kib):
            self.lowest[cgroup] = sample
        return is_short and lowest is None
