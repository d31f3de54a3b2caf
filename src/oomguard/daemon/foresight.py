"""Notices that memory is running out before the kernel kills, and records what uses it.

Nothing polls: a trigger of the kernel (kernel/pressure.py) wakes the daemon when tasks stall for memory. Then
it checks every second until they have not stalled for a while. Each pass ends with a check, too: a leak
stalls nobody until almost nothing is left, and in a cgroup without swap nobody at all. But the check shows
that memory would be gone by the next pass. Between passes, when the daemon is awake anyway (with systemd,
for its watchdog), it looks only at how much is left, and for new cgroups if their number has changed.
"""

import os
import select
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress

from oomguard.core.episode import CGROUPS_LIMIT, Episode
from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import Memory
from oomguard.core.policy import Policy, PressureLimit
from oomguard.core.rule import Rule
from oomguard.core.sample import (
    SHORT_PERCENT,
    Growth,
    Holder,
    Left,
    Sample,
    Trend,
    growth,
    next_victim,
    with_starts,
)
from oomguard.core.text import printable
from oomguard.daemon.loop import Loop
from oomguard.daemon.sampler import Sampler
from oomguard.daemon.status_writer import StatusWriter
from oomguard.kernel.floor import Privilege
from oomguard.kernel.memcg import Memcg, count_cgroups, open_memcg
from oomguard.kernel.pressure import (
    limited_cgroups,
    observe_left,
    observe_stalled_percent,
    open_trigger,
    why_not,
)
from oomguard.kernel.proc_files import SHORTAGE
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import observe_memory
from oomguard.kernel.usage import PAGE_KIB
from oomguard.oom.badness import global_pages
from oomguard.reconcile.flight_recorder import Recorder
from oomguard.report.reporter import Degradations, Reporter
from oomguard.report.shortage_entries import commit_limit_entry, over_entry, short_entry
from oomguard.report.status_file import PressureStatus

_TIMER = "sample"
_SAMPLE_SECONDS = 1.0

_FULL_SHARE, _CPU_SHARE = 0.005, 0.02
"""Reading every process takes at most the first share of a CPU. In between, only those of the last sample
are read, and less often than every second if that takes more than the second share: then only what is left
is read each second, until that is news."""

_CALM_SECONDS = 10.0
"""An episode ends when memory is not short, and for this long no task has stalled and memory has not
fallen."""

_NEAR_PERCENT, _FAR_PERCENT = 95, 90
"""Shares of CommitLimit: warn above the first, and again only after Committed_AS was below the second."""

_CGROUP_PERCENT = 1.0
"""Cgroups are followed from this pressure on: the kernel's average rises slowly."""

_REPEAT_SECONDS = 600.0
"""At most one warning about a cgroup in this time: its processes can stall whenever they like."""

_GLANCE_SECONDS = 14.0
"""The least time between two glances: a little less than systemd lets pass (WatchdogSec=30s)."""

_CLOSE_LIMIT = 8
"""Cgroups that are checked each second, of those that are short or fall; or at a glance."""


