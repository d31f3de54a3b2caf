"""The memory of a host at one moment: what was left, and the processes that used most."""

from collections.abc import Iterable, Mapping

from oomguard.core.typed import NamedTuple

HOLDERS = 15
"""Processes in a sample: those with the highest badness."""

SHORT_PERCENT, FALLING_PERCENT = 20, 10
"""Memory is short if less than the first share is left and tasks stall, or less than the second and it
falls."""

_LOOK_PERCENT = 50
"""While more than this is left, a fall is ignored: some programs take much at once, and then no more."""

NOTICED_KIB = 1024
"""Less growth is not reported."""

_MINUTE = 60.0
_RECENT_SECONDS = 600

_COMPARE_SECONDS = 10.0
_FAST_SECONDS = 45.0
"""What would be gone within this time if it kept falling as since it was last read, may be gone before it is
read again some 15 s later: what is new began to fall in between."""

_TICKS = 100
"""A second, in the times that processes started (USER_HZ)."""

_GAP_SECONDS = 120
"""One sample a minute is normal. After a longer gap, what happened before a moment is unknown."""

_CLOCKS_SECONDS, _DRIFT = 5.0, 0.0002
"""How much the boot times of two clocks may differ: nothing corrects the clock of the kernel's log."""


class Holder(NamedTuple):
    """A process with a high badness. `comm` and `unit` are printable; `rule` is "" if none matches it.

    The start time is 0 if it could not be read in time; then the memory is an estimate.
    """

    pid: int
    start_time_ticks: int
    comm: str
    unit: str
    rss_kib: int
    swap_kib: int
    oom_score_adj: int
    rule: str = ""

    @property
    def held_kib(self) -> int:
        """Its memory in RAM and swap."""
        return self.rss_kib + self.swap_kib

    @property
    def label(self) -> str:
        """Its name and pid: `chrome[1234]`."""
        return f"{self.comm}[{self.pid}]"

    def is_same(self, other: "Holder") -> bool:
        """Return whether both are the same process at two moments."""
        return (self.pid, self.start_time_ticks) == (other.pid, other.start_time_ticks)


class Left(NamedTuple):
    """Memory that is left: `available_kib` of `total_kib`, and `swap_kib` of `swap_total_kib`."""

    available_kib: int
    total_kib: int
    swap_kib: int = 0
    swap_total_kib: int = 0

    @property
    def kib(self) -> int:
        """RAM and swap that are left."""
        return self.available_kib + self.swap_kib

    @property
    def percent(self) -> float:
        """Percent of RAM and swap that are left."""
        return self.kib * 100 / max(self.total_kib + self.swap_total_kib, 1)

    @property
    def untouched(self) -> "Left":
        """The same amounts, with everything left."""
        return Left(self.total_kib, self.total_kib, self.swap_total_kib, self.swap_total_kib)

    def would_be_gone(self, before: "Left", seconds: float, within: float) -> bool:
        """Return whether nothing would be left `within` seconds if it kept falling as in these `seconds`."""
        return self.kib * seconds < (before.kib - self.kib) * within


class Sample(NamedTuple):
    """One moment. `at` is seconds since 1970, `booted` seconds since boot without those `suspended`.

    `booted` is CLOCK_MONOTONIC; start times of processes are CLOCK_BOOTTIME, the sum of both.
    `stalled_percent` is the share of the last 10 s in which some task stalled for memory, None without PSI.
    `holders` are in the kernel's order, the first victim first. `cgroup` is the one that is short; "" is the
    host, or none.
    """

    at: float
    booted: float
    left: Left
    committed_kib: int
    stalled_percent: float | None
    holders: tuple[Holder, ...]
    cgroup: str = ""
    suspended: float = 0.0


class Trend:
    """Compares what is left of the host and of cgroups with what was left about a pass ago."""

    def __init__(self) -> None:
        self.at = 0.0
        self._before: dict[str, Left] = {}
        """By cgroup; of what was short, the least since it was not: what stays short does not fall again."""
        self.latest: dict[str, tuple[float, Left]] = {}
        """By cgroup, what was read last, and when: some of it maybe at a glance."""
        self.read_at = 0.0
        """When any of it was."""

    def is_due(self, now: float) -> bool:
        """Return whether enough time has passed: a short time shows no trend."""
        return now - self.at >= _COMPARE_SECONDS

    def is_falling(self, now: float, cgroup: str, left: Left) -> bool:
        """Return whether nothing would be left soon."""
        # A cgroup that is new since the last time started empty.
        first = left.untouched if self._before else left
        earlier = self._before.get(cgroup) or first
        if left.percent < _LOOK_PERCENT and left.would_be_gone(earlier, now - self.at, _MINUTE):
            return True
        at, latest = self.latest.get(cgroup) or (self.read_at, first)
        if latest.percent < SHORT_PERCENT or not _COMPARE_SECONDS <= now - at <= _FAST_SECONDS:
            return False
        return left.would_be_gone(latest, now - at, _FAST_SECONDS)

    def glanced(self, now: float, lefts: Mapping[str, Left]) -> None:
        """Remember what was read of some cgroups."""
        self.read_at = now
        self.latest.update({cgroup: (now, left) for cgroup, left in lefts.items()})

    def falling(self, now: float, lefts: Mapping[str, Left]) -> list[str]:
        """Return what is falling, the least left first; remember these values."""
        found = [cgroup for cgroup, left in lefts.items() if self.is_falling(now, cgroup, left)]
        before, self.at, self._before, self.latest = self._before, now, {}, {}
        self.glanced(now, lefts)
        for cgroup, left in lefts.items():
            earlier = before.get(cgroup, left)
            is_least = left.percent >= SHORT_PERCENT or left.kib < earlier.kib
            self._before[cgroup] = left if is_least else earlier
        return sorted(found, key=lambda cgroup: lefts[cgroup].percent)


