"""Which processes inherited a value that oomguard set: Linux copies it to every child, and exec keeps it.

Fork events show it, in their order, even for a process that forked twice and has no living parent. Without
them, living parents show it, and for values below 0 the evidence of `core.protection`.
"""

import time
from contextlib import suppress

from oomguard.core.entry import Entry
from oomguard.core.process import INIT_PID, Identity, UnknownFactError
from oomguard.core.protection import JUST_BELOW_ZERO, Holder, home_service, inherited
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.kernel.proc_files import GONE, HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from oomguard.core.trust import ControlledBy
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger
    from oomguard.reconcile.matching import Matching

_WATCHED_LIMIT = 64
"""Parents whose children are checked 0.1 s after their fork; the filter in the kernel names each."""

CROSSING_NS = 100_000_000
"""The kernel copies the value to a child before it stamps the fork, so a fork that seems to follow a reset
may have preceded it. On a busy host the two are some milliseconds apart."""

_RESET_NS = 1_000_000_000
"""How long to check the forks of a process that was reset, and of its parent: with CLONE_PARENT a process
can make its child its parent's."""


class _Inherited(NamedTuple):
    entry: Entry
    """The entry of the managed process that the value comes from."""
    until_ns: int | None = None
    """When it got another value: later children did not inherit this one."""
    is_certain: bool = True
    """False if the fork was within 0.1 s of a reset: then only the child's value shows whether it
    inherited."""


