"""The daemon: startup, shutdown, the policy in force, and reports."""

import gc
import os
import signal
import time
from contextlib import ExitStack, suppress

from oomguard import __version__
from oomguard.core.errors import OomguardError
from oomguard.core.host import changes
from oomguard.core.overcommit import KNOBS, MODE, STRICT, demand_kib
from oomguard.core.policy import Policy, emptied
from oomguard.core.rule import Rule
from oomguard.core.text import counted, printable, span
from oomguard.daemon.ceiling import LIMIT_PERCENT
from oomguard.daemon.foresight import Foresight
from oomguard.daemon.kills import KillWatch
from oomguard.daemon.loop import Loop
from oomguard.daemon.notifier import Notifier
from oomguard.daemon.privileges import lock_memory, rights_missing_for, take_rights
from oomguard.daemon.reload import Reloader
from oomguard.daemon.status_writer import Matched, StatusWriter
from oomguard.daemon.worker import (
    NO_EVENTS,
    POLL_SECONDS,
    SLICE_SECONDS,
    THROTTLED_SLICE_SECONDS,
    Worker,
)
from oomguard.kernel.floor import SysResource
from oomguard.kernel.host_facts import observe_host
from oomguard.kernel.proc_files import SHORTAGE
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import observe_overcommit
from oomguard.oom.kill import Context, Kill
from oomguard.reconcile.flight_recorder import Recorder
from oomguard.reconcile.ledger import Ledger, open_hosts_ledger
from oomguard.reconcile.matching import Itself
from oomguard.reconcile.peak_file import PeakFile
from oomguard.reconcile.policy_cache import PolicyCache
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder, state_dir_option
from oomguard.report import events
from oomguard.report.journal import Sink
from oomguard.report.kill_entries import Death
from oomguard.report.reporter import FOLD_SECONDS, REPEAT_SECONDS, Degradations, Reporter