class Foresight:
    """Checks, records and warns. `rule_of` returns the rule that matches a process."""

    def __init__(
        self,
        loop: Loop,
        procfs: Procfs,
        reporter: Reporter,
        degradations: Degradations,
        status: StatusWriter,
        recorder: Recorder,
        *,
        rule_of: Callable[[int], Rule | None],
    ) -> None:
        self._loop = loop
        self._procfs = procfs
        self._reporter = reporter
        self._degradations = degradations
        self._status = status
        self._recorder = recorder
        self._sampler = Sampler(procfs, rule_of)
        self._fd = -1
        self._limit = PressureLimit(some_percent=0)
        self._records = False
        """Whether the policy wants a recorder."""
        self._look: Iterator[None] | None = None
        self._spent = self._full_at = self._again_at = 0.0
        self.glance_at = time.monotonic() + _GLANCE_SECONDS
        """When the next glance is due."""
        self._is_full = self._is_glance = self._is_near = False
        self.episode: Episode | None = None
        self._falling: list[Memcg] = []
        """Cgroups that fill up in this episode."""
        self._root_memcg: Memcg | None = None
        self._fullest: list[Memcg] = []
        """Of those with a limit, the ones that had the least left."""
        self._cgroups = 0
        """How many there were when those were chosen."""
        self.last: Sample | None = None
        self._earlier: Sample | None = None
        """The last one before the episode, or before the last one."""
        self.trend = Trend()
        self._warned: dict[str, float] = {}
        """When each cgroup was last warned of."""
        self._growth: dict[int, Growth] | None = None
        """How processes grew until the last sample, None if not computed since."""
        self._episodes = 0
        self._seconds = 0.0
        loop.define(_TIMER, self.due)

    def adopt(self, policy: Policy, privilege: Privilege) -> None:
        """Use the settings of a policy."""
        self._records = policy.recorder
        if not policy.recorder:
            self._recorder.close()
        self._open_recorder()
        limit = policy.pressure
        if limit == self._limit and self._fd >= 0:
            return
        self.close()
        self._limit = limit
        self._degradations.set("pressure")
        if not limit.some_percent:
            self.episode = None  # its end may be seen by no check
            self._loop.set(_TIMER, None)
            return
        try:
            self._fd = open_trigger(self._procfs, limit.some_percent, limit.over_seconds, privilege)
            self._loop.watch(self._fd, self._stalled, select.EPOLLPRI)
        except OSError as error:
            self.close()
            self._degradations.set(
                "pressure", f"oomguard cannot warn before memory runs out: {why_not(error)}"
            )

    def _open_recorder(self) -> None:
        """Open it unless it is open: the disk may have been full, or its file removed."""
        reason = self._recorder.open() if self._records else ""
        self._degradations.set("recorder", reason and f"memory use is not recorded: {reason}")

    def close(self) -> None:
        """Stop watching for pressure."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1

    @property
    def status(self) -> PressureStatus:
        """The part of the status file about memory."""
        is_short = self.episode is not None and self.episode.is_short
        last = self.last
        first = None if last is None else next_victim(last, self._earlier if is_short else None)
        found = PressureStatus(is_short, self._episodes, self._seconds, first.rule if first else "")
        if not is_short or last is None:
            return found
        return found._replace(
            next_process=first.label if first else "", available_kib=last.left.available_kib
        )

    @property
    def is_busy(self) -> bool:
        """Whether `work` has something to do."""
        return self._look is not None

    @property
    def is_urgent(self) -> bool:
        """Whether that must not wait until there is nothing else to do: memory runs out in seconds."""
        return self._look is not None and self.episode is not None

    def promised(self, memory: Memory) -> None:
        """Warn if strict accounting will soon deny memory: then nothing stalls, and nothing is killed."""
        percent = memory.committed_kib * 100 // max(memory.commit_limit_kib, 1)
        if percent >= _NEAR_PERCENT and not self._is_near:
            self._reporter.sink.write(commit_limit_entry(memory))
        if percent >= _NEAR_PERCENT or percent < _FAR_PERCENT:
            self._is_near = percent >= _NEAR_PERCENT

    def pass_ended(self) -> None:
        """Check every process, as the pass has just done, unless the policy turned both uses off."""
        self._open_recorder()
        if self._limit.some_percent or self._recorder.is_open:
            self._begin(is_full=True)
        else:  # nothing else would end what the last check found
            self.last = None
            self._degradations.set("looks")

    def awake(self, now: float) -> None:
        """Look at how much is left, and at every process if that would be gone soon.

        Called whenever something woke the daemon; does nothing if the last time was just before.
        """
        if now >= self.glance_at and self._limit.some_percent and self.episode is None:
            self.glance_at = now + _GLANCE_SECONDS
            self._begin(is_glance=True)

    def killed(self, pid: int, comm: str, cgroup: str) -> Growth | None:
        """Record a kill by the kernel; return how the process had grown, None if unknown."""
        if self.episode is not None:
            self.episode.note_kill(f"{printable(comm)}[{pid}]", printable(cgroup))
        if self._growth is None:  # once a sample: a cgroup at its limit may lose a process every few ms
            self._growth = {one.holder.pid: one for one in self._grown(time.monotonic())}
        found = self._growth.get(pid)
        return found if found is not None and found.holder.comm == printable(comm) else None

    def work(self, end: float) -> None:
        """Continue with a check until `end`."""
        begun = time.thread_time()  # of our own: on a busy host, looks must not get rare
        try:
            for _ in self._look or ():
                if time.monotonic() >= end:
                    break
            else:
                self._look = None
                if not self._is_glance:  # which reads little of what failed
                    self._degradations.set("looks")
        except OSError as error:  # enforcing the policy comes first
            self._look = None
            if error.errno not in SHORTAGE:
                self._degradations.set("looks", f"oomguard cannot see what holds memory: {error.strerror}")
        self._spent += time.thread_time() - begun
        if self._look is not None or self._is_glance:
            return
        now = time.monotonic()
        if self.episode is not None:
            self.episode.end_look()
        if self._is_full:
            self._full_at = now + self._spent / _FULL_SHARE
        else:
            self._again_at = now + self._spent / _CPU_SHARE

    def _stalled(self) -> None:
        now = time.monotonic()
        if self.episode is None:
            self._begin_episode(now, has_stalled=True)
        else:
            self.episode.has_stalled, self.episode.active_at = True, now
            self._loop.set_earlier(_TIMER, now + _SAMPLE_SECONDS)

    def _begin_episode(self, now: float, *, has_stalled: bool) -> None:
        self.episode, self._falling = Episode(now, has_stalled=has_stalled), []
        if has_stalled:  # otherwise the last sample is the episode's first
            self._earlier = self.last
        self._loop.set(_TIMER, now)

    def due(self, now: float) -> None:
        """Continue an episode, or end it. The timer calls this."""
        episode = self.episode
        if episode is None:
            return
        self._loop.set(_TIMER, None)
        if now - episode.active_at < _CALM_SECONDS or not episode.is_calm:
            self._loop.set(_TIMER, now + _SAMPLE_SECONDS)
            if now >= self._again_at:
                self._begin(is_full=now >= self._full_at)
            else:
                self._begin(is_glance=True)
        elif not episode.is_short:
            self._end(episode, now)
        # Otherwise a pass finds that memory is back, or tasks stall again.

    def _end(self, episode: Episode, now: float) -> None:
        self.episode = None
        seconds = episode.active_at - episode.begun + _SAMPLE_SECONDS
        self._episodes += 1
        self._seconds += seconds
        self._status.request(now)
        for cgroup, lowest in episode.lowest.items():
            if not cgroup or self._warned.get(cgroup, 0.0) >= episode.begun:
                self._reporter.sink.write(over_entry(lowest, seconds, episode.killed(cgroup)))

    def _begin(self, *, is_full: bool = False, is_glance: bool = False) -> None:
        if self._look is None or (self._is_glance and not is_glance):
            self._spent, self._is_full, self._is_glance = 0.0, is_full, is_glance
            self._look = self._glancing() if is_glance else self._looking()

    def _glancing(self) -> Iterator[None]:
        """Read only what is left; go on to a sample if that is news."""
        memory = observe_memory(self._procfs)
        if memory is not None and (yield from self._is_worth_a_look(left_of(memory))):
            self._is_glance = False
            yield from self._looking()

    def _is_worth_a_look(self, host: Left) -> Generator[None, None, bool]:
        """Return whether something falls, or in an episode has become short; yield after each cgroup."""
        episode, now = self.episode, time.monotonic()
        if episode is not None:
            lefts = [("", host), *((printable(one.path), observe_left(one, host)) for one in self._falling)]
            return any(left is not None and episode.is_news(left, cgroup) for cgroup, left in lefts)
        if not self.trend.is_due(now):
            return False
        limited = yield from self._close_limits(host)
        rooms = {"": host} | {memcg.path: left for memcg, left in limited}
        self._is_full = any(self.trend.is_falling(now, cgroup, left) for cgroup, left in rooms.items())
        if not self._is_full:  # otherwise all are compared next, with what they were
            self.trend.glanced(now, rooms)
        return self._is_full

    def _looking(self) -> Iterator[None]:
        """Take a sample, and yield after each process."""
        memory = observe_memory(self._procfs)
        if memory is None:
            return  # /proc has only processes (`subset=pid`)
        last, was_short = self.last, self._is_first_short(memory)
        self._is_full |= last is None or was_short
        pids = None if last is None or self._is_full else [one.pid for one in last.holders]
        holders, memory = yield from self._read(pids, memory)
        if self._is_first_short(memory):
            if not was_short:  # what has started since may be the first victim, which the warning names
                self._is_full = True
                holders, memory = yield from self._read(None, memory)
            # Those that grow have grown while the others were read.
            holders, memory = yield from self._read([one.pid for one in holders], memory)
        left, stalled = left_of(memory), observe_stalled_percent(self._procfs)
        at, booted = time.time(), time.monotonic()
        suspended = round(time.clock_gettime(time.CLOCK_BOOTTIME) - booted, 2)
        host = Sample(at, booted, left, memory.committed_kib, stalled, holders, suspended=suspended)
        if self.episode is None:
            self._earlier = self.last
        self.last, self._growth = host, None
        self._take(host)
        if self._limit.some_percent and self._is_full and self.trend.is_due(host.booted):
            yield from self._compare(host)
        if self.episode is None:
            return
        closer = {memcg: observe_left(memcg, left) for memcg in self._falling}
        if self.episode.has_stalled and (root := self._root()) is not None:
            found = yield from limited_cgroups(root, left, stalled_percent=_CGROUP_PERCENT)
            closer |= {memcg: room for memcg, room in found if room.percent < SHORT_PERCENT}
        for memcg, before in list(closer.items())[:_CLOSE_LIMIT]:
            if before is None:
                continue  # it was just removed
            holders = yield from self._sampler.members(memcg, before.total_kib)
            if (room := observe_left(memcg, left)) is not None:
                holders = with_starts(holders, host)
                self._take(host._replace(left=room, holders=holders, cgroup=printable(memcg.path)))

    def _read(
        self, pids: list[int] | None, memory: Memory
    ) -> Generator[None, None, tuple[tuple[Holder, ...], Memory]]:
        """Return the first victims of these processes, or of all, and the memory after reading them."""
        pages = global_pages(memory.total_kib, memory.swap_total_kib, page_kib=PAGE_KIB)
        holders = yield from self._sampler.holders(self._procfs.pids() if pids is None else pids, pages)
        holders = with_starts(holders, self.last)
        return holders, observe_memory(self._procfs) or memory  # the kernel may have killed meanwhile

    def _is_first_short(self, memory: Memory) -> bool:
        """Return whether the host is short of memory for the first time in an episode."""
        return self.episode is not None and self.episode.is_news(left_of(memory))

    def _compare(self, host: Sample) -> Iterator[None]:
        """Follow what would soon be gone: the host's memory, or that of a cgroup with a limit."""
        limited = yield from self._all_limits(host.left)
        memcgs = {memcg.path: memcg for memcg, _ in limited}
        lefts = {"": host.left} | {memcg.path: left for memcg, left in limited}
        if not (falling := self.trend.falling(host.booted, lefts)):
            return
        if self.episode is None:
            self._begin_episode(host.booted, has_stalled=False)
        found = [memcgs[path] for path in falling if path]
        self._falling = list(dict.fromkeys([*found, *self._falling]))[:_CLOSE_LIMIT]

    def _close_limits(self, host: Left) -> Generator[None, None, list[tuple[Memcg, Left]]]:
        """Return what is left in the fullest cgroups; in all that have a limit if some may be new."""
        root, found = self._root(), []
        if root is not None and count_cgroups(self._procfs, root) != self._cgroups:
            return (yield from self._all_limits(host))
        for memcg in self._fullest:
            if (left := observe_left(memcg, host)) is not None:
                found.append((memcg, left))
            yield
        return found

    def _all_limits(self, host: Left) -> Generator[None, None, list[tuple[Memcg, Left]]]:
        """Return what is left in each cgroup that has a limit, and remember the fullest."""
        root = self._root()
        if root is None:
            return []
        self._cgroups = count_cgroups(self._procfs, root)
        limited = yield from limited_cgroups(root, host)
        limited.sort(key=lambda one: one[1].percent)
        self._fullest = [memcg for memcg, _ in limited[:_CLOSE_LIMIT]]
        return limited

    def _root(self) -> Memcg | None:
        """Return the root of all memory cgroups, None without any; a search can take 0.2 s."""
        if self._root_memcg is None:
            with suppress(OomguardError):
                self._root_memcg = open_memcg(self._procfs, "/")
        return self._root_memcg

    def _take(self, sample: Sample) -> None:
        now, episode = time.monotonic(), self.episode
        try:
            self._recorder.record(sample, in_episode=episode is not None and self._loop.is_set(_TIMER))
        except OSError as error:
            self._recorder.close()
            self._degradations.set("recorder", f"memory use is no longer recorded: {error.strerror}")
        if episode is None:
            return
        if episode.take(sample, now) and self._is_news(sample.cgroup, now):
            self._status.request(now)
            stalled = self._limit if episode.has_stalled else None
            victim = next_victim(sample, self._earlier)
            grown = next((one for one in self._grown(sample.booted) if one.holder == victim), None)
            self._reporter.sink.write(short_entry(sample, victim, grown, stalled))
        elif not episode.is_short and not self._loop.is_set(_TIMER):
            self._end(episode, now)

    def _grown(self, booted: float) -> list[Growth]:
        """Return how processes grew in the ten minutes before a moment; [] if that cannot be read."""
        with suppress(OSError):
            return growth(self._recorder.recent(booted))
        return []

    def _is_news(self, cgroup: str, now: float) -> bool:
        """Return whether to warn: about the host once an episode, about a cgroup only every few minutes."""
        if not cgroup:
            return True
        if now - self._warned.get(cgroup, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        if len(self._warned) >= CGROUPS_LIMIT:
            del self._warned[min(self._warned, key=self._warned.__getitem__)]
        self._warned[cgroup] = now
        return True


def left_of(memory: Memory) -> Left:
    """Return what is left of a host."""
    return Left(memory.available_kib, memory.total_kib, memory.swap_free_kib, memory.swap_total_kib)
