"""The processes that wait to be checked, and their order."""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.daemon.loop import Loop

if TYPE_CHECKING:
    from typing import Literal

    from oomguard.core.choices import Cause

    Delay = Literal["child", "postponed", "undecided", "unread"]

URGENT_LIMIT = 10_000
"""Processes that may wait because of an event. If more wait, a full pass is as fast."""

SLICE_PROCESSES = 8

_DELAYS: "tuple[Delay, ...]" = ("child", "postponed", "undecided", "unread")
"""Why a process is checked later. After 0.1 s, a program has done what it does to the value of a child
that it forked: sshd gives its sessions the value it saved, and a PostgreSQL backend sets its own. What
could not be read because the host is busy is read again after 1 ms for each such process, at least 5 ms. A
young process that may rewrite its command line is checked each second, as is what took too long to read."""

CHILD_SECONDS = 0.1
UNDECIDED_SECONDS = 1.0
_POSTPONED_SECONDS = 0.001
PATIENCE_SECONDS = 5.0
"""How long a pass goes on for what this host was too busy to read: it counts as checked by its end."""

_AGAIN_LIMIT = 64
"""Processes that wait to be read again. A look at one that still cannot be takes some 0.1 ms."""

_TOO_MANY = "more processes start than oomguard can check one by one"

CHASES = 20
FIRST_CHASES = 2
"""How often a pass continues with processes forked meanwhile: if it found inherited protection, and if it
found none, but processes ended before it reached them."""


