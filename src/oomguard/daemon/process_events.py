"""The subscription to process events: what they report, forks, muting, loss, and the gap while none flow."""

import select
import time
from collections.abc import Callable

from oomguard.core.process import INIT_PID
from oomguard.core.typed import TYPE_CHECKING
from oomguard.daemon.event_proof import EventProof
from oomguard.daemon.noise import LOOK_SECONDS, Noise
from oomguard.daemon.work_queue import WorkQueue
from oomguard.kernel.connector import Connector, ConnectorUnavailableError
from oomguard.reconcile.reconciler import Reconciler

if TYPE_CHECKING:
    from oomguard.daemon.event_proof import FlowChange
    from oomguard.daemon.loop import Loop, Ready

DESCENDANTS_LIMIT = 16_384
"""Descendants, or as much else, remembered before those that ended are forgotten, which no event reports:
2 MiB."""

_EVENTS_A_TURN = 1024
_PROGRAMS_A_TURN = 64
_LOST_EVENTS = "the kernel dropped process events (more than the buffer holds)"
_LOST_FORKS = "the kernel dropped fork events (more than the buffer holds)"


class ProcessEvents:
    """Fills the queue with the processes that events are about, and reports forks to the reconciler.

    `check` checks a process at once. `lost` is called with what was lost; `turned` when events can no longer
    be relied on, or can be again. After both, everything must be checked. `resync` asks for a pass unless one
    is in progress.
    """

    def __init__(
        self,
        loop: "Loop",
        queue: WorkQueue,
        reconciler: Reconciler,
        *,
        check: Callable[[int], None],
        lost: Callable[[str], None],
        turned: "Callable[[FlowChange], None]",
        resync: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._reconciler = reconciler
        self._check = check
        self._lost = lost
        self._turned = turned
        self._resync = resync
        self._proof: EventProof | None = None
        self._noise = Noise()
        self._weight_limit = DESCENDANTS_LIMIT
        loop.define("prove", lambda _: self.prove())
        loop.define("noise", self._check_muted)

    def open(self, connect: Callable[[], Connector] = Connector) -> str:
        """Subscribe. Return why there are no events here, "" if there are."""
        try:
            connector = connect()
        except ConnectorUnavailableError as error:
            return str(error)
        self._proof = EventProof(connector)
        self._loop.watch(connector.fileno(), self._receive)
        return ""

    def close(self) -> None:
        """Unsubscribe."""
        if self._proof is not None:
            self._proof.connector.close()

    @property
    def flow(self) -> bool:
        """Whether events are relied on; if not, processes have to be polled for."""
        return self._proof is not None and self._proof.flow

    @property
    def have_stopped(self) -> bool:
        """Whether they flowed before."""
        return self._proof is not None and not self._proof.flow

    @property
    def is_busy(self) -> bool:
        """Whether `work` has something to do."""
        return self._proof is not None and self._proof.is_busy

    def prove(self) -> None:
        """Start to find out whether events flow."""
        if self._proof is not None:
            self._proof.prove(time.monotonic())
            self._receive()

    def work(self) -> None:
        """Try to make them flow again, by one slice."""
        if self._proof is not None:
            self._proof.work()
            self._receive()

    def end_pass(self) -> None:
        """Rely on events again, unless some were lost that only the next pass makes up for."""
        if not self._queue.sweep.is_wanted_again:
            self._reconciler.managed.asks_parents = not self.flow
        self.watch_parents()

    def check_programs(self) -> "Ready":
        """Check each program that starts, until something else is ready; return that, as `Loop.wait` does.

        This is what each program that starts costs the host, so it is a straight line: five system calls for
        the many that need nothing.
        """
        if self._proof is None or self._proof.connector.is_behind:
            return self._loop.wait()
        connector, reconciler = self._proof.connector, self._reconciler
        wait, receive, needs_nothing = self._loop.wait, connector.next_exec, reconciler.needs_nothing
        alone = [(connector.fileno(), select.EPOLLIN)]
        for _ in range(_PROGRAMS_A_TURN):
            ready = wait()
            if ready != alone:
                return ready
            event = receive()
            if event is None:
                break
            pid, at_ns = event
            follows = reconciler.managed.is_needed
            if follows:
                self.follow_forks(until=pid)
            if not needs_nothing(pid):
                reconciler.managed.executed[pid] = at_ns
                self.follow_forks()  # what it forked before it ran this program
                self._check(pid)
            elif not follows:
                continue
            if self._queue:
                break
        self._receive()  # now: the loop, which then accounts for the CPU time, may pause before it handles it
        return []

    def follow_forks(self, note: Callable[[int, int, int], None] | None = None, *, until: int = 0) -> None:
        """Learn which process forked which, up to now or to the fork of a process."""
        if self._proof is not None and self._proof.connector.forks(note or self._forked, until=until):
            self._reconciler.managed.forget_forks()
            self._lost(_LOST_FORKS)

    def follow_children(self) -> set[int]:
        """Learn which process forked which, up to now; return the children."""
        children: set[int] = set()

        def note(parent: int, child: int, at_ns: int) -> None:
            children.add(child)
            self._forked(parent, child, at_ns)

        self.follow_forks(note)
        return children

    def forget_ended(self) -> list[int]:
        """Forget every process that has ended; return the pids of the others."""
        self.follow_forks()
        pids = self._reconciler.procfs.pids()
        # A process that has forked and ended is not in the list; only the fork event shows its child.
        self._reconciler.keep_only({*pids, *self.follow_children()})
        self._weight_limit = max(DESCENDANTS_LIMIT, 2 * self._reconciler.weight)
        return pids

    def _forked(self, parent: int, child: int, at_ns: int) -> None:
        if self._reconciler.managed.on_fork(parent, child, at_ns):
            self._queue.put_off("child", (child,))

    def watch_parents(self) -> None:
        """Wake up for forks of the processes whose children are to be checked soon."""
        managed = self._reconciler.managed
        managed.has_new_watched = False
        parents = managed.watched
        if self._reconciler.ledger.protections:
            parents |= {INIT_PID}
        if self._proof is not None and self._proof.connector.watch_parents(parents):
            self.follow_forks()  # their forks before that

    def _receive(self) -> None:
        proof, reconciler, now = self._proof, self._reconciler, time.monotonic()
        assert proof is not None
        lost, turn = proof.receive(
            self._queue.urgent, reconciler.managed.executed, limit=_EVENTS_A_TURN, now=now
        )
        if turn is not None:
            reconciler.managed.forget_forks()  # the parents of processes that started meanwhile are unknown
            self._turned(turn)
        elif lost:
            self._lost(_LOST_EVENTS)
        self._queue.check_size()
        if proof.guard_at is not None:
            self._loop.set("prove", proof.guard_at)
        connector = proof.connector
        if connector.changed and self._noise.take(connector.changed, now):
            self._mute(connector, now)
        connector.changed.clear()
        if connector.has_forks or reconciler.managed.is_needed:
            self.follow_forks()
        if reconciler.weight > self._weight_limit:
            self.forget_ended()

    def _check_muted(self, now: float) -> None:
        """Check the processes whose events are dropped: all of them, if all renames were."""
        noise = self._noise
        self._loop.set("noise", now + LOOK_SECONDS)  # first: the rest may fail for lack of memory
        self._queue.urgent |= noise.muted
        was_all = noise.all_renames
        if noise.expire(now) and self._proof is not None:
            self._mute(self._proof.connector, now)
        if not noise.is_any:
            self._loop.set("noise", None)
        if was_all and not noise.all_renames:
            self._resync()

    def _mute(self, connector: Connector, now: float) -> None:
        """Make the kernel drop the events of processes that change all the time."""
        connector.mute(self._noise.muted, all_renames=self._noise.all_renames)
        if self._noise.is_any:
            self._loop.set_earlier("noise", now + LOOK_SECONDS)
