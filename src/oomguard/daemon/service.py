"""The daemon: it looks again whenever something says that the world may have moved.

Work is done in slices, so that neither a burst of events nor a pass over a large host holds up
signals, the watchdog or a reload.
"""

import gc
import os
import signal
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]  # it ships no types

from oomguard import __version__
from oomguard.core.diff import SetOomScoreAdj
from oomguard.core.overcommit import KNOBS, demand_kib
from oomguard.core.policy import emptied
from oomguard.core.process import INIT_PID, Identity
from oomguard.core.text import counted, printable, span
from oomguard.daemon.ceiling import LIMIT_PERCENT
from oomguard.daemon.degradations import Degradations
from oomguard.daemon.drift import DriftWatch
from oomguard.daemon.kills import KillWatch
from oomguard.daemon.loop import Loop
from oomguard.daemon.noise import LOOK_SECONDS, Noise
from oomguard.daemon.policy_cache import PolicyCache
from oomguard.daemon.process_events import ProcessEvents
from oomguard.daemon.reload import Reloader
from oomguard.daemon.rights import rights_missing_for, take_rights
from oomguard.daemon.status_writer import Matched, StatusWriter
from oomguard.kernel.connector import Connector, ConnectorUnavailableError
from oomguard.kernel.floor import SysResource
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl import observe_overcommit
from oomguard.reconcile.ledger import open_hosts_ledger
from oomguard.reconcile.matching import Itself
from oomguard.reconcile.peak_file import PeakFile
from oomguard.reconcile.reconciler import SHORTAGE, Reconciler
from oomguard.reconcile.state_folder import state_dir_option
from oomguard.report import events
from oomguard.report.kills import Death
from oomguard.report.reporter import FOLD_SECONDS, REPEAT_SECONDS, Reporter

if TYPE_CHECKING:
    from oomguard.core.diff import Cause, Outcome
    from oomguard.core.errors import OomguardError
    from oomguard.core.policy import Policy
    from oomguard.daemon.process_events import Turn
    from oomguard.oom.kill import Context, Kill
    from oomguard.reconcile.state_folder import StateFolder
    from oomguard.report.journal import Sink

POLL_SECONDS = 1.0
"""Interval of passes while nothing tells of new processes."""

SLICE_SECONDS = 0.0005
"""Time for one slice of work before signals and events are looked at again: with 20 ms, a program that
starts during a pass waits that long (docs/internals/performance.md)."""

THROTTLED_SLICE_SECONDS = 0.005
"""The same at the ceiling on CPU time, where each slice is followed by a pause."""

STATUS_SECONDS = 1.0
"""The status file is replaced at most this often."""

SETTLED_SECONDS = 3.0
SETTLED_TICKS = SETTLED_SECONDS * os.sysconf("SC_CLK_TCK")
"""A process that lived this long is worth a watch of its own."""

HEIRS_LIMIT = 100_000
"""Descendants remembered before the dead are weeded out: 14 MiB."""

POSTPONED_SECONDS = 0.001
"""What this host was too busy to read is read again after so long for each such process, 5 ms at least."""

NEWBORN_SECONDS = 0.1
"""What a program does to the value of a child it forked, it has done by then: sshd gives its sessions what it
put by, and a backend of PostgreSQL values itself."""

UNDECIDED_SECONDS = 1.0
"""Pause between looks at a young process that may yet rewrite its command line."""

CHASES = 20
FIRST_CHASES = 2
"""How often a pass continues with what was forked meanwhile, if it found inherited protection, and if it
found none, but processes ended before it reached them."""

_NO_EVENTS = (
    f"the kernel sends no process events; oomguard checks for new processes every {POLL_SECONDS:.0f} s"
)
_LOG_OVERWRITTEN = "its log was overwritten before it was read"
URGENT_LIMIT = 10_000
"""Processes that wait for a look because of an event. Beyond it a pass takes no longer."""