class Service:
    """A running daemon, with its locked state folder. `run` returns when it was told to stop."""

    reconciler: Reconciler
    worker: Worker
    _reloader: Reloader

    def __init__(self, policy_path: str, folder: StateFolder, procfs: Procfs, sink: Sink) -> None:
        self._policy_path = policy_path
        self._folder = folder
        self.loop = Loop()
        self.procfs = procfs
        self.reporter = Reporter(sink)
        self.notifier = Notifier(self.loop)
        self.degradations = Degradations(self.reporter)
        self._identity = self.procfs.own_identity()
        self.status = StatusWriter(
            self.loop, folder, self.procfs, self._identity, self.reporter, self.degradations
        )
        self.kills = KillWatch(self.loop, self.procfs, self._killed)
        self._peaks = PeakFile(folder.path)
        self.foresight = Foresight(
            self.loop,
            self.procfs,
            self.reporter,
            self.degradations,
            self.status,
            Recorder(folder, procfs.boot_id()),
            rule_of=self._rule_of,
        )
        self._matched_before: Matched | None = None
        self._is_short = self._is_throttled = self._is_stopping = False

    def run(self) -> None:
        """Read the policy, apply it, report that, and enforce it until SIGTERM."""
        with ExitStack() as stack:
            self._start(stack)
            self.worker.begin_pass("start")
            # Short of memory a pass is dropped; while events are lost, another follows each.
            while not self.status.passes and not self._is_stopping:
                self._turn()
            gc.collect()
            gc.freeze()  # objects from here on live to the end, so collections need not examine them
            self._notify_ready()
            self._beat(time.monotonic())
            stack.callback(self._stopped)
            while not self._is_stopping:
                self._turn()

    def _start(self, stack: ExitStack) -> None:
        """Read the policy and the ledger, and open every source of events."""
        self._define_timers()
        self._reloader = reloader = Reloader(
            self._policy_path,
            self.loop,
            adopt=self._adopt,
            reject=self._reject,
            limited=self.degradations.set,
            cache=PolicyCache(self._folder.path),
            observe=lambda: observe_host(self.procfs),
        )
        stack.callback(reloader.close)
        policy = reloader.first(lambda: self._is_stopping)
        self.loop.on_signal(signal.SIGHUP, reloader.reload)  # `run` blocks it until here
        self.status.policy_loaded_at = time.time()
        ledger = self._open_ledger(stack)
        started = f"oomguard {__version__} started: {policy.origin}"
        self.reporter.say(events.STARTED, started, POLICY=policy.digest)
        self.degradations.set("rights", *take_rights(self.procfs))
        self.degradations.set("rights for rules", *rights_missing_for(policy, self.procfs))
        if not self.procfs.boot_id():
            self.degradations.set(
                "proc",
                "sysctls cannot be set: /proc shows only processes; remove ProcSubset=pid from the unit",
            )
        privilege = SysResource()
        if privilege.moves_every_floor:
            self.degradations.set(
                "floors",
                "raised processes cannot lower themselves again: oomguard cannot drop CAP_SYS_RESOURCE"
                " between writes (capset is not allowed here)",
            )
        itself = Itself(os.getpid(), self._identity)
        self.reconciler = Reconciler(policy, ledger, self.procfs, privilege, itself, self._peaks.highest)
        self.degradations.set("locked memory", *lock_memory(self.procfs))  # now that the policy is compiled
        self.reconciler.managed.before_release = self.kills.read
        self.reconciler.still_denied = self.reporter.still_denied
        self._open_events(stack)

    def _open_ledger(self, stack: ExitStack) -> Ledger:
        ledger = open_hosts_ledger(self._folder, self.procfs)
        stack.callback(ledger.close)
        if ledger.ignored_lines:
            lines = counted(ledger.ignored_lines, "line")
            self.degradations.set(
                "ledger", f"{lines} of the ledger cannot be read; the values in them cannot be restored"
            )
        return ledger

    def _open_events(self, stack: ExitStack) -> None:
        self.worker = Worker(
            self.loop,
            self.reconciler,
            self.reporter,
            self.status,
            self.degradations,
            pass_ended=self._pass_ended,
        )
        # Before the first pass, so that no process that starts during it is missed.
        if reason := self.worker.events.open():
            limit = f"oomguard checks for new processes every {POLL_SECONDS:.0f} s: {reason}"
            self.degradations.set("events", limit)
        stack.callback(self.worker.events.close)
        self.foresight.adopt(self.reconciler.policy, self.reconciler.privilege)
        stack.callback(self.foresight.close)
        if reason := self.kills.open():
            self.degradations.set("kills", f"the kernel's kills are counted, but not their names: {reason}")

    def _define_timers(self) -> None:
        self.loop.define("watchdog", self._beat)
        self.loop.define("fold", self._flush)
        self.loop.define("status", lambda _: self._write_status())
        self.loop.on_signal(signal.SIGTERM, self._stop)
        self.loop.on_signal(signal.SIGINT, self._stop)

    def _stop(self) -> None:
        self._is_stopping = True

    def _turn(self) -> None:
        try:
            is_busy = self.worker.is_busy or self.foresight.is_busy
            ready = None if is_busy or self._is_throttled else self.worker.events.check_programs()
            is_paused = not self.loop.turn(busy=is_busy, ready=ready)
            if self.loop.ceiling.is_reached != self._is_throttled:
                self._report_throttling()
            if is_paused:
                return
            self.foresight.awake(time.monotonic())
            if is_working := self.worker.is_busy:
                self.worker.work(is_throttled=self._is_throttled)
            if self.foresight.is_urgent or (self.foresight.is_busy and not is_working):
                seconds = THROTTLED_SLICE_SECONDS if self._is_throttled else SLICE_SECONDS
                self.foresight.work(time.monotonic() + seconds)
        except MemoryError:
            self._shed("memory")
        except OSError as error:
            if error.errno not in SHORTAGE:
                raise
            self._shed(error.strerror or "memory")

    def _shed(self, of_what: str) -> None:
        """Drop what can be created again, and check everything when the shortage may be over."""
        self.worker.clear()
        now = time.monotonic()
        self.status.request(now)
        if not self._is_short:
            self._is_short = True  # logged once, until a pass completes
            with suppress(MemoryError):
                self.reporter.again(
                    events.OUT_OF_MEMORY,
                    f"oomguard ran out of resources ({of_what}); it checks every process again",
                    now,
                )
                self.loop.set_earlier("fold", now + REPEAT_SECONDS)

    def _pass_ended(self, now: float) -> None:
        self._is_short = False
        self.status.passes += 1
        self.status.choose_readers()
        self.status.request(now)
        self._note_promised(now)
        self.foresight.pass_ended()
        self._reloader.check_edits(now)
        self._reloader.follow_host(self.reconciler.policy, now)
        if count := self.kills.count():
            self.reporter.kills.take_unknown(count, self.kills.why_unknown)
        if self._matched_before is not None:
            self._matched_before = None
            self._notify_ready()

    def _note_promised(self, now: float) -> None:
        try:
            knobs, memory = observe_overcommit(self.procfs, KNOBS)
        except OSError as error:
            if error.errno in SHORTAGE:
                raise
            return
        if memory is None:
            return
        self.status.committed_peak_kib = max(self.status.committed_peak_kib, memory.committed_kib)
        if knobs.get(MODE) == STRICT:
            self.foresight.promised(memory)
        headroom = self.reconciler.policy.commit_headroom_percent
        self._peaks.note(demand_kib(memory, knobs, headroom_percent=headroom), now)
        trouble = self._peaks.trouble
        lost = trouble and f"the peak of Committed_AS will be lost at the next reboot: {trouble}"
        self.degradations.set("peaks", lost)

    # The policy

    def _adopt(self, policy: Policy) -> None:
        before = self.reconciler.policy
        is_new = bool(self.status.policy_error) or policy.digest != before.digest
        changed = [*changes(before.facts, policy.facts)]
        self.status.policy_loaded_at, self.status.policy_error = time.time(), ""
        self._matched_before = self._matched
        self.reporter.start_over()
        self.kills.read()  # the previous policy matched what was killed
        self._warn_of_emptied(policy)
        self.worker.events.follow_forks()  # which values children keep is the previous policy's to say
        self.reconciler.adopt(policy)  # the same files may name users whose uids have changed
        how = f"read again for this host: {', '.join(changed)}" if changed else "read again, unchanged"
        loaded = f"policy {'loaded' if is_new else how}: {policy.origin}"
        self.reporter.say(events.POLICY_LOADED, loaded, POLICY=policy.digest)
        self.degradations.set("rights for rules", *rights_missing_for(policy, self.procfs))
        self.foresight.adopt(policy, self.reconciler.privilege)
        self.worker.begin_pass("policy")
        self._notify_ready()

    def _warn_of_emptied(self, policy: Policy) -> None:
        """Warn about files that a full disk or a shell's > may have emptied."""
        numbers = self.reconciler.managed.rule_of.values()
        for one in emptied(self.reconciler.policy, policy):
            managed = sum(number in one.rules for number in numbers)
            self.reporter.say(
                events.POLICY_EMPTIED,
                f"{printable(one.file)} no longer declares anything: {one.summary} are no longer in force;"
                f" they matched {counted(managed, 'process', 'es')}; if this is a mistake, restore the file",
                SOURCE=one.file,
            )

    def _reject(self, error: OomguardError) -> None:
        self.status.policy_error = error.message
        message = f"the policy cannot be used; the previous one stays in force: {error.message}"
        self.reporter.say(events.POLICY_REJECTED, message)
        self._notify_ready()

    # Reports

    @property
    def _matched(self) -> Matched:
        """What the rules match; until a policy's first pass ends, what the previous policy matched."""
        return self._matched_before or self.worker.matched

    def _rule_of(self, pid: int) -> Rule | None:
        before = self._matched_before
        return self.reconciler.managed.rule(pid) or (None if before is None else before.rule(pid))

    def _killed(self, kill: Kill, context: Context | None) -> None:
        rule = self._rule_of(kill.pid)
        now = time.monotonic()
        growth = self.foresight.killed(kill.pid, kill.comm, "" if context is None else context.oom_memcg)
        self.reporter.kills.take(Death(kill, context, rule, growth), now)
        self.status.take_kill(kill, rule)
        self.loop.set_earlier("fold", now + FOLD_SECONDS)
        self.status.request(now)

    def _notify_ready(self) -> None:
        count = len(self._matched.rule_of)
        state = f"{self.reconciler.policy.summary} in force; {counted(count, 'managed process', 'es')}"
        if self.status.policy_error:
            state = f"policy rejected; {state}"
        self._write_status()  # it is there when `systemctl start` returns
        self.notifier.notify(READY="1", STATUS=state)

    def _stopped(self) -> None:
        self.notifier.notify(STOPPING="1")
        self.reporter.close()
        restore = f"oomguard restore{state_dir_option(self._folder.path)}"
        self.reporter.say(
            events.STOPPED, f"oomguard stopped; its values stay in force (to restore: {restore})"
        )
        self.status.remove()

    def _beat(self, now: float) -> None:
        interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        if interval:
            self.loop.set("watchdog", now + interval / 2)  # first: the other may fail for lack of memory
            self.notifier.notify(WATCHDOG="1")

    def _flush(self, now: float) -> None:
        self.reporter.flush(now)
        self.reconciler.ledger.flush()
        self.loop.set("fold", self.reporter.next_flush())

    def _report_throttling(self) -> None:
        """Report that the ceiling on CPU time was reached, or no longer is."""
        ceiling, now = self.loop.ceiling, time.monotonic()
        self._is_throttled = ceiling.is_reached
        self.status.request(now)
        if self._is_throttled:
            self.reporter.say(
                events.THROTTLED,
                f"oomguard pauses at its limit of {LIMIT_PERCENT} % of a CPU: to check all processes that"
                " start and change would take more; new processes get their values later",
            )
        else:
            seconds = now - ceiling.reached_at
            self.reporter.say(events.UNTHROTTLED, f"oomguard no longer pauses, after {span(seconds)}")

    def _write_status(self) -> None:
        begun = time.process_time()
        status = self.status.collect(
            self.reconciler,
            self._matched,
            has_events=self.worker.events.flow,
            watches=len(self.worker.watching.drift),
            pressure=self.foresight.status,
            is_throttled=self._is_throttled,
            passing_limits=[NO_EVENTS] if self.worker.events.have_stopped else [],
        )
        self.status.write(status)
        self.status.took(time.process_time() - begun)