class Inheritance:
    """The descendants of processes in the ledger, by pid.

    The fork event of a reused pid replaces the old process. `clock` is that of the kernel's events,
    CLOCK_MONOTONIC in nanoseconds.
    """

    def __init__(
        self, ledger: "Ledger", procfs: "Procfs", clock: "Callable[[], int]" = time.monotonic_ns
    ) -> None:
        self._ledger = ledger
        self._procfs = procfs
        self._clock = clock
        self.inherited: dict[int, _Inherited] = {}
        self._sharing: set[int] = set()
        """Processes in the ledger whose children keep the value: `children: inherit`."""
        self._watched: dict[int, ControlledBy] = {}
        self.watched_for_match: dict[int, ControlledBy] = {}
        self.has_new_watched = False
        """Whether `watched_parents` may have changed since this was last set to False."""
        self._reset_until: dict[int, int] = {}
        """Processes that were just reset, and their parents: the time until which their forks are checked."""
        self.asks_parents = bool(ledger.processes)
        """Whether to examine living parents, because fork events were lost."""
        self._by_parent: dict[int, Entry | None] = {}
        """What that showed in this pass: by pid, the entry that its children have their value from."""
        self._floor_checked: dict[int, int] = {}
        """By pid, the inode of a process whose floor is known not to be inherited, which never changes."""

    def __len__(self) -> int:
        return len(self.inherited)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to inherit."""
        return bool(self._ledger.processes or self.inherited)

    @property
    def watched_parents(self) -> frozenset[int]:
        """Parents whose forks wake the daemon.

        Protected `scope: main` processes first, then those whose children may match by a new command line.
        """
        return frozenset([*self._watched, *self.watched_for_match][:_WATCHED_LIMIT])

    # Events

    def on_fork(self, parent: int, child: int, at_ns: int) -> bool:
        """Record a fork and its time; return whether to check the child soon, whatever it runs."""
        known = self._ledger.processes.get(child)
        if known is not None and not self._procfs.is_alive(Identity(child, known[0])):
            self._ledger.forget_process(child)  # it had this pid before, and its last children are known
            self.on_set(child)
        self.inherited.pop(child, None)
        one = self.inherited.get(parent)
        if one is not None or parent in self._ledger.processes:
            copied = self._copied(parent, one, at_ns)
            if copied is not None:
                self.inherited[child] = copied
        if parent == INIT_PID:
            # The service manager forks seldom. An orphan's child can be made to look like its child.
            return bool(self._ledger.protections)
        return (
            parent in self._watched
            or parent in self.watched_for_match
            or (one is not None and one.until_ns is None)
            or at_ns <= self._reset_until.get(parent, -1)
        )

    def on_exit(self, pid: int) -> None:
        """Record that a process has ended; events of its last children may still come."""
        known = self._ledger.processes.get(pid)
        if known is not None:
            self._leave(pid, _Inherited(known[1]))
        else:
            self.on_set(pid)

    def on_set(self, pid: int, *, shares: bool = False, watch: "ControlledBy | None" = None) -> None:
        """Record whether the children of a process keep the value that a rule sets, or are checked soon."""
        if shares:
            self._sharing.add(pid)
        else:
            self._sharing.discard(pid)
        if watch is not None:
            self.has_new_watched |= _place(self._watched, pid, watch)
        elif self._watched.pop(pid, None) is not None:
            self.has_new_watched = True

    def on_reset(self, pid: int, entry: Entry, parent: int = INIT_PID) -> None:
        """Record that a process got its original value back, in place of that of `entry`."""
        now = self._clock()
        self._leave(pid, _Inherited(entry, now))
        for one in (pid, parent):
            if one != INIT_PID:
                self._reset_until[one] = now + _RESET_NS

    def on_own_value(self, pid: int, entry: Entry) -> None:
        """Record that a process replaced the value of `entry` itself.

        It may have saved that value to set it for its children, as sshd does.
        """
        self._leave(pid, _Inherited(entry))

    def on_other_value(self, pid: int) -> None:
        """Record that a process does not have the value that it may have inherited."""
        if pid in self.inherited and not self.inherited[pid].is_certain:
            del self.inherited[pid]

    def watch_for_match(self, pid: int, control: "ControlledBy | None") -> None:
        """Record whether a process's children may come to match a rule without any event but their fork."""
        known = self.watched_for_match
        if control is None:
            is_news = known.pop(pid, None) is not None
        else:
            is_news = pid not in known and _place(known, pid, control)
        self.has_new_watched |= is_news

    def on_policy(self) -> None:
        """Let a new policy decide which children keep values.

        Forks of `children: inherit` processes were not recorded, so parents are asked.
        """
        self.asks_parents = self.asks_parents or bool(self._sharing)
        self._sharing.clear()
        self._by_parent.clear()
        self._floor_checked.clear()

    def keep_only(self, pids: "Set[int]") -> None:
        """Forget every process that is not among `pids`, at the start of a pass."""
        self._sharing &= pids
        for watched in (self._watched, self.watched_for_match):
            for gone in watched.keys() - pids:
                del watched[gone]
        self.inherited = {pid: one for pid, one in self.inherited.items() if pid in pids}
        self._floor_checked = {pid: inode for pid, inode in self._floor_checked.items() if pid in pids}
        now = self._clock()
        self._reset_until = {pid: until for pid, until in self._reset_until.items() if until >= now}
        self._by_parent.clear()

    def forget_forks(self) -> None:
        """Forget every fork because events were lost; living parents show them again."""
        self.inherited.clear()
        self.asks_parents = True

    # Questions

    def entry(self, pid: int) -> Entry | None:
        """Return the entry of the process that this one inherited from, if it still has that value."""
        known = self.inherited.get(pid)
        return known.entry if known is not None and known.until_ns is None else None

    def former_entry(self, pid: int) -> Entry | None:
        """Return the entry whose value a process's children may have, though it no longer has it itself."""
        known = self.inherited.get(pid)
        return None if known is None else known.entry

    def is_certain(self, pid: int) -> bool:
        """Return whether a process certainly inherited what `entry` returns, whatever its value is now."""
        known = self.inherited.get(pid)
        return known is not None and known.until_ns is None and known.is_certain

    def values(self) -> set[int]:
        """Return the values that some process inherited, or until just now passed to its children."""
        since = self._clock() - _RESET_NS
        return {
            one.entry.given for one in self.inherited.values() if one.until_ns is None or one.until_ns > since
        }

    def is_possible(self, handle: "ProcessHandle", *, in_pass: bool) -> bool:
        """Return whether a process may have a managed one's value without a known fork that shows it."""
        if self.asks_parents and self.is_needed:
            return True
        if not in_pass or not self._ledger.protections:
            return False
        return self._ledger.protections.include(handle.read_oom_score_adj())

    def original_of(
        self,
        handle: "ProcessHandle",
        value: int,
        inherited: Entry | None,
        matching: "Matching",
        *,
        may_match: bool,
    ) -> Entry | None:
        """Return the entry of the process that a child has its value from: its original is the child's, too.

        None: the value is the child's own. `inherited` is the entry that forks show. `may_match`: a rule may
        match it, so examining its parent is worth the cost.
        """
        entry, parent_pid = inherited, handle.stat.parent_pid
        if entry is None and may_match and parent_pid in self._ledger.processes:
            parent = self._procfs.identity(parent_pid)
            entry = None if parent is None else self._ledger.entry(parent)
        if entry is None and self.asks_parents:
            entry = self._from_parents(parent_pid, value, matching)
        if entry is not None:
            if entry.since_ticks > handle.identity.start_time_ticks:
                return None  # a child older than its ancestor's first change inherited no value or floor
            entry = reclaimed(entry, value, handle)
            if entry.was_ours(value):
                return entry
        return self._from_evidence(handle, value, matching) if value < 0 else None

    def may_have_floor(self, handle: "ProcessHandle", matching: "Matching", *, in_pass: bool) -> bool:
        """Return whether a process may have inherited a floor below 0, although its value is 0 or more.

        Answered once for each process: later, only a privileged process can give it such a floor.
        """
        if not in_pass:
            self._floor_checked.pop(handle.pid, None)  # another user's by now, or another process
            if handle.pid not in self.inherited or not self.is_certain(handle.pid):
                return False
        protections = self._ledger.protections
        if not protections:
            return False
        try:
            if self._floor_checked.get(handle.pid) == handle.inode or handle.read_oom_score_adj() < 0:
                return False
            may_have = (
                not matching.is_trusted(handle)
                and not handle.may_lower_itself
                and protections.origin(JUST_BELOW_ZERO, self._holder(handle, matching)) is not None
            )
            self._floor_checked[handle.pid] = handle.inode
        except (*GONE, HIDDEN, UnknownFactError):
            return False
        return may_have

    def _copied(self, parent: int, one: _Inherited | None, at_ns: int) -> _Inherited | None:
        """Return what a child forked at a given time inherited from a parent that inherited `one`."""
        known = self._ledger.processes.get(parent)
        if known is not None:
            return None if parent in self._sharing else _Inherited(known[1])
        if one is None or one.until_ns is None:
            return one
        if at_ns > one.until_ns + CROSSING_NS:
            return None
        return _Inherited(one.entry, is_certain=at_ns <= one.until_ns)

    def _leave(self, pid: int, last: _Inherited) -> None:
        """Let the children of a process that leaves the ledger still inherit from it."""
        if pid not in self._sharing:
            self.inherited[pid] = last
        self.on_set(pid)

    def _from_parents(self, pid: int, value: int, matching: "Matching") -> Entry | None:
        """Return the entry of the nearest ancestor in the ledger, if all in between have its value."""
        if pid in self._by_parent:
            return self._by_parent[pid]
        passed: list[int] = []
        found: Entry | None = None
        with suppress(*GONE, HIDDEN):
            for ancestor in self._procfs.ancestors(pid):
                known = self._ledger.entry(ancestor.identity) or self.former_entry(ancestor.pid)
                if known is not None:
                    found = None if matching.shares_value(ancestor) else known
                elif ancestor.read_oom_score_adj() != value:
                    break  # it has a value of its own, and so have its children
                passed.append(ancestor.pid)
                if known is not None:
                    break
        self._by_parent.update(dict.fromkeys(passed, found))
        return found

    def _from_evidence(self, handle: "ProcessHandle", value: int, matching: "Matching") -> Entry | None:
        """Return what a process with this value inherited according to /proc, or None.

        Trusted processes, and those that may choose their value freely, have any value by themselves.
        """
        protections = self._ledger.protections
        if not protections.include(value) or matching.is_trusted(handle) or handle.may_lower_itself:
            return None
        chain = [self._holder(handle, matching)]
        if protections.origin(value, chain[0]) is None:
            return None
        is_set_by_trusted = False
        with suppress(*GONE, HIDDEN):
            for parent in self._procfs.ancestors(handle.stat.parent_pid):
                known = self._ledger.entry(parent.identity)
                if parent.read_oom_score_adj() != value:
                    is_unmanaged = known is None and self.former_entry(parent.pid) is None
                    is_set_by_trusted = is_unmanaged and matching.is_trusted(parent)
                    break
                if known is not None and known.was_ours(value):
                    return None if matching.shares_value(parent) else known._replace(moved_floor=True)
                chain.append(self._holder(parent, matching))
        found = inherited(protections, value, chain, is_set_by_trusted=is_set_by_trusted)
        return None if found is None else Entry(found.original, value, moved_floor=True)

    def _holder(self, handle: "ProcessHandle", matching: "Matching") -> Holder:
        cgroup = handle.cgroup
        service = home_service(cgroup)
        # A user can move own processes into a cgroup that systemd delegated to that user.
        if service and self._procfs.cgroups.are_roots(f"{cgroup}/any") is False:
            service = ""
        is_trusted = matching.is_trusted(handle)
        in_container = not service and handle.in_container  # in a service it does not matter
        return Holder(handle.stat.start_time_ticks, service, in_container, is_trusted)


def reclaimed(entry: Entry, value: int, handle: "ProcessHandle") -> Entry:
    """Return the entry, with `value` as ours if only the floor that we moved let the process choose it.

    An ordinary process can get below its original value in no other way. Otherwise a child that lowers itself
    by one before it is checked would stay immune for good.
    """
    stole = entry.moved_floor and entry.given < value < entry.original and not entry.is_ours(value)
    if not stole or handle.may_lower_itself:
        return entry
    return entry._replace(given_before=value, is_written=False)


def _place(watched: "dict[int, ControlledBy]", pid: int, control: "ControlledBy") -> bool:
    """Give a process a place; return whether it got one.

    If none is free, it replaces the process with the highest number in `ControlledBy`, if its own is lower.
    """
    if pid not in watched and len(watched) >= _WATCHED_LIMIT:
        last = max(watched, key=watched.__getitem__)
        if control >= watched[last]:
            return False
        del watched[last]
    watched[pid] = control
    return True