def with_starts(holders: tuple[Holder, ...], earlier: Sample | None) -> tuple[Holder, ...]:
    """Return the processes, with the start times of the earlier sample where they could not be read."""
    starts = {(one.pid, one.comm): one.start_time_ticks for one in (earlier.holders if earlier else ())}
    return tuple(
        [
            one if one.start_time_ticks else one._replace(start_time_ticks=starts.get((one.pid, one.comm), 0))
            for one in holders
        ]
    )


class Growth(NamedTuple):
    """How the memory of a process changed over a time."""

    holder: Holder
    before_kib: int
    seconds: float

    @property
    def kib(self) -> int:
        """The change in KiB; negative if it shrank."""
        return self.holder.held_kib - self.before_kib


def growth(samples: Iterable[Sample], *, gone: bool = False) -> list[Growth]:
    """Return how processes grew up to the first of these samples, those that grew most first.

    The newest sample is the first. With `gone`, also those that only earlier samples have, up to their last.
    A process that started after the oldest sample grew from nothing. An older one with a single sample held
    too little before; it is left out.
    """
    last: dict[tuple[int, int], tuple[Holder, float]] = {}
    first: dict[tuple[int, int], tuple[int, float, float]] = {}
    newest, oldest = -1.0, 0.0
    for sample in samples:
        oldest = sample.booted
        newest = max(newest, oldest)
        for holder in sample.holders:
            identity = (holder.pid, holder.start_time_ticks)
            if gone or oldest == newest:  # those of cgroups have the moment of the host's
                last.setdefault(identity, (holder, oldest))
            if identity in last:
                first[identity] = (holder.held_kib, oldest, sample.suspended)
    found = []
    for identity, (holder, booted) in last.items():
        before_kib, begun, suspended = first[identity]
        started = holder.start_time_ticks / _TICKS - suspended
        if oldest < started < begun:
            before_kib, begun = 0, started
        if booted > begun:
            found.append(Growth(holder, before_kib, booted - begun))
    return sorted(found, key=lambda one: one.kib, reverse=True)


def next_victim(sample: Sample, earlier: Sample | None) -> Holder | None:
    """Return the process that the kernel would kill once nothing is left, None if none is known.

    Until then, processes are taken to share what is left as they grew since the earlier sample: one with a
    high `oom_score_adj` may be the first now, and not be it any more when another has grown.
    """
    if not sample.holders:
        return None
    grown = growth([sample, earlier]) if earlier is not None else []
    rates = {one.holder: one.kib / one.seconds for one in grown if one.kib >= NOTICED_KIB}
    each, left = sum(rates.values()) or 1.0, sample.left

    def at_the_end(holder: Holder) -> float:
        adjusted = holder.oom_score_adj * (left.total_kib + left.swap_total_kib) / 1000
        return holder.held_kib + adjusted + left.kib * rates.get(holder, 0.0) / each

    first, *others = sample.holders
    slowest = rates.get(first, 0.0)
    return max([first, *[one for one in others if rates.get(one, 0.0) > slowest]], key=at_the_end)


def is_recent(sample: Sample, booted: float) -> bool:
    """Return whether a sample is of the last ten minutes before a moment of this boot."""
    return 0 <= booted - sample.booted <= _RECENT_SECONDS


def redated(samples: Iterable[Sample], at: float, booted: float, *, has_slept: bool) -> list[Sample]:
    """Return samples of this boot with the times that a clock as of now would have shown.

    The clock may have been set since. Time since boot does not count a suspended host (`has_slept`): then a
    sample is as old as its own time says, but no younger than what the host was awake for.
    """
    found = []
    for one in samples:
        latest = at - (booted - one.booted)
        is_known = one.booted <= booted and (not has_slept or latest < one.at)
        found.append(one._replace(at=latest) if is_known else one)
    return found


def before(samples: Iterable[Sample], at: float, booted: float | None) -> list[Sample]:
    """Return the samples of the ten minutes before a moment, if the last of them is recent.

    `booted` is the time in the log, None if it has none. Samples whose clocks differ from those of the moment
    are left out: they are from another boot, or from before the time was set or the host was suspended.
    """
    found = [one for one in samples if 0 <= at - one.at <= _RECENT_SECONDS]
    if not found or at - found[-1].at > _GAP_SECONDS:
        return []
    boot = found[-1].at - found[-1].booted if booted is None else at - booted
    drift = _CLOCKS_SECONDS + found[-1].booted * _DRIFT
    return [one for one in found if abs(one.at - one.booted - boot) <= drift]
