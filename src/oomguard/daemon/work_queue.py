"""The processes that wait to be checked, and in which order their turn comes."""

import time
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from oomguard.core.change import Cause
    from oomguard.daemon.loop import Loop

URGENT_LIMIT = 10_000
"""Processes that wait because of an event. Beyond this many, a full pass is as quick."""

SLICE_PROCESSES = 8

Delay = Literal["child", "postponed", "undecided"]
"""Why a process is checked later. What a program does to the value of a child it forked, it has done after
0.1 s: sshd gives its sessions what it saved, and a backend of PostgreSQL sets its own value. What this host
was too busy to read is read again after 1 ms for each such process, 5 ms at least. A young process that may
rewrite its command line is checked each second."""

CHILD_SECONDS = 0.1
UNDECIDED_SECONDS = 1.0
_POSTPONED_SECONDS = 0.001
PATIENCE_SECONDS = 5.0
"""How long a pass goes on for what this host was too busy to read: it counts as checked by its end."""

_TOO_MANY = "more processes start than oomguard can check one by one"

CHASES = 20
FIRST_CHASES = 2
"""How often a pass continues with what was forked meanwhile, if it found inherited protection, and if it
found none, but processes ended before it reached them."""


class Sweep:
    """A pass: the processes still to be checked, then those forked meanwhile."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        """Taken from the end."""
        self.cause: Cause = "start"
        self.is_running = False
        self.is_wanted_again = False
        """Whether another pass must follow: what this one has checked may have changed since."""
        self.found_inherited = False
        """Whether a value that a process inherited was reset, since this was last set to False."""
        self._is_chasing = False
        self._chases = 0
        self._listed: set[int] = set()
        self._listed_before: set[int] = set()
        self._young: set[int] = set()
        self.patient_until = 0.0
        """Until when the pass waits for what was postponed, 0.0 if nothing was."""

    def begin(self, cause: "Cause", pids: list[int], *, chases_ended: bool) -> None:
        """Check these processes, the first ones first.

        `chases_ended`: what ended before it was reached may have forked, and its children may be protected.
        """
        self.cause, self.is_running = cause, True
        self.pids[:] = pids[::-1]
        self._listed_before, self._listed = self._listed, set(pids)
        self.found_inherited = self._is_chasing = self.is_wanted_again = False
        self.patient_until = 0.0
        self._chases, self._young = 0, self._listed if chases_ended else set()

    def cause_of(self, pid: int) -> "Cause":
        """Return why this pass changes a process: one that the pass before did not see is new."""
        return "exec" if self.cause == "resync" and pid not in self._listed_before else self.cause

    def chase(self, list_pids: "Callable[[], list[int]]") -> bool:
        """Continue with what was forked meanwhile, the latest first; return whether there is any.

        Otherwise a process could keep inherited protection by forking before it is reached, and so could its
        child.
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
        self.is_running = False
        self.pids.clear()


class Batch(NamedTuple):
    """Processes to check for one reason, SLICE_PROCESSES in a row. Of a list the last ones come first."""

    pids: set[int] | list[int]
    cause: "Cause | None" = "exec"
    """None: what `Sweep.cause_of` returns."""
    in_pass: bool = False
    is_watched: bool = False
    """Whether the watches on their values asked for this."""


class WorkQueue:
    """What waits: by events, by watches, after a delay, and in a pass.

    `follow_forks` is called before what was put off is checked; `lost` when so much waits that a pass takes
    no longer, with that reason.
    """

    def __init__(
        self, loop: "Loop", *, follow_forks: "Callable[[], object]", lost: "Callable[[str], None]"
    ) -> None:
        self._loop = loop
        self._follow_forks = follow_forks
        self._lost = lost
        self.urgent: set[int] = set()
        """Processes that an event was about."""
        self.drifting: set[int] = set()
        """Processes whose value something else may have written."""
        self.sweep = Sweep()
        self._delayed: dict[Delay, dict[int, None]] = {delay: {} for delay in get_args(Delay)}
        self._due: list[int] = []
        self._batches = (
            Batch(self._due, in_pass=True),
            Batch(self.urgent),
            Batch(self.drifting, "drift", is_watched=True),
            Batch(self.sweep.pids, None, in_pass=True),
        )
        self._was_sweeps_turn = False
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

    def put_off(self, delay: Delay, pids: "Iterable[int]") -> None:
        """Check processes later; if there are none, only follow the forks then."""
        waiting = self._delayed[delay]
        waiting.update(dict.fromkeys(pids))
        seconds, now = CHILD_SECONDS if delay == "child" else UNDECIDED_SECONDS, time.monotonic()
        if delay == "postponed":
            seconds = _POSTPONED_SECONDS * max(5, len(waiting))
            self.sweep.patient_until = self.sweep.patient_until or now + PATIENCE_SECONDS
        self._loop.set_earlier(delay, now + seconds)

    def _release(self, delay: Delay, _now: float) -> None:
        self._follow_forks()
        self._due += self._delayed[delay]
        self._delayed[delay].clear()
        self.check_size()

    def check_size(self) -> None:
        """Drop what waits if it is too much."""
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

    def batches(self, *, is_throttled: bool) -> "Iterator[Batch]":
        """Yield what to check next: what is due, and one other batch.

        Events come first. Throttled, they come faster than there is time for, so half of it is the pass's.
        """
        due, urgent, drifting, sweep = self._batches
        if due.pids:
            yield due
        is_sweeps_turn = is_throttled and not self._was_sweeps_turn and bool(sweep.pids)
        self._was_sweeps_turn = is_sweeps_turn
        if urgent.pids and not is_sweeps_turn:
            yield urgent
        elif drifting.pids and not is_sweeps_turn:
            yield drifting
        elif sweep.pids:
            yield sweep