class Sweep:
    """A pass: the processes still to check, then those forked meanwhile."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        """Taken from the end."""
        self.cause: Cause = "start"
        self.is_running = False
        self.is_wanted_again = False
        """Whether another pass must follow, because what this one has checked may have changed since."""
        self.found_inherited = False
        """Whether an inherited value was reset since this was last set to False."""
        self._is_chasing = False
        self._chases = 0
        self._listed: set[int] = set()
        self._listed_before: set[int] = set()
        self._young: set[int] = set()
        self._newest: set[int] = set()
        self._passed, self._seen = array("I"), array("I")
        """What the last pass listed, and the last one or `newcomers`: 10,000 in a set take 0.8 MiB."""
        self.patient_until = 0.0
        """Until when the pass waits for what was postponed, 0.0 if nothing was."""

    def begin(self, cause: "Cause", pids: list[int], *, chases_ended: bool) -> None:
        """Start to check these processes, in this order.

        `chases_ended`: a process that ended before the pass reached it may have forked, and its children may
        be protected.
        """
        self.cause, self.is_running = cause, True
        self.pids[:] = pids[::-1]
        self._listed_before, self._listed = self._listed or set(self._passed), set(pids)
        self.found_inherited = self._is_chasing = self.is_wanted_again = False
        self.patient_until = 0.0
        self._chases, self._young = 0, self._listed if chases_ended else set()
        self._newest = self._listed.difference(self._seen) if self._seen else set()
        self._seen = array("I", pids)

    def cause_of(self, pid: int) -> "Cause":
        """Return the cause of a change by this pass: a process that the last pass did not see is new."""
        return "exec" if self.cause == "resync" and pid not in self._listed_before else self.cause

    def newcomers(self, pids: list[int]) -> set[int]:
        """Return the processes that started since the last call or pass, and what that call returned as new.

        So each is returned twice: it may run a program after it was first seen.
        """
        again, self._newest = self._newest, set(pids).difference(self._seen)
        self._seen = array("I", pids)
        return self._newest | again

    def chase(self, list_pids: Callable[[], list[int]]) -> bool:
        """Continue with processes forked meanwhile, the latest first; return whether there are any.

        Otherwise a process could keep inherited protection by forking before the pass reaches it, and so
        could its child.
        """
        self._is_chasing |= self.found_inherited
        if self._chases == (CHASES if self._is_chasing else FIRST_CHASES):
            return False
        listed = set(list_pids())
        if not self.found_inherited and self._young <= listed:
            return False
        self.found_inherited = False
        self._chases += 1
        self._young = listed - self._listed
        self._listed |= self._young
        self.pids[:] = sorted(self._young)
        return bool(self._young)

    def end(self) -> None:
        """Stop here."""
        if self.is_running:
            self._passed = array("I", self._listed)
        self._listed, self._listed_before, self._young = set(), set(), set()
        self.is_running = False
        self.pids.clear()


class Batch(NamedTuple):
    """Processes to check for one reason, SLICE_PROCESSES at a time. The last in the list come first."""

    pids: set[int] | list[int]
    cause: "Cause | None" = "exec"
    """None: what `Sweep.cause_of` returns."""
    in_pass: bool = False
    is_watched: bool = False
    """Whether the watches on their values caused this."""


class WorkQueue:
    """The processes that wait: for events, for watches, for a delay, and in a pass.

    `follow_forks` is called before delayed processes are checked; `lost` with the reason, when so much waits
    that a pass takes no longer.
    """

    def __init__(
        self, loop: Loop, *, follow_forks: Callable[[], object], lost: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._follow_forks = follow_forks
        self._lost = lost
        self.urgent: set[int] = set()
        """Processes that an event was about."""
        self.drifting: set[int] = set()
        """Processes whose value something else may have written."""
        self.sweep = Sweep()
        self._delayed: dict[Delay, dict[int, None]] = {delay: {} for delay in _DELAYS}
        self._due: list[int] = []
        self._batches = (
            Batch(self._due, in_pass=True),
            Batch(self.urgent),
            Batch(self.drifting, "drift", is_watched=True),
            Batch(self.sweep.pids, None, in_pass=True),
        )
        self._was_sweeps_turn = self._was_events_turn = False
        for delay in self._delayed:
            loop.define(delay, partial(self._release, delay))

    def __bool__(self) -> bool:
        is_sweeping = self.sweep.is_running and not self.is_pass_waiting
        return bool(self.urgent or self._due or self.drifting or is_sweeping)

    @property
    def is_pass_waiting(self) -> bool:
        """Whether all that a pass still has to check was postponed."""
        is_left = not self.sweep.pids and self._delayed["postponed"]
        return bool(is_left) and time.monotonic() < self.sweep.patient_until

    @property
    def has_room(self) -> bool:
        """Whether more may wait for what somebody delays: nobody can have many checked each second."""
        return len(self._delayed["unread"]) < _AGAIN_LIMIT

    def put_off(self, delay: "Delay", pids: Iterable[int]) -> None:
        """Check processes later; if the list is empty, only follow forks then."""
        waiting = self._delayed[delay]
        waiting.update(dict.fromkeys(pids))
        seconds, now = CHILD_SECONDS if delay == "child" else UNDECIDED_SECONDS, time.monotonic()
        if delay == "postponed":
            seconds = _POSTPONED_SECONDS * max(5, len(waiting))
            self.sweep.patient_until = self.sweep.patient_until or now + PATIENCE_SECONDS
        self._loop.set_earlier(delay, now + seconds)

    def _release(self, delay: "Delay", _now: float) -> None:
        self._follow_forks()
        self._due += self._delayed[delay]
        self._delayed[delay].clear()
        self.check_size()

    def check_newcomers(self, pids: list[int]) -> None:
        """Check those of all pids that started since the last pass began, or this was last called."""
        self._due += sorted(self.sweep.newcomers(pids), reverse=True)
        self.check_size()

    def check_size(self) -> None:
        """Drop the queue if it is too long."""
        if max(len(self.urgent), len(self._due)) > URGENT_LIMIT:
            (self.urgent if len(self.urgent) > URGENT_LIMIT else self._due).clear()
            self._lost(_TOO_MANY)

    def clear(self) -> None:
        """Drop everything."""
        self.sweep.end()
        self.urgent.clear()
        self.drifting.clear()
        self._due.clear()
        for waiting in self._delayed.values():
            waiting.clear()

    def batches(self, *, is_throttled: bool) -> Iterator[Batch]:
        """Yield what to check next: what is due, and one other batch.

        Events come first. During throttling they come faster than they can be handled, so the pass gets half
        of the time, and what the watches report every other turn of the rest.
        """
        due, urgent, drifting, sweep = self._batches
        if due.pids:
            yield due
        is_sweeps_turn = is_throttled and not self._was_sweeps_turn and bool(sweep.pids)
        self._was_sweeps_turn = is_sweeps_turn
        if is_sweeps_turn:
            yield sweep
            return
        is_events_turn = not (is_throttled and self._was_events_turn)
        for batch in (urgent, drifting, sweep) if is_events_turn else (drifting, urgent, sweep):
            if batch.pids:
                self._was_events_turn = batch is urgent
                yield batch
                return
