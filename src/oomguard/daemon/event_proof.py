"""Proves again and again that process events flow, and acts if they stop.

Any user can silence the connector (kernel/connector.py), and nothing reports that. So the daemon causes an
event of its own after each pass, and whenever somebody sends the connector a request. If it does not arrive,
events have stopped. Then the daemon raises the kernel's count of listeners in slices, and polls for new
processes until events have flowed for a while without a gap. That time doubles, so more attempts neither cost
more nor write more to the log.
"""

from collections.abc import MutableMapping, MutableSet

from oomguard.core.typed import TYPE_CHECKING
from oomguard.kernel.connector import Connector

if TYPE_CHECKING:
    from typing import Literal

    FlowChange = Literal["stopped", "resumed"]
    """What changed: events can no longer be relied on, or can be again."""

GUARD_SECONDS = 1.0
"""Requests to the connector are noticed at most this often."""

CUSHION = 16
"""How far to raise the count at each request. The next probe notices whoever lowers it without a pause;
whoever waits in between finds it higher than before."""

BATCH = 64
"""How far to raise it in one slice of an attempt (0.25 ms), before checking whether that was enough."""

REACH = 60_000
"""How far one attempt raises it, in some 0.25 s of CPU time."""

RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
"""Pause between attempts; each is twice the previous one."""

HOLD_SECONDS = 10.0
LONGEST_HOLD_SECONDS = 3600.0
"""How long events must flow before they are relied on again: twice as long each time they stop again
within `LONGEST_HOLD_SECONDS`."""


class EventProof:
    """Whether `connector` can be relied on.

    Times are monotonic seconds. Call `receive` after each `prove` and `work`, and whenever the connector is
    readable.
    """

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self.flow = True
        """Whether events are relied on; if not, processes have to be polled for."""
        self.guard_at: float | None = None
        """When to call `prove` next, even if nothing else asks for it."""
        self.is_busy = False
        """Whether `work` has something to do."""
        self._left = 0
        self._retry_at = 0.0
        self._retry_seconds = RETRY_SECONDS
        self._hold_seconds = HOLD_SECONDS
        self._hold_until = 0.0
        self._resumed_at = float("-inf")
        self._is_guard_due = True

    def prove(self, now: float) -> None:
        """Start to find out whether events flow."""
        if self.guard_at is not None and now >= self.guard_at:
            self._is_guard_due = True
            self.guard_at = now + GUARD_SECONDS  # again, if the queue overflows and the answer stays unknown
        self.connector.probe()

    def work(self) -> None:
        """Raise the count of listeners by one slice, and start to find out whether that is enough."""
        self.connector.renew(BATCH)
        self.connector.probe()
        self._left -= BATCH
        self.is_busy = self._left > 0

    def receive(
        self, pids: MutableSet[int], executed: MutableMapping[int, int], *, limit: int, now: float
    ) -> "tuple[bool, FlowChange | None]":
        """Take up to `limit` events as `Connector.receive` does; also return what changed."""
        connector = self.connector
        lost = connector.receive(pids, executed, limit=limit)
        if connector.requested and self.guard_at is None:
            connector.ignore_requests()
            connector.renew(CUSHION)
            connector.probe()
            self.guard_at = now + GUARD_SECONDS
            lost = connector.receive(pids, executed, limit=limit) or lost
        answer, connector.answer = connector.answer, None
        if answer is None:
            return lost, None
        return lost, self._answered(now) if answer else self._unanswered(now)

    def _answered(self, now: float) -> "FlowChange | None":
        self.is_busy = False
        if self.flow:
            if self._is_guard_due:
                self._guard()
            return None
        if now < self._hold_until:
            return None
        self.flow = True
        self._resumed_at = now
        self._retry_seconds = RETRY_SECONDS
        self._guard()
        return "resumed"

    def _unanswered(self, now: float) -> "FlowChange | None":
        if now >= self._retry_at:
            self.is_busy = True
            self._left = REACH
            self._retry_at = now + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)
        if self.flow:
            again = now - self._resumed_at < LONGEST_HOLD_SECONDS
            self._hold_seconds = min(2 * self._hold_seconds, LONGEST_HOLD_SECONDS) if again else HOLD_SECONDS
        self._hold_until = now + self._hold_seconds
        if not self.flow:
            return None
        self.flow = False
        self.connector.ignore_requests()
        self._is_guard_due, self.guard_at = False, None
        return "stopped"

    def _guard(self) -> None:
        """Notice the next request.

        The kernel does not acknowledge the one that takes the count from one to zero. So this follows an
        event that arrived: the count was above zero before it is raised, and many others come before that
        one. Raised first, the count could be exactly one, for whoever had lowered it by `CUSHION` beforehand.
        """
        self._is_guard_due, self.guard_at = False, None
        self.connector.renew(CUSHION)
        self.connector.hear_requests()
