"""The daemon: it looks again whenever something says that the world may have moved.

Work is done in slices, so that neither a burst of events nor a pass over a large host holds up
signals, the watchdog or a reload.
"""

import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]  # it ships no types

from oomguard import __version__
from oomguard.core.process import Identity
from oomguard.daemon.loop import Loop
from oomguard.daemon.policy_child import read_policy
from oomguard.daemon.reload import Reloader
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import open_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state import open_state_folder
from oomguard.report import events
from oomguard.report.reporter import Reporter
from oomguard.report.status import STATUS_FILE, Status, encode_status

if TYPE_CHECKING:
    from oomguard.core.errors import OomguardError
    from oomguard.core.plan import Cause, Outcome
    from oomguard.core.policy import Policy
    from oomguard.report.journal import Sink

POLL_SECONDS = 1.0
"""Interval of passes while nothing tells of new processes."""

SLICE_SECONDS = 0.02
"""Time for one slice of a pass before signals and events are looked at again."""

STATUS_SECONDS = 1.0
"""The status file is replaced at most this often."""

_SLICE_PROCESSES = 64


class Options(NamedTuple):
    """Where things are."""

    policy_path: str
    state_dir: str
    proc_root: str


class Service:
    """A running daemon. `run` returns when it was asked to stop."""

    def __init__(self, options: Options, sink: "Sink") -> None:
        self.options = options
        self.reporter = Reporter(sink)
        self.loop = Loop()
        self.notifier = SystemdNotifier()
        self.procfs = Procfs(options.proc_root)
        self._identity = self._own_identity()
        self._started_at = time.time()
        self._stopping = False
        self._policy_error = ""
        self._limits: list[str] = []
        self._passes = 0
        self._sweep: list[int] = []
        self._sweep_cause: Cause = "start"
        self._pids: set[int] = set()
        self._pids_before: set[int] = set()

    def run(self) -> None:
        """Take the lock, read the policy, apply it, say so, and keep it until SIGTERM."""
        folder = open_state_folder(self.options.state_dir)
        assert folder is not None
        self.folder = folder
        folder.lock()
        self._define()
        reloader = Reloader(self.options.policy_path, self.loop, adopt=self._adopt, reject=self._reject)
        self.loop.on_signal(signal.SIGHUP, reloader.reload)
        policy = read_policy(self.options.policy_path, now=time.monotonic())
        ledger = open_ledger(folder, boot_id=self.procfs.boot_id(), is_alive=self.procfs.is_alive)
        self.reconciler = Reconciler(policy, ledger, self.procfs)
        self.reporter.say(
            events.STARTED,
            f"oomguard {__version__} started: {_counts(policy)} from {', '.join(policy.files)}",
            POLICY=policy.digest,
        )
        self._begin_pass("start")
        while self._sweep:
            self._work()
        self._say_ready()
        self._beat(time.monotonic())
        try:
            while not self._stopping:
                self.loop.turn(busy=bool(self._sweep))
                self._work()
        finally:
            self.notifier.notify("STOPPING=1")
            reloader.close()
            self.reporter.close()
            self.reporter.say(
                events.STOPPED,
                "oomguard stopped; values stay as they are (`oomguard restore` puts them back)",
            )
            folder.remove(STATUS_FILE)
            ledger.close()
            folder.close()

    def _own_identity(self) -> Identity:
        handle = self.procfs.open(os.getpid())
        if handle is None:
            return Identity(os.getpid(), 0)  # a tree made for tests
        with handle:
            return handle.identity

    def _define(self) -> None:
        self.loop.define("pass", lambda _: self._begin_pass("resync"))
        self.loop.define("watchdog", self._beat)
        self.loop.define("fold", self._flush)
        self.loop.define("status", self._write_status)
        self.loop.on_signal(signal.SIGTERM, self._stop)
        self.loop.on_signal(signal.SIGINT, self._stop)

    def _stop(self) -> None:
        self._stopping = True

    # Passes

    def _begin_pass(self, cause: "Cause") -> None:
        """Look at the sysctls at once, and at every process in slices."""
        now = time.monotonic()
        for outcome in self.reconciler.sysctls(cause, now):
            self._take(outcome, now)
        pids = self.procfs.pids()
        self._pids_before, self._pids = self._pids, set(pids)
        self.reconciler.planner.forget_all_but(self._pids)
        self._sweep = pids[::-1]  # taken from the end: the oldest first
        self._sweep_cause = cause

    def _work(self) -> None:
        """Do one slice of the pass in progress."""
        if not self._sweep:
            return
        now = time.monotonic()
        end = now + SLICE_SECONDS
        while self._sweep and now < end:
            for _ in range(min(_SLICE_PROCESSES, len(self._sweep))):
                pid = self._sweep.pop()
                is_new = self._sweep_cause == "resync" and pid not in self._pids_before
                outcome = self.reconciler.process(pid, "exec" if is_new else self._sweep_cause, now)
                if outcome is not None:
                    self._take(outcome, now)
            now = time.monotonic()
        if not self._sweep:
            self._end_pass(now)

    def _end_pass(self, now: float) -> None:
        self._passes += 1
        self.reconciler.ledger.compact()
        for target in self.reconciler.contention.settle(now):
            name = f"oom_score_adj of pid {target.pid}" if isinstance(target, Identity) else str(target)
            self.reporter.say(events.UNCONTENDED, f"{name}: nothing rewrites it any more", TARGET=name)
        self.loop.set("pass", now + POLL_SECONDS)

    def _take(self, outcome: "Outcome", now: float) -> None:
        self.reporter.outcome(outcome, now)
        flush = self.reporter.next_flush()
        if flush is not None:
            self.loop.set_earlier("fold", flush)
        self.loop.set_earlier("status", now + STATUS_SECONDS)

    # The policy

    def _adopt(self, policy: "Policy") -> None:
        self._policy_error = ""
        self.reporter.start_over()
        self.reconciler.adopt(policy)
        self.reporter.say(
            events.POLICY_LOADED,
            f"policy loaded: {_counts(policy)} from {', '.join(policy.files)}",
            POLICY=policy.digest,
        )
        self._begin_pass("policy")
        self._say_ready()

    def _reject(self, error: "OomguardError") -> None:
        self._policy_error = error.message
        self.reporter.say(
            events.POLICY_REJECTED,
            f"the policy changed and is not valid, the one before stays in force: {error.message}",
        )
        self._say_ready()

    # What is said

    def _say_ready(self) -> None:
        planner = self.reconciler.planner
        state = f"keeping {_counts(planner.policy)}; {_count(len(planner.rule_of), 'process', 'es')} held"
        if self._policy_error:
            state = f"policy rejected; {state}"
        self.notifier.notify(f"READY=1\nSTATUS={state}")
        self._write_status(time.monotonic())

    def _beat(self, now: float) -> None:
        interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        if interval:
            self.notifier.notify("WATCHDOG=1")
            self.loop.set("watchdog", now + interval / 2)

    def _flush(self, now: float) -> None:
        self.reporter.flush(now)
        self.loop.set("fold", self.reporter.next_flush())

    def _limit(self, text: str) -> None:
        """Say once that something cannot be done here."""
        if text not in self._limits:
            self._limits.append(text)
            self.reporter.say(events.LIMITED, text)

    def _write_status(self, _now: float) -> None:
        reconciler = self.reconciler
        status = Status(
            version=__version__,
            identity=self._identity,
            started_at=self._started_at,
            written_at=time.time(),
            policy=reconciler.policy,
            policy_error=self._policy_error,
            rule_of=reconciler.planner.rule_of,
            reporter=self.reporter,
            contended=[str(target) for target in reconciler.contention.contended()],
            limits=self._limits,
            passes=self._passes,
        )
        try:
            self.folder.replace(STATUS_FILE, encode_status(status), mode=0o644)
        except OSError as error:
            self._limit(f"{self.options.state_dir}/{STATUS_FILE} cannot be written: {error.strerror}")


def _counts(policy: "Policy") -> str:
    return f"{_count(len(policy.rules), 'rule')} and {_count(len(policy.sysctls), 'sysctl')}"


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"
