"""Which processes inherited a value that oomguard set: Linux copies it to every child, and exec keeps it.

Fork events show it, in their order, even for a daemon that forks twice and has no living parent. Without
fork events, or after some were lost, living parents show it (`reconcile.planner`).
"""

import time
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.process import INIT_PID, Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from oomguard.core.diff import Entry
    from oomguard.core.trust import Standing
    from oomguard.reconcile.ledger import Ledger

_ATTENDED_LIMIT = 64
"""Parents whose children are looked at 0.1 s after their fork; the filter in the kernel names each."""

CROSSING_NS = 100_000_000
"""The kernel copies the value to a child before it stamps the fork, so a fork that seems to follow a reset
may have come before it. Where every processor is busy the two are some milliseconds apart."""

_SUSPECT_NS = 1_000_000_000
"""How long the forks of a process that was reset, and of its parent, are checked. With CLONE_PARENT a
process makes its child one of its parent's."""


class _Heir(NamedTuple):
    entry: "Entry"
    until_ns: int | None = None
    """When it got another value: what it forked later did not inherit this one."""
    is_certain: bool = True
    """Whether it had the value at first: else its fork crossed a reset, and only its value tells."""


class Lineage:
    """The descendants of processes in the ledger, by pid. A pid that is used again is told by its fork.

    `is_alive` tells whether a process still is there; `clock` is that of the kernel's events,
    CLOCK_MONOTONIC in nanoseconds.
    """

    def __init__(
        self,
        ledger: "Ledger",
        is_alive: "Callable[[Identity], bool]",
        clock: "Callable[[], int]" = time.monotonic_ns,
    ) -> None:
        self._ledger = ledger
        self._is_alive = is_alive
        self._clock = clock
        self._heirs: dict[int, _Heir] = {}
        self._generous: set[int] = set()
        self._attended: dict[int, Standing] = {}
        self._expectant: dict[int, Standing] = {}
        self.has_new_places = False
        """Whether children of others are expected than when this was last set to False."""
        self._suspects: dict[int, int] = {}
        self.asks_parents = bool(ledger.processes)
        """Whether inheritance is found from living parents, because fork events were lost."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to inherit."""
        return bool(self._ledger.processes or self._heirs)

    @property
    def attended(self) -> frozenset[int]:
        """Parents whose children are checked soon: protected ones first, whose rule does not match these."""
        return frozenset([*self._attended, *self._expectant][:_ATTENDED_LIMIT])

    def __len__(self) -> int:
        return len(self._heirs)

    def forked(self, parent: int, child: int, at_ns: int) -> bool:
        """Take note of a fork, and when it was; tell whether to check the child soon, whatever it runs."""
        known = self._ledger.processes.get(child)
        if known is not None and not self._is_alive(Identity(child, known[0])):
            self._ledger.forget_process(child)  # it had this pid before, and its last children are known
            self.disregard(child)
        heir = self._legacy(parent, at_ns)
        if heir is None:
            self._heirs.pop(child, None)
        else:
            self._heirs[child] = heir
        if parent == INIT_PID:
            # The service manager forks seldom. An orphan's child can be made to look like one of those.
            return bool(self._ledger.protections)
        return (
            parent in self._attended
            or parent in self._expectant
            or (parent in self._heirs and self._heirs[parent].until_ns is None)
            or at_ns <= self._suspects.get(parent, -1)
        )

    def entry(self, pid: int) -> "Entry | None":
        """Return the entry of the process whose value this one inherited, if it still has that."""
        heir = self._heirs.get(pid)
        return heir.entry if heir is not None and heir.until_ns is None else None

    def is_certain(self, pid: int) -> bool:
        """Tell whether a process did inherit what `entry` tells, whatever value it has by now."""
        heir = self._heirs.get(pid)
        return heir is not None and heir.until_ns is None and heir.is_certain

    def has_own(self, pid: int) -> None:
        """Take note that a process has another value than one that it may have inherited."""
        if pid in self._heirs and not self._heirs[pid].is_certain:
            del self._heirs[pid]

    def former_entry(self, pid: int) -> "Entry | None":
        """Return the entry of a process whose value its children may have, though it has it no more."""
        heir = self._heirs.get(pid)
        return None if heir is None else heir.entry

    def gave_up(self, pid: int, entry: "Entry", parent: int = INIT_PID) -> None:
        """Take note that a process was given its own value back, instead of the one of `entry`."""
        now = self._clock()
        self._hand_down(pid, _Heir(entry, now))
        for suspect in (pid, parent):
            if suspect != INIT_PID:
                self._suspects[suspect] = now + _SUSPECT_NS

    def chose(self, pid: int, entry: "Entry") -> None:
        """Take note that a process gave itself another value than the one of `entry`.

        It may have put that one by, to give it to its children: sshd does.
        """
        self._hand_down(pid, _Heir(entry))

    def bequeath(self, pid: int, *, inherit: bool, attend: "Standing | None" = None) -> None:
        """Say of a process in the ledger whether its children keep its value, or are looked at soon."""
        if inherit:
            self._generous.add(pid)
        else:
            self._generous.discard(pid)
        _place(self._attended, pid, attend)

    def expect(self, pid: int, standing: "Standing | None") -> None:
        """Say of a process whether its children may come to match a rule, without an event but their fork."""
        if (standing is None) == (pid in self._expectant) and _place(self._expectant, pid, standing):
            self.has_new_places = True

    def disregard(self, pid: int) -> None:
        """Forget what was said of a process's children: it is none that gives them anything."""
        self.bequeath(pid, inherit=False)

    def died(self, pid: int) -> None:
        """Note that a process in the ledger has ended; events of its last children may still come."""
        known = self._ledger.processes.get(pid)
        if known is not None:
            self._hand_down(pid, _Heir(known[1]))
        else:
            self.disregard(pid)

    def keep_only(self, pids: "Set[int]") -> None:
        """Forget every process that is not among `pids`."""
        self._generous &= pids
        for places in (self._attended, self._expectant):
            for gone in places.keys() - pids:
                del places[gone]
        self._heirs = {pid: heir for pid, heir in self._heirs.items() if pid in pids}
        now = self._clock()
        self._suspects = {pid: until for pid, until in self._suspects.items() if until >= now}

    def values(self) -> set[int]:
        """Return the values that some process inherited, or until just now gave to its children."""
        since = self._clock() - _SUSPECT_NS
        return {
            heir.entry.given
            for heir in self._heirs.values()
            if heir.until_ns is None or heir.until_ns > since
        }

    def forget(self) -> None:
        """Forget everything; the parents that live will tell."""
        self._heirs.clear()
        self.asks_parents = True

    def reconsider(self) -> None:
        """Have another policy say whose children keep what they inherited: so far nobody followed these."""
        self.asks_parents = self.asks_parents or bool(self._generous)
        self._generous.clear()

    def _hand_down(self, pid: int, heir: _Heir) -> None:
        """Let the children of a process that leaves the ledger still inherit from it."""
        if pid not in self._generous:
            self._heirs[pid] = heir
        self.disregard(pid)

    def _legacy(self, parent: int, at_ns: int) -> _Heir | None:
        known = self._ledger.processes.get(parent)
        if known is not None:
            return None if parent in self._generous else _Heir(known[1])
        heir = self._heirs.get(parent)
        if heir is None or heir.until_ns is None:
            return heir
        if at_ns > heir.until_ns + CROSSING_NS:
            return None
        return _Heir(heir.entry, is_certain=at_ns <= heir.until_ns)


def _place(places: "dict[int, Standing]", pid: int, standing: "Standing | None") -> bool:
    """Give a process a place, or take its place away; tell whether that was done.

    What has the higher standing takes the place of what has the lowest if none is free.
    """
    if standing is None:
        return places.pop(pid, None) is not None
    if pid not in places and len(places) >= _ATTENDED_LIMIT:
        last = max(places, key=places.__getitem__)
        if standing >= places[last]:
            return False
        del places[last]
    places[pid] = standing
    return True
