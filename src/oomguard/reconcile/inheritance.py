"""What processes inherited: Linux copies a value and its floor to every child, and exec keeps both.

Fork events show it (`managed.on_fork`), even for one that forked twice and has no living parent. Without
them, living parents show it, and for values below 0 the evidence of `core.protection`.
"""

from collections.abc import Set
from contextlib import suppress

from oomguard.core.change import SetOomScoreAdj
from oomguard.core.entry import Entry
from oomguard.core.protection import JUST_BELOW_ZERO, Holder, home_service, inherited
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle
from oomguard.reconcile.known import NOTHING, UNRELATED
from oomguard.reconcile.managed import ManagedProcesses
from oomguard.reconcile.matching import Matching


class Inheritance:
    """Finds out under one policy what a process inherited, from the table of processes and from /proc."""

    def __init__(self, matching: Matching, managed: ManagedProcesses) -> None:
        self._matching = matching
        self._procfs = matching.procfs
        self._managed = managed
        self._ledger = managed.ledger
        self._by_parent: dict[tuple[int, int], Entry | None] = {}
        """What parents showed in this pass: by pid, the entry that its children with a value have it from."""
        self._floor_checked: dict[int, int] = {}
        """By pid, the hash of inode and effective uid of a process whose floor is known not to be inherited,
        which stays so while these do."""

    @property
    def weight(self) -> int:
        """How much is remembered that only `keep_only` forgets."""
        return len(self._by_parent) + len(self._floor_checked)

    def keep_only(self, pids: Set[int]) -> None:
        """Ask parents again, and forget every process that is not among `pids`."""
        self._by_parent.clear()
        self._floor_checked = {pid: inode for pid, inode in self._floor_checked.items() if pid in pids}

    def is_possible(self, handle: ProcessHandle, *, in_pass: bool) -> bool:
        """Return whether a process may have a managed one's value without a known fork that shows it."""
        if self._managed.asks_parents and self._managed.is_needed:
            return True
        if not in_pass or not self._ledger.protections:
            return False
        return self._ledger.protections.include(handle.read_oom_score_adj())

    def origin(self, handle: ProcessHandle, value: int, *, may_match: bool) -> Entry | None:
        """Return the entry of the process that a child has its value from: its original is the child's, too.

        None: the value is the child's own. `may_match`: a rule may match it, so examining its parent is worth
        the cost.
        """
        entry, parent_pid = self._managed.descents.get(handle.pid, UNRELATED).origin, handle.stat.parent_pid
        if entry is None and may_match and self._managed.known.get(parent_pid, NOTHING).entry is not None:
            parent = self._procfs.identity(parent_pid)
            entry = None if parent is None else self._ledger.entry(parent)
        if entry is None and self._managed.asks_parents:
            entry = self._from_parents(parent_pid, value)
        if entry is not None:
            if entry.since_ticks > handle.identity.start_time_ticks:
                return None  # a child older than its ancestor's first change inherited no value or floor
            entry = reclaimed(entry, value, handle)
            if entry.was_ours(value):
                return entry
        return self._from_evidence(handle, value) if value < 0 else None

    def may_have_floor(self, handle: ProcessHandle, *, in_pass: bool) -> bool:
        """Return whether a process may have a floor below 0 from us, although its value is 0 or more.

        Answered once for each process and user: later, only a privileged process can give it such a floor, or
        we do (`check_floor_again`). Raises UnknownFactError.
        """
        descent = self._managed.descents.get(handle.pid, UNRELATED)
        origin = descent.origin
        if not in_pass:
            self._floor_checked.pop(handle.pid, None)  # another user's by now, or another process
            if origin is None or not descent.is_certain:
                return False
        if not self._gave_floors(handle.pid):
            return False
        try:
            seen = hash((handle.inode, handle.effective_uid))
            if self._floor_checked.get(handle.pid) == seen or handle.read_oom_score_adj() < 0:
                return False
            may_have = self._may_have_ours(handle)
            self._floor_checked[handle.pid] = seen
        except (*GONE, HIDDEN):
            return False
        return may_have

    def must_move_floor(self, change: SetOomScoreAdj, handle: ProcessHandle) -> bool:
        """Return whether a rule lowers a process to a value above a floor that it may have from us.

        Otherwise it could lower itself to that floor later. Raises UnknownFactError.
        """
        is_lowered = change.rule is not None and change.after < min(0, change.own)
        if not is_lowered or change.moved_floor or change.obstacle is not None:
            return False
        with suppress(*GONE, HIDDEN):
            return self._gave_floors(handle.pid) and self._may_have_ours(handle)
        return False

    def _gave_floors(self, pid: int) -> bool:
        """Return whether any process may have a floor from us: most hosts protect none."""
        return bool(self._ledger.protections) or self._has_moved_floor(pid)

    def _has_moved_floor(self, pid: int) -> bool:
        origin = self._managed.descents.get(pid, UNRELATED).origin
        return origin is not None and origin.moved_floor

    def _may_have_ours(self, handle: ProcessHandle) -> bool:
        """Return whether a floor below 0 may be from us.

        Protections do not show a floor that the process itself had from a rule, as it started before; the
        entry that it had then does.
        """
        protections = self._ledger.protections
        return (
            not self._matching.is_trusted(handle)
            and not handle.may_lower_itself
            and (
                self._has_moved_floor(handle.pid)
                or protections.origin(JUST_BELOW_ZERO, self._holder(handle)) is not None
            )
        )

    def check_floor_again(self, pid: int) -> None:
        """Check the floor of a process again: it could not be raised, or a write may have moved it."""
        self._floor_checked.pop(pid, None)

    def from_fork(self, pid: int) -> Entry | None:
        """Return the entry of the process that this one had its value from, even if it has another by now."""
        descent = self._managed.descents.get(pid, UNRELATED)
        return descent.origin or descent.former

    def _from_parents(self, pid: int, value: int) -> Entry | None:
        """Return the entry of the nearest ancestor in the ledger, if all in between have its value."""
        if (pid, value) in self._by_parent:
            return self._by_parent[pid, value]
        passed: list[tuple[int, int]] = []
        found: Entry | None = None
        with suppress(*GONE, HIDDEN):
            for ancestor in self._procfs.ancestors(pid):
                known = self._ledger.entry(ancestor.identity) or self.from_fork(ancestor.pid)
                if known is not None:
                    found = None if self._matching.shares_value(ancestor) else known
                elif ancestor.read_oom_score_adj() != value:
                    break  # it has a value of its own, and so have its children
                passed.append((ancestor.pid, value))
                if known is not None:
                    break
        self._by_parent.update(dict.fromkeys(passed, found))
        return found

    def _from_evidence(self, handle: ProcessHandle, value: int) -> Entry | None:
        """Return what a process with this value inherited according to /proc, or None.

        Trusted processes, and those that may choose their value freely, have any value by themselves.
        """
        protections, matching = self._ledger.protections, self._matching
        if not protections.include(value) or matching.is_trusted(handle) or handle.may_lower_itself:
            return None
        chain = [self._holder(handle)]
        if protections.origin(value, chain[0]) is None:
            return None
        is_set_by_trusted = False
        with suppress(*GONE, HIDDEN):
            for parent in self._procfs.ancestors(handle.stat.parent_pid):
                known = self._ledger.entry(parent.identity)
                if parent.read_oom_score_adj() != value:
                    is_unmanaged = known is None and self.from_fork(parent.pid) is None
                    is_set_by_trusted = is_unmanaged and matching.is_trusted(parent)
                    break
                if known is not None and known.was_ours(value):
                    return None if matching.shares_value(parent) else known._replace(moved_floor=True)
                chain.append(self._holder(parent))
        found = inherited(protections, value, chain, is_set_by_trusted=is_set_by_trusted)
        return None if found is None else Entry(found.original, value, moved_floor=True)

    def _holder(self, handle: ProcessHandle) -> Holder:
        cgroup = handle.cgroup
        service = home_service(cgroup)
        # A user can move own processes into a cgroup that systemd delegated to that user.
        if service and handle.is_where_root_put_it is False:
            service = ""
        is_trusted = self._matching.is_trusted(handle)
        in_container = not service and handle.in_container is True  # in a service it does not matter
        return Holder(handle.stat.start_time_ticks, service, in_container, is_trusted)


def reclaimed(entry: Entry, value: int, handle: ProcessHandle) -> Entry:
    """Return the entry, with `value` as ours if only the floor that we moved let the process choose it.

    An ordinary process can get below its original value in no other way. Otherwise a child that lowers itself
    by one before it is checked would stay immune for good.
    """
    stole = entry.moved_floor and entry.given < value < entry.original
    if not stole or handle.may_lower_itself:
        return entry
    return entry._replace(given_before=value, is_written=False)
