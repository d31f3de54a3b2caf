"""Applies the policy to queued processes, in slices, and checks everything when that is due."""

import time
from collections.abc import Callable

from oomguard.core.change import Outcome, SetOomScoreAdj
from oomguard.core.typed import TYPE_CHECKING
from oomguard.daemon.loop import Loop
from oomguard.daemon.process_events import ProcessEvents
from oomguard.daemon.status_writer import Matched, StatusWriter
from oomguard.daemon.watching import Watching
from oomguard.daemon.work_queue import SLICE_PROCESSES, Batch, WorkQueue
from oomguard.kernel.proc_files import SHORTAGE
from oomguard.reconcile.reconciler import Reconciler
from oomguard.report import events
from oomguard.report.reporter import FOLD_SECONDS, REPEAT_SECONDS, Degradations, Reporter
from oomguard.report.status_file import UNREADABLE

if TYPE_CHECKING:
    from oomguard.core.choices import Cause
    from oomguard.daemon.event_proof import FlowChange

POLL_SECONDS = 1.0
"""Interval of looks for new processes while no events report them."""

_POLL_SHARE = 0.05
"""How much of a CPU passes may take meanwhile. With few processes, each look is a pass."""

SLICE_SECONDS = 0.0005
"""Time for one slice of work before signals and events are handled again: a program that starts during a
pass waits that long."""

THROTTLED_SLICE_SECONDS = 0.005
"""The same at the ceiling on CPU time, where each slice is followed by a pause."""

NO_EVENTS = (
    f"the kernel sends no process events; oomguard checks for new processes every {POLL_SECONDS:.0f} s"
)


