"""Which values are watched: the sysctls, and those of managed processes that have lived for a while."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from oomguard.core.change import Outcome, SetOomScoreAdj
from oomguard.core.process import Identity, UnknownFactError
from oomguard.daemon.drift import DriftWatch
from oomguard.daemon.loop import Loop
from oomguard.daemon.work_queue import SLICE_PROCESSES, WorkQueue
from oomguard.reconcile.reconciler import Reconciler
from oomguard.report.reporter import Degradations

WATCH_AGE_SECONDS = 3.0
WATCH_AGE_TICKS = WATCH_AGE_SECONDS * os.sysconf("SC_CLK_TCK")
"""A process gets a watch after this time."""

_LOST = "the kernel dropped inotify events (fs.inotify.max_queued_events)"


class Watching:
    """Sets watches in slices, queues what they report, and drops those on contended values.

    `sysctls_written` is called when something wrote a sysctl, `lost` when reports were lost, with the reason.
    """

    def __init__(
        self,
        loop: Loop,
        queue: WorkQueue,
        reconciler: Reconciler,
        degradations: Degradations,
        *,
        sysctls_written: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._procfs = reconciler.procfs
        self._queue = queue
        self._reconciler = reconciler
        self._degradations = degradations
        self._sysctls_written = sysctls_written
        self._lost = lost
        self.drift = DriftWatch(reconciler.procfs)
        self._unwatched: list[int] = []
        loop.define("watch", lambda _: self._list_unwatched())
        loop.define("wake", self._wake)
        self._listen()

    @property
    def is_busy(self) -> bool:
        """Whether `work` has something to do."""
        return bool(self._unwatched)

    def watch_sysctls(self, names: set[str]) -> None:
        """Watch exactly these sysctls, which this kernel has, as far as there is room."""
        self.drift.watch_sysctls(names)
        if self.drift.full and not self.drift.watches_sysctls(names):
            self._report_limit()

    def plan(self, now: float) -> None:
        """Watch new managed processes once they have lived for long enough."""
        if self._reconciler.managed.matched > self.drift.processes and not self.drift.full:
            self._loop.set_earlier("watch", now + WATCH_AGE_SECONDS)

    def work(self, now: float) -> None:
        """Set some of these watches, and drop some of processes that are no longer managed."""
        batch, self._unwatched[-SLICE_PROCESSES:] = self._unwatched[-SLICE_PROCESSES:], []
        youngest = self._procfs.now_ticks() - WATCH_AGE_TICKS
        for pid in batch:
            if self._reconciler.managed.rule(pid) is None:
                self.drift.forget(pid)
                self.plan(now)
                continue
            try:
                identity = self._procfs.identity(pid)
            except UnknownFactError:
                continue  # until the next pass
            if identity is None:
                self._reconciler.managed.on_exit(pid)
            elif identity.start_time_ticks <= youngest:
                self.drift.watch_process(identity, yields=not self._reconciler.ledger.protects(pid))
                self._queue.urgent.add(pid)  # the watch does not report a write from just before it
            else:
                self._loop.set_earlier("watch", now + WATCH_AGE_SECONDS)
        if self.drift.full:
            self._unwatched.clear()
            self._report_limit()

    def discount(self, outcomes: Iterable[Outcome]) -> None:
        """Drop what the watches report of our own writes, unless something else wrote, too.

        One report may stand for several writes, so each value is read after the reports: a write before that
        shows in it, and one after it is reported later.
        """
        written = {
            outcome.change.identity.pid: outcome.change.after
            for outcome in outcomes
            if isinstance(outcome.change, SetOomScoreAdj)
            and outcome.result == "applied"
            and self.drift.watches(outcome.change.identity.pid)
        }
        if written:
            self._receive()
        for pid, value in written.items():
            with suppress(OSError):  # gone, or no descriptors: then the process is checked again
                if int(self._procfs.read(f"{pid}/oom_score_adj", 16)) == value:
                    self._queue.drifting.discard(pid)

    def rest(self) -> None:
        """Drop for a while the watches on values that cost too much."""
        rested = self._reconciler.backoff.take_rested()
        for target in rested:
            if isinstance(target, Identity):
                self.drift.release(target)
        if rested:
            self._wake_later()

    def end_pass(self, now: float) -> None:
        """Drop in slices the watches on what is no longer managed, and retry what failed for lack of room.

        A process that has the pid of an earlier one gets a watch of its own: it may have needed no write.
        """
        if not self.drift.full:  # also at the last try
            self._degradations.set("watches")
        known = self._reconciler.managed.known.items()
        starts = {pid: one.start_time_ticks for pid, one in known if one.rule is not None}
        self._unwatched += self.drift.others(starts)
        self.drift.retry()
        self._listen()
        self.plan(now)

    def clear(self) -> None:
        """Drop the watches on all processes."""
        self._unwatched.clear()
        self.drift.forget_all()
        self.drift.retry()

    def _listen(self) -> None:
        if self.drift.open():
            self._loop.watch(self.drift.fileno(), self._receive)
        elif self.drift.full:
            self._report_limit()

    def _receive(self) -> None:
        drift = self.drift.read()
        if drift.sysctls:
            self._sysctls_written()
        self._queue.drifting |= drift.pids
        if drift.lost:
            self._lost(_LOST)

    def _wake(self, now: float) -> None:
        """Check what has rested for long enough, and watch it again."""
        woken = self._reconciler.backoff.wake(now)
        pids = {target.pid for target in woken if isinstance(target, Identity)}
        managed = {pid for pid in pids if self._reconciler.managed.rule(pid) is not None}
        self._unwatched += managed
        self._queue.urgent |= pids - managed
        if len(pids) < len(woken):
            self._sysctls_written()
        self._wake_later()

    def _wake_later(self) -> None:
        wake = self._reconciler.backoff.next_wake()
        if wake is not None:
            self._loop.set_earlier("wake", wake)

    def _list_unwatched(self) -> None:
        reconciler = self._reconciler
        resting = {target.pid for target in reconciler.backoff.resting if isinstance(target, Identity)}
        self._unwatched = [
            pid for pid in reconciler.managed.rule_of if not self.drift.watches(pid) and pid not in resting
        ]
        self._unwatched.sort(key=reconciler.ledger.protects)  # taken from the end

    def _report_limit(self) -> None:
        self._degradations.set(
            "watches",
            f"not all managed values are watched; the others are only checked in passes: {self.drift.full}",
        )