_SLICE_PROCESSES = 8
_EVENTS_A_TURN = 1024
_EXAMPLES = 5


class Options(NamedTuple):
    """Where things are."""

    policy_path: str
    proc_root: str


class Service:
    """A running daemon. `run` returns when it was asked to stop."""

    def __init__(self, options: Options, folder: "StateFolder", sink: "Sink") -> None:
        self.options = options
        self.folder = folder
        self.reporter = Reporter(sink)
        self.loop = Loop()
        self.notifier = SystemdNotifier()
        self.procfs = Procfs(options.proc_root)
        self._identity = self.procfs.identity(os.getpid()) or Identity(os.getpid(), 0)
        self._degradations = Degradations(self.reporter)
        self._status = StatusWriter(folder, self.procfs, self._identity, self.reporter, self._degradations)
        self._stopping = False
        self._noise = Noise()
        self._events: ProcessEvents | None = None
        self._drift = DriftWatch(self.procfs)
        self._kills = KillWatch(self.loop, self.procfs, self._killed)
        self._why_no_log = ""
        self._matched_before: Matched | None = None
        self._peaks = PeakFile(folder.path)
        self._is_short = False
        self._is_throttled = False
        self._urgent: set[int] = set()
        self._drifting: set[int] = set()
        self._newborn: list[int] = []
        self._postponed: set[int] = set()
        self._undecided: list[int] = []
        self._checks: list[int] = []
        self._found_inherited = self._is_chasing = False
        self._chases = 0
        self._young: set[int] = set()
        self._heirs_limit = HEIRS_LIMIT
        self._sweep: list[int] = []
        self._sweep_cause: Cause = "start"
        self._sweep_again = False
        self._pids: set[int] = set()
        self._pids_before: set[int] = set()
        self._unwatched: list[int] = []

    def run(self) -> None:
        """Take the lock, read the policy, apply it, say so, and keep it until SIGTERM."""
        with ExitStack() as stack:
            self._define()
            reloader = Reloader(
                self.options.policy_path,
                self.loop,
                adopt=self._adopt,
                reject=self._reject,
                limited=self._degradations.add,
                cache=PolicyCache(self.folder.path),
            )
            stack.callback(reloader.close)
            self.loop.on_signal(signal.SIGHUP, reloader.reload)
            policy = reloader.first()
            self._status.policy_loaded_at = time.time()
            ledger = open_hosts_ledger(self.folder, self.procfs)
            stack.callback(ledger.close)
            if ledger.ignored_lines:
                lost = counted(ledger.ignored_lines, "line")
                self._degradations.add(
                    f"{lost} of the ledger cannot be read; the values in them cannot be restored"
                )
            self.reporter.say(
                events.STARTED,
                f"oomguard {__version__} started: {policy.origin}",
                POLICY=policy.digest,
            )
            self._degradations.add_all((*take_rights(self.procfs), *rights_missing_for(policy, self.procfs)))
            privilege = SysResource()
            if privilege.moves_every_floor:
                self._degradations.add(
                    "raised processes cannot lower themselves again: oomguard cannot drop CAP_SYS_RESOURCE"
                    " between writes (capset is not allowed here)"
                )
            self.reconciler = Reconciler(
                policy,
                ledger,
                self.procfs,
                privilege,
                Itself(os.getpid(), self._identity),
                promised_peak=self._peaks.highest,
            )
            del policy  # this frame lasts as long as the daemon; the policy only until the next one
            self.reconciler.managed.before_release = self._kills.read
            self.reconciler.still_denied = self.reporter.still_denied
            self._subscribe(stack)  # before the first pass: what starts during it is not missed
            self._watch_kills()
            self._begin_pass("start")
            while self._sweep:
                self._turn()
            gc.collect()
            gc.freeze()  # what lives from here on to the end need not be looked through at every collection
            self._say_ready()
            self._beat(time.monotonic())
            stack.callback(self._say_stopped)
            while not self._stopping:
                self._turn()

    def _define(self) -> None:
        self.loop.define("pass", lambda _: self._begin_pass("resync"))
        self.loop.define("wake", self._wake_rested)
        self.loop.define("prove", lambda _: self._prove())
        self.loop.define("settle", self._list_unwatched)
        self.loop.define("newborn", self._look_at_newborn)
        self.loop.define("postponed", self._look_at_postponed)
        self.loop.define("undecided", self._look_at_undecided)
        self.loop.define("noise", self._look_at_muted)
        self.loop.define("watchdog", self._beat)
        self.loop.define("fold", self._flush)
        self.loop.define("status", self._write_status)
        self._listen_for_drift()
        self.loop.on_signal(signal.SIGTERM, self._stop)
        self.loop.on_signal(signal.SIGINT, self._stop)

    def _stop(self) -> None:
        self._stopping = True

    def _turn(self) -> None:
        try:
            is_paused = not self.loop.turn(busy=self._is_busy)
            if self.loop.ceiling.is_reached != self._is_throttled:
                self._say_throttled()
            if not is_paused:
                self._work()
        except MemoryError:
            self._shed("memory")
        except OSError as error:
            if error.errno not in SHORTAGE:
                raise
            self._shed(error.strerror or "memory")

    def _shed(self, of_what: str) -> None:
        """Drop what can be had again, and look at everything when the shortage may be over."""
        self._urgent.clear()
        self._drifting.clear()
        self._newborn.clear()
        self._postponed.clear()
        self._undecided.clear()
        self._checks.clear()
        self._sweep.clear()
        self._unwatched.clear()
        self._drift.forget_all()
        self._drift.retry()
        self.reconciler.matching.matcher.forget()
        self.reconciler.managed.forget_forks()
        self._status.losses += 1
        now = time.monotonic()
        self.loop.set("pass", now + POLL_SECONDS)
        self.loop.set_earlier("status", now + STATUS_SECONDS)
        if not self._is_short:
            self._is_short = True  # said once, until a pass gets to its end
            with suppress(MemoryError):
                self.reporter.again(
                    events.OUT_OF_MEMORY,
                    f"oomguard ran out of resources ({of_what}); it checks every process again",
                    now,
                )
                self.loop.set_earlier("fold", now + REPEAT_SECONDS)

    # What tells that something moved

    def _subscribe(self, stack: ExitStack) -> None:
        try:
            connector = Connector()
        except ConnectorUnavailableError as error:
            self._degradations.add(f"oomguard checks for new processes every {POLL_SECONDS:.0f} s: {error}")
            return
        stack.callback(connector.close)
        self._events = ProcessEvents(connector)
        self.loop.watch(connector.fileno(), self._receive)

    @property
    def _has_events(self) -> bool:
        return self._events is not None and self._events.flow

    def _prove(self) -> None:
        """Find out whether process events flow."""
        if self._events is not None:
            self._events.prove(time.monotonic())
            self._receive()

    def _receive(self) -> None:
        assert self._events is not None
        lost, turn = self._events.receive(
            self._urgent, self.reconciler.managed.executed, limit=_EVENTS_A_TURN, now=time.monotonic()
        )
        if turn is not None:
            self._take_turn(turn)
        elif lost:
            self._lost("the kernel dropped process events (more than the buffer holds)")
        if len(self._urgent) > URGENT_LIMIT:
            self._urgent.clear()
            self._lost("more processes start than oomguard can check one by one")
        connector = self._events.connector
        if self._events.guard_at is not None:
            self.loop.set("prove", self._events.guard_at)
        if connector.changed:
            self._mute_noise(connector, time.monotonic())
        if connector.has_forks or self.reconciler.inheritance.is_needed:
            self._follow_forks()
            if len(self.reconciler.inheritance) > self._heirs_limit and not self._sweep:
                self._begin_pass("resync")  # most of them are gone

    def _take_turn(self, turn: "Turn") -> None:
        """Close the gap: what started meanwhile, and which process forked it, is not known."""
        if turn == "stopped":
            self._status.losses += 1
            self.reporter.say(events.EVENTS_STOPPED, _NO_EVENTS)
        else:
            self.reporter.say(events.EVENTS_RESUMED, "the kernel sends process events again")
        self.loop.set_earlier("status", time.monotonic() + STATUS_SECONDS)
        self.reconciler.managed.forget_forks()
        self._look_again()

    def _mute_noise(self, connector: Connector, now: float) -> None:
        """Have the kernel drop the events of processes that change all the time."""
        if self._noise.take(connector.changed, now):
            connector.mute(self._noise.muted, all_renames=self._noise.all_renames)
            self.loop.set_earlier("noise", now + LOOK_SECONDS)
        connector.changed.clear()

    def _look_at_muted(self, now: float) -> None:
        """Look at the processes whose events are dropped: all of them, if that holds for all renames."""
        assert self._events is not None
        noise = self._noise
        self._urgent |= noise.muted
        was_all = noise.all_renames
        if noise.expire(now):
            self._events.connector.mute(noise.muted, all_renames=noise.all_renames)
        if was_all and not noise.all_renames and not self._sweep:
            self._begin_pass("resync")
        if noise.is_any:
            self.loop.set("noise", now + LOOK_SECONDS)

    def _follow_forks(self) -> set[int]:
        """Learn which process forked which, up to now; return the children."""
        children: set[int] = set()

        def forked(parent: int, child: int, at_ns: int) -> None:
            children.add(child)
            self._forked(parent, child, at_ns)

        if self._events is not None and self._events.connector.forks(forked):
            self.reconciler.managed.forget_forks()
            self._lost("the kernel dropped fork events (more than the buffer holds)")
        return children

    def _forked(self, parent: int, child: int, at_ns: int) -> None:
        if self.reconciler.managed.on_fork(parent, child, at_ns):
            self._newborn.append(child)
            self.loop.set_earlier("newborn", time.monotonic() + NEWBORN_SECONDS)

    def _look_at_newborn(self, _now: float) -> None:
        self._follow_forks()
        self._checks += self._newborn
        self._newborn.clear()
        if len(self._checks) > URGENT_LIMIT:
            self._checks.clear()
            self._lost("more processes start than oomguard can check one by one")

    def _look_at_undecided(self, now: float) -> None:
        self._newborn += self._undecided
        self._undecided.clear()
        self._look_at_newborn(now)

    def _look_at_postponed(self, _now: float) -> None:
        self._checks += self._postponed
        self._postponed.clear()

    def _attend(self) -> None:
        """Be woken by the forks of those whose children are to be looked at soon."""
        self.reconciler.inheritance.has_new_watched = False
        parents = self.reconciler.inheritance.watched_parents
        if self.reconciler.ledger.protections:
            parents |= {INIT_PID}
        if self._events is not None and self._events.connector.attend(parents):
            self._follow_forks()  # what they forked before

    def _listen_for_drift(self) -> None:
        if self._drift.open():
            self.loop.watch(self._drift.fileno(), self._drifted)
        elif self._drift.full:
            self._limit_watches()

    def _drifted(self) -> None:
        drift = self._drift.read()
        if drift.sysctls:
            self._reconcile_sysctls("drift", time.monotonic())
        self._drifting |= drift.pids
        if drift.lost:
            self._lost("the kernel dropped inotify events (fs.inotify.max_queued_events)")

    def _lost(self, what: str) -> None:
        """Look at everything: what was lost is not known."""
        self._status.losses += 1
        self.loop.set_earlier("status", time.monotonic() + STATUS_SECONDS)
        self.reporter.again(
            events.EVENTS_LOST, f"{what}; oomguard checks every process again", time.monotonic()
        )
        self.loop.set_earlier("fold", time.monotonic() + REPEAT_SECONDS)
        self._look_again()

    def _look_again(self) -> None:
        """Look at every process from now on: those at which a pass in progress looked may have changed."""
        if self._sweep:
            self._sweep_again = True  # the pass in progress is finished first, or none ever would be
        else:
            self._begin_pass("resync")

    # Passes

    def _begin_pass(self, cause: "Cause") -> None:
        """Look at the sysctls at once, and at every process in slices."""
        self._follow_forks()
        self._reconcile_sysctls(cause, time.monotonic())
        pids = self.procfs.pids()
        # A process that forked just now and ended is not in the list; its child is known by that fork only.
        younger = self._follow_forks()
        self._pids_before, self._pids = self._pids, set(pids)
        self.reconciler.managed.keep_only(self._pids | younger)
        self._found_inherited = self._is_chasing = False
        self._chases, self._young = 0, self._pids if self.reconciler.ledger.protections else set()
        self._sweep = pids[::-1]  # taken from the end: the oldest first
        self._sweep_cause = cause

    @property
    def _is_busy(self) -> bool:
        is_renewing = self._events is not None and self._events.is_busy
        return bool(
            self._urgent or self._checks or self._drifting or self._sweep or self._unwatched or is_renewing
        )

    def _work(self) -> None:
        """Do one slice of the work: what events reported, then the pass, then watches.

        At the ceiling events come faster than there is time for: there, half of it is the pass's.
        """
        now = time.monotonic()
        end = now + (THROTTLED_SLICE_SECONDS if self._is_throttled else SLICE_SECONDS)
        is_passs_turn = False
        while self._is_busy and now < end:
            if self._checks:
                self._visit(self._checks, end, in_pass=True)
            is_passs_turn = self._is_throttled and not is_passs_turn and bool(self._sweep)
            if self._urgent and not is_passs_turn:
                self._visit(self._urgent, end)
                self._settle_later(now)
            elif self._drifting and not is_passs_turn:
                self._visit(self._drifting, end, "drift", is_watched=True)
            elif self._sweep:
                self._visit(self._sweep, end, self._sweep_cause, in_pass=True)
                if not (self._sweep or self._chase()):
                    self._end_pass(now)
            elif self._unwatched:
                self._watch_slice(now)
            elif self._events is not None:
                self._events.work(now)
                self._receive()
            now = time.monotonic()

    def _visit(
        self,
        pids: set[int] | list[int],
        end: float,
        cause: "Cause" = "exec",
        *,
        in_pass: bool = False,
        is_watched: bool = False,
    ) -> None:
        """Bring processes to the policy, of a list the last ones: at least one, and some more until `end`.

        What came of it is reported after the last was written.
        """
        outcomes = []
        process, before = self.reconciler.process, self._pids_before
        now = time.monotonic()
        for _ in range(min(_SLICE_PROCESSES, len(pids))):
            pid = pids.pop()
            why = "exec" if cause == "resync" and pid not in before else cause
            outcome = process(pid, why, now, in_pass=in_pass, is_watched=is_watched)
            if outcome is not None:
                outcomes.append(outcome)
            now = time.monotonic()
            if now >= end:
                break
        for outcome in outcomes:
            self._take(outcome, now)
        if outcomes or self.reconciler.inheritance.has_new_watched:
            self._attend()
        self._rest()
        managed = self.reconciler.managed
        for reason in managed.unreadable:
            self._degradations.add(f"some processes cannot be read: {reason}")
        if managed.postponed:
            self._postponed |= managed.postponed
            managed.postponed.clear()
            self.loop.set_earlier("postponed", now + POSTPONED_SECONDS * max(5, len(self._postponed)))
        if managed.undecided:
            self._undecided += managed.undecided
            managed.undecided.clear()
            self.loop.set_earlier("undecided", now + UNDECIDED_SECONDS)

    def _chase(self) -> bool:
        """Continue a pass with what was forked meanwhile, the latest first; tell whether there is any.

        Otherwise a process could keep inherited protection by forking before it is reached, and so could its
        child. What ended before it was reached may have forked as well.
        """
        self._is_chasing |= self._found_inherited
        if self._chases == (CHASES if self._is_chasing else FIRST_CHASES):
            return False
        self._follow_forks()
        listed = set(self.procfs.pids())
        if not self._found_inherited and self._young <= listed:
            return False
        self._found_inherited = False
        self._chases += 1
        self._young = listed - self._pids
        self._pids = self._pids | self._young
        self._sweep = sorted(self._young)
        return bool(self._young)

    def _end_pass(self, now: float) -> None:
        self._status.passes += 1
        self._status.choose_readers()
        self._note_promised(now)
        if count := self._kills.count():
            self.reporter.kills.take_unknown(count, self._why_no_log or _LOG_OVERWRITTEN)
        self._is_short = False
        self.loop.set_earlier("status", now + STATUS_SECONDS)
        reconciler = self.reconciler
        reconciler.inheritance.asks_parents = not self._has_events
        self._attend()
        reconciler.end_pass()
        self.reporter.end_pass()
        self._heirs_limit = max(HEIRS_LIMIT, 2 * len(reconciler.inheritance))
        self._unwatched += self._drift.others(reconciler.managed.rule_of)
        self._drift.retry()
        self._listen_for_drift()
        self._settle_later(now)
        self._say_uncontended(now)
        interval = reconciler.policy.resync_interval_seconds
        self.loop.set("pass", now + (interval if self._has_events else min(interval, POLL_SECONDS)))
        if self._matched_before is not None:
            self._matched_before = None
            self._say_ready()
        if self._sweep_again:
            self._sweep_again = False
            self._begin_pass("resync")
        self._prove()

    # Kills

    def _watch_kills(self) -> None:
        self._why_no_log = self._kills.open()
        if self._why_no_log:
            self._degradations.add(f"the kernel's kills are counted, but not their names: {self._why_no_log}")

    def _killed(self, kill: "Kill", context: "Context | None") -> None:
        rule = self._matched_now.rule(kill.pid) or self._matched.rule(kill.pid)
        now = time.monotonic()
        self.reporter.kills.take(Death(kill, context, rule), now)
        self.loop.set_earlier("fold", now + FOLD_SECONDS)
        self.loop.set_earlier("status", now + STATUS_SECONDS)

    def _note_promised(self, now: float) -> None:
        knobs, memory = observe_overcommit(self.procfs, KNOBS)
        if memory is None:
            return
        self._status.committed_peak_kib = max(self._status.committed_peak_kib, memory.committed_kib)
        headroom = self.reconciler.policy.commit_headroom_percent
        self._peaks.note(demand_kib(memory, knobs, headroom_percent=headroom), now)
        if self._peaks.trouble:
            self._degradations.add(
                f"the peak of Committed_AS will be lost at the next reboot: {self._peaks.trouble}"
            )

    def _reconcile_sysctls(self, cause: "Cause", now: float) -> None:
        for outcome in self.reconciler.sysctls(cause, now):
            self._take(outcome, now)
        self._rest()
        self._drift.watch_sysctls(self.reconciler.planner.sysctl_names())
        for name in self._drift.missing:
            self._degradations.add(f"{name} is skipped: this kernel has no such sysctl")

    def _take(self, outcome: "Outcome", now: float) -> None:
        if isinstance(outcome.change, SetOomScoreAdj):
            self._drift.release_recycled(outcome.change.identity)
            if outcome.change.inherited:
                self._found_inherited = True
                self.loop.set_earlier("newborn", now + NEWBORN_SECONDS)  # some forks crossed the write
        self.reporter.outcome(outcome, now)
        self.loop.set_earlier("fold", now + FOLD_SECONDS)  # whatever gathers already is due before
        self.loop.set_earlier("status", now + STATUS_SECONDS)

    # Watching what is kept

    def _settle_later(self, now: float) -> None:
        watchable = len(self.reconciler.managed.rule_of) - len(self.reconciler.contention.resting)
        if watchable > self._drift.processes and not self._drift.full:
            self.loop.set_earlier("settle", now + SETTLED_SECONDS)

    def _list_unwatched(self, _now: float) -> None:
        reconciler = self.reconciler
        resting = {target.pid for target in reconciler.contention.resting if isinstance(target, Identity)}
        self._unwatched = [
            pid for pid in reconciler.managed.rule_of if not self._drift.watches(pid) and pid not in resting
        ]
        self._unwatched.sort(key=reconciler.ledger.protects)  # taken from the end

    def _rest(self) -> None:
        """Drop the watches on values that took too much of it, for a while."""
        rested = self.reconciler.contention.take_rested()
        if not rested:
            return
        for target in rested:
            if isinstance(target, Identity):
                self._drift.release(target)
        self._wake_later()

    def _wake_later(self) -> None:
        wake = self.reconciler.contention.next_wake()
        if wake is not None:
            self.loop.set_earlier("wake", wake)

    def _wake_rested(self, now: float) -> None:
        """Look at what has rested for long enough, and watch it again."""
        managed = self.reconciler.managed
        for target in self.reconciler.contention.wake(now):
            if not isinstance(target, Identity):
                self._reconcile_sysctls("drift", now)
            elif target.pid in managed.rule_of:
                self._unwatched.append(target.pid)
            else:
                self._urgent.add(target.pid)
        self._wake_later()

    def _watch_slice(self, now: float) -> None:
        """Watch some managed processes that have lived long enough; drop the watches of others."""
        managed = self.reconciler.managed
        batch, self._unwatched[-_SLICE_PROCESSES:] = self._unwatched[-_SLICE_PROCESSES:], []
        youngest = self.procfs.now_ticks() - SETTLED_TICKS
        for pid in batch:
            if pid not in managed.rule_of:
                self._drift.forget(pid)
                self._settle_later(now)
                continue
            identity = self.procfs.identity(pid)
            if identity is None:
                managed.on_exit(pid)
            elif identity.start_time_ticks <= youngest:
                self._drift.watch_process(identity, yields=not self.reconciler.ledger.protects(pid))
                self._urgent.add(pid)  # what was written just before the watch is not told by it
            else:
                self.loop.set_earlier("settle", now + SETTLED_SECONDS)
        self.loop.set_earlier("status", now + STATUS_SECONDS)
        if self._drift.full:
            self._unwatched.clear()
            self._limit_watches()

    def _limit_watches(self) -> None:
        self._degradations.add(
            f"not all managed values are watched; the others are only checked in passes: {self._drift.full}"
        )

    # The policy

    def _adopt(self, policy: "Policy") -> None:
        self._status.policy_loaded_at = time.time()
        is_new = bool(self._status.policy_error) or policy.digest != self.reconciler.policy.digest
        self._status.policy_error = ""
        self._matched_before = self._matched
        self.reporter.start_over()
        self._kills.read()  # who died was held by the policy of before
        self._say_emptied(policy)
        self.reconciler.adopt(policy)  # the same files may name users that have other uids by now
        self.reporter.say(
            events.POLICY_LOADED,
            f"policy {'loaded' if is_new else 'read again, unchanged'}: {policy.origin}",
            POLICY=policy.digest,
        )
        self._degradations.add_all(rights_missing_for(policy, self.procfs))
        self._begin_pass("policy")
        self._say_ready()

    def _say_emptied(self, policy: "Policy") -> None:
        """Warn of files that declare nothing any more: a full disk or a shell's > may have emptied them."""
        managed = self.reconciler.managed
        for one in emptied(self.reconciler.policy, policy):
            held = sum(number in one.rules for number in managed.rule_of.values())
            self.reporter.say(
                events.POLICY_EMPTIED,
                f"{printable(one.file)} no longer declares anything: {one.summary} are no longer in force;"
                f" they matched {counted(held, 'process', 'es')}; if this is a mistake, restore the file",
                SOURCE=one.file,
            )

    def _reject(self, error: "OomguardError") -> None:
        self._status.policy_error = error.message
        self.reporter.say(
            events.POLICY_REJECTED,
            f"the policy cannot be used; the previous one stays in force: {error.message}",
        )
        self._say_ready()

    # What is said

    @property
    def _matched(self) -> Matched:
        """What the rules match: until the first pass of a policy ends, what those before it matched."""
        return self._matched_before or self._matched_now

    @property
    def _matched_now(self) -> Matched:
        rules, rule_of = self.reconciler.policy.rules, self.reconciler.managed.rule_of
        return Matched(rules, rule_of, tuple(self.reporter.complaints.values()))

    def _say_ready(self) -> None:
        count = len(self._matched.rule_of)
        state = f"{self.reconciler.policy.summary} in force; {counted(count, 'managed process', 'es')}"
        if self._status.policy_error:
            state = f"policy rejected; {state}"
        self.notifier.notify(f"READY=1\nSTATUS={state}")
        self._write_status(time.monotonic())

    def _say_stopped(self) -> None:
        self.notifier.notify("STOPPING=1")
        self.reporter.close()
        self.reporter.say(
            events.STOPPED,
            "oomguard stopped; its values stay in force "
            f"(to restore: oomguard restore{state_dir_option(self.folder.path)})",
        )
        self._status.remove()

    def _beat(self, now: float) -> None:
        interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        if interval:
            self.notifier.notify("WATCHDOG=1")
            self.loop.set("watchdog", now + interval / 2)

    def _flush(self, now: float) -> None:
        self.reporter.flush(now)
        self.loop.set("fold", self.reporter.next_flush())

    def _say_uncontended(self, now: float) -> None:
        """Say which values nothing rewrites any more: once for each sysctl, and for each rule."""
        managed = self.reconciler.managed
        pids: dict[int, list[int]] = {}
        for target in self.reconciler.contention.settle(now):
            if not isinstance(target, Identity):
                self.reporter.uncontended(_target_name(target))
            elif target.pid in managed.rule_of:
                pids.setdefault(managed.rule_of[target.pid], []).append(target.pid)
        for number, of_rule in pids.items():
            name = "oom_score_adj of " + ", ".join(f"pid {pid}" for pid in of_rule[:_EXAMPLES])
            if len(of_rule) > _EXAMPLES:
                name += f" and {len(of_rule) - _EXAMPLES} more"
            self.reporter.uncontended(name, count=len(of_rule), rule=self.reconciler.policy.rules[number])

    def _say_throttled(self) -> None:
        """Say that the ceiling on CPU time was reached, or is no longer."""
        ceiling, now = self.loop.ceiling, time.monotonic()
        self._is_throttled = ceiling.is_reached
        self.loop.set_earlier("status", now + STATUS_SECONDS)
        if self._is_throttled:
            self.reporter.say(
                events.THROTTLED,
                f"oomguard pauses at its limit of {LIMIT_PERCENT} % of a CPU: processes change faster than"
                " it can check them; new processes get their values later",
            )
        else:
            seconds = now - ceiling.reached_at
            self.reporter.say(events.UNTHROTTLED, f"oomguard no longer pauses, after {span(seconds)}")

    def _write_status(self, _now: float) -> None:
        is_stopped = self._events is not None and not self._events.flow
        status = self._status.collect(
            self.reconciler,
            self._matched,
            has_events=self._has_events,
            watches=len(self._drift),
            is_throttled=self._is_throttled,
            passing_limits=[_NO_EVENTS] if is_stopped else [],
        )
        self._status.write(status)


def _target_name(target: object) -> str:
    return f"oom_score_adj of pid {target.pid}" if isinstance(target, Identity) else str(target)