class Worker:
    """The queue, the sources that fill it, and the reconciler. `pass_ended` is called after every pass."""

    def __init__(
        self,
        loop: Loop,
        reconciler: Reconciler,
        reporter: Reporter,
        status: StatusWriter,
        degradations: Degradations,
        *,
        pass_ended: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._procfs = reconciler.procfs
        self._reconciler = reconciler
        self._reporter = reporter
        self._status = status
        self._degradations = degradations
        self._pass_ended = pass_ended
        self._cpu_before_pass = 0.0
        self._unreadable_before: dict[str, str] = {}
        """What could not be read between the ends of the last two passes."""
        self.queue = WorkQueue(loop, follow_forks=self._follow_forks, lost=self._lost)
        self.events = ProcessEvents(
            loop,
            self.queue,
            reconciler,
            check=self.check_exec,
            lost=self._lost,
            turned=self._turned,
            resync=self._resync,
        )
        self.watching = Watching(
            loop,
            self.queue,
            reconciler,
            degradations,
            sysctls_written=lambda: self._check_sysctls("drift"),
            lost=self._lost,
        )
        loop.define("pass", lambda _: self._resync())
        loop.define("poll", self._poll)

    @property
    def is_busy(self) -> bool:
        """Whether `work` has something to do."""
        return bool(self.queue) or self.watching.is_busy or self.events.is_busy

    @property
    def matched(self) -> Matched:
        """What the rules match, as far as is known."""
        rules, rule_of = self._reconciler.policy.rules, self._reconciler.managed.rule_of
        return Matched(rules, rule_of, tuple(self._reporter.complaints.values()))

    def work(self, *, is_throttled: bool) -> None:
        """Do one slice of work: events first, then the pass, then watches; when throttled, some of each."""
        now = time.monotonic()
        end = now + (THROTTLED_SLICE_SECONDS if is_throttled else SLICE_SECONDS)
        # On a slow host, all that is done once a turn costs more than some checks.
        end_of_batch = float("inf") if is_throttled else end
        sweep = self.queue.sweep
        while self.is_busy and now < end:
            is_idle = True
            for batch in self.queue.batches(is_throttled=is_throttled):
                self.check(batch, end_of_batch)
                is_idle = False
            if sweep.is_running and not sweep.pids and not self.queue.is_pass_waiting:
                if not sweep.chase(self._list_pids):
                    self._end_pass(now)
            elif is_idle and self.watching.is_busy:
                self._watch(now)
            elif is_idle:
                self.events.work()
            now = time.monotonic()
        if is_throttled:  # the queue may never be empty
            if self.watching.is_busy:
                self._watch(now)
            if self.events.is_busy:
                self.events.work()

    def _watch(self, now: float) -> None:
        self.watching.work(now)
        self._status.request(now)  # it has their number

    def clear(self) -> None:
        """Drop what can be created again, and check everything when the shortage may be over."""
        self.queue.clear()
        self.watching.clear()
        self._reconciler.matching.matcher.forget()
        self._reconciler.managed.forget_forks()
        self._status.losses += 1
        self._loop.set("pass", time.monotonic() + POLL_SECONDS)

    def begin_pass(self, cause: "Cause") -> None:
        """Check the sysctls at once, and every process in slices."""
        self._cpu_before_pass = time.process_time()
        self._check_sysctls(cause)
        pids = self.events.forget_ended()
        self.queue.sweep.begin(cause, pids, chases_ended=bool(self._reconciler.ledger.protections))
        self._loop.set("poll", None if self.events.flow else time.monotonic() + POLL_SECONDS)

    def _poll(self, now: float) -> None:
        """Check the processes that have started, without waiting for the next pass."""
        self.queue.check_newcomers(self._procfs.pids())
        self._loop.set("poll", now + POLL_SECONDS)

    def check(self, batch: Batch, end: float) -> None:
        """Apply the policy to processes: to one at least, and to more until `end`.

        Outcomes are reported after the last write.
        """
        outcomes: list[Outcome] = []
        reconciler, now = self._reconciler, time.monotonic()
        process = reconciler.process
        pids, sweep = batch.pids, self.queue.sweep
        is_of_events = not batch.in_pass and not batch.is_watched
        try:
            for _ in range(min(SLICE_PROCESSES, len(pids))):
                pid = pids.pop()
                if is_of_events and reconciler.needs_nothing(pid):
                    reconciler.managed.executed.pop(pid, None)
                else:
                    cause = batch.cause or sweep.cause_of(pid)
                    outcome = process(pid, cause, now, in_pass=batch.in_pass, is_watched=batch.is_watched)
                    if outcome is not None:
                        outcomes.append(outcome)
                now = time.monotonic()
                if now >= end:
                    break
        finally:  # also in a shortage: what was written is in the log
            self._finish(outcomes, now)

    def check_exec(self, pid: int) -> None:
        """Apply the policy to a process that ran a program and needs something."""
        now = time.monotonic()
        outcome = self._reconciler.process(pid, "exec", now)
        self._finish([] if outcome is None else [outcome], now)

    def _finish(self, outcomes: list[Outcome], now: float) -> None:
        """Report the outcomes, and arrange for watches and later checks."""
        for outcome in outcomes:
            if isinstance(outcome.change, SetOomScoreAdj):
                self.watching.drift.release_recycled(outcome.change.identity)
                if outcome.change.inherited:
                    self.queue.sweep.found_inherited = True
                    self.queue.put_off("child", ())  # some forks happened during the write
            is_contended = self._reconciler.backoff.is_contended(outcome.change.target)
            self._reporter.outcome(outcome, now, is_contended=is_contended)
        if outcomes:
            self._loop.set_earlier("fold", now + FOLD_SECONDS)  # what is already combined is due first
            self._status.request(now)
        self.watching.discount(outcomes)
        managed = self._reconciler.managed
        if managed.has_new_watched:
            self.events.watch_parents()
        self.watching.rest()
        self.watching.plan(now)
        if managed.unreadable:
            self._report_unreadable()
        if managed.postponed:
            self.queue.put_off("postponed", managed.postponed)
            managed.postponed.clear()
        if managed.unread:
            if self.queue.has_room:
                self.queue.put_off("unread", managed.unread)
            managed.unread.clear()
        if managed.undecided:
            self.queue.put_off("undecided", managed.undecided)
            managed.undecided.clear()

    def _report_unreadable(self) -> None:
        found = self._unreadable_before | self._reconciler.managed.unreadable
        texts = (f"{UNREADABLE}: {reason}" for reason in found.values())
        self._degradations.set("processes", *texts)

    def _check_sysctls(self, cause: "Cause") -> None:
        now, planner = time.monotonic(), self._reconciler.planner
        outcomes: list[Outcome] = []
        trouble, missing = "", set[str]()
        try:
            outcomes.extend(self._reconciler.sysctls(cause, now))
            missing = planner.missing_sysctls()
        except OSError as error:
            if error.errno in SHORTAGE:
                raise
            trouble = f"sysctls are left alone, because one cannot be read: {error.strerror}"
        self._finish(outcomes, now)
        self.watching.watch_sysctls(planner.sysctl_names() - missing)
        skipped = (f"{name} is skipped: this kernel has no such sysctl" for name in sorted(missing))
        self._degradations.set("sysctls", trouble, *skipped)

    def _follow_forks(self) -> None:
        self.events.follow_forks()

    def _list_pids(self) -> list[int]:
        self.events.follow_forks()
        return self._procfs.pids()

    def _end_pass(self, now: float) -> None:
        reconciler, sweep, flow = self._reconciler, self.queue.sweep, self.events.flow
        sweep.end()
        self.events.end_pass()
        reconciler.end_pass()
        self._reporter.end_pass()
        self._unreadable_before, reconciler.managed.unreadable = reconciler.managed.unreadable, {}
        self._report_unreadable()
        self.watching.end_pass(now)
        self._reporter.uncontended(reconciler.backoff.forget_rested(now), reconciler.managed.rule)
        interval: float = reconciler.policy.resync_interval_seconds
        if not flow:
            took = time.process_time() - self._cpu_before_pass
            interval = min(interval, max(POLL_SECONDS, took / _POLL_SHARE))
        self._loop.set("pass", now + interval)
        self._loop.set("poll", None if flow or interval <= POLL_SECONDS else now + POLL_SECONDS)
        self._pass_ended(now)
        if sweep.is_wanted_again:
            self.begin_pass("resync")
        self.events.prove()

    # What was not reported

    def _lost(self, what: str) -> None:
        now = time.monotonic()
        self._status.losses += 1
        self._reporter.again(events.EVENTS_LOST, f"{what}; oomguard checks every process again", now)
        self._loop.set_earlier("fold", now + REPEAT_SECONDS)
        self._check_everything(now)

    def _turned(self, turn: "FlowChange") -> None:
        if turn == "stopped":
            self._status.losses += 1
            self._reporter.say(events.EVENTS_STOPPED, NO_EVENTS)
        else:
            self._reporter.say(events.EVENTS_RESUMED, "the kernel sends process events again")
        self._check_everything(time.monotonic())

    def _check_everything(self, now: float) -> None:
        """Check every process from now on, because those that a pass has already checked may have changed."""
        self._status.request(now)
        self.queue.sweep.is_wanted_again = True  # the current pass is finished first, or none ever would be
        self._resync()

    def _resync(self) -> None:
        if not self.queue.sweep.is_running:
            self.begin_pass("resync")
