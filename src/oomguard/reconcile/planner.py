"""From what /proc says now to the changes that would bring it to the policy. Writes nothing."""

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from oomguard.core.match import Matcher, first_unmet
from oomguard.core.plan import (
    Entry,
    SetOomScoreAdj,
    SetSysctl,
    diff_sysctls,
    wanted_oom_score_adj,
)
from oomguard.core.trust import standing, trust_refusal
from oomguard.kernel.alarm import TooLongError, within
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.kernel.sysctl import observe_overcommit
from oomguard.reconcile.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from oomguard.core.commit import Refusal
    from oomguard.core.plan import Cause
    from oomguard.core.policy import Policy, Rule
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger

INIT_PID = 1
SHORTAGE = frozenset((errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN))
"""What the kernel answers when it is short of memory or descriptors: a reason to wait, not to die."""

MATCH_SECONDS = 0.02
"""Longest that the `cmdline` patterns of a policy may take on one process."""

_ANCESTORS = 64
"""How far up a tree is followed: deeper than any that is not made to mislead."""


class Planner:
    """A policy held against one /proc, with what the ledger and the lineage know of it."""

    def __init__(
        self, policy: "Policy", ledger: "Ledger", procfs: "Procfs", lineage: Lineage | None = None
    ) -> None:
        self.policy = policy
        self.ledger = ledger
        self.lineage = Lineage(ledger, procfs.is_alive) if lineage is None else lineage
        self._legacies: dict[int, Entry | None] = {}
        self.procfs = procfs
        self.matcher = Matcher(policy.rules)
        self.rule_of: dict[int, int] = {}
        self.before_release: Callable[[], None] = lambda: None
        """Called before a process is held no more: the last moment to ask which rule it was."""
        """By pid, the number of the rule that holds it, as last seen."""
        self._settled: dict[int, tuple[int, bytes, int]] = {}
        """By pid: inode, name and value of a process that needs nothing while these are the same."""
        self.gave_up = 0
        """Processes whose command line a pattern took too long on; they are held by no rule."""
        self.unreadable: set[str] = set()
        """What kept processes from being read; these are passed over."""
        self._own_pid = os.getpid()

    def sysctl_changes(self, cause: "Cause", *, leave: "Container[str]" = ()) -> list[SetSysctl]:
        """Return the sysctl writes that are due, in order; those in `leave` stay as they are."""
        names = self.sysctl_names()
        if not names:
            return []
        actual, memory = observe_overcommit(self.procfs, names)
        return diff_sysctls(self.policy, actual, memory, self.ledger.sysctls, cause=cause, leave=leave)

    def sysctl_names(self) -> set[str]:
        """Return the sysctls that are kept: those of the policy, and those to put back."""
        return {setting.name for setting in self.policy.sysctls} | self.ledger.sysctls.keys()

    def process_changes(self, cause: "Cause") -> "Iterator[tuple[SetOomScoreAdj, ProcessHandle]]":
        """Yield each process's change with the process held open; it closes on the next step."""
        pids = self.procfs.pids()
        self.forget_all_but(set(pids))
        for handle in self.procfs.processes(pids):
            change = self.process_change(handle, cause)
            if change is not None:
                yield change, handle

    def process_change(self, handle: "ProcessHandle", cause: "Cause") -> SetOomScoreAdj | None:
        """Return the change that one process needs, or None; it may be gone meanwhile."""
        try:
            settled = self._settled.get(handle.pid)
            if settled and settled == (handle.inode, handle.comm, handle.read_oom_score_adj()):
                return None
            return self._process_change(handle, cause)
        except (*GONE, HIDDEN):
            self.forget(handle.pid)
            return None
        except OSError as error:
            if error.errno in SHORTAGE:
                raise
            self.unreadable.add(os.strerror(error.errno or errno.EIO))
            return None

    def forget(self, pid: int) -> None:
        """Drop what is known of a process that is gone."""
        self.lineage.died(pid)
        self._release(pid)
        self._settled.pop(pid, None)
        self.ledger.forget_process(pid)

    def _release(self, pid: int) -> None:
        if pid in self.rule_of:
            self.before_release()
            del self.rule_of[pid]

    def forget_all_but(self, pids: set[int]) -> None:
        """Drop what is known of every process that is not among `pids`."""
        self._legacies.clear()
        self.lineage.keep_only(pids)
        for pid in (self.rule_of.keys() | self.ledger.processes.keys()) - pids:
            self.forget(pid)

    def governing_rule(self, handle: "ProcessHandle") -> "Rule | None":
        """Return the rule that holds the process. Raises one of GONE if it ended."""
        if handle.pid in (INIT_PID, self._own_pid):
            return None
        rule = self._decide(handle)
        if rule is None or handle.stat.is_kernel_thread or handle.stat.is_zombie:
            return None
        return rule

    def _decide(self, handle: "ProcessHandle") -> "Rule | None":
        def decide() -> "Rule | None":
            return self.matcher.decide(handle, lambda rule: self.is_topmost(rule, handle))

        if not self.matcher.has_cmdlines:
            return decide()
        try:
            return within(MATCH_SECONDS, decide)
        except TooLongError:
            self.gave_up += 1
            return None

    def is_topmost(self, rule: "Rule", handle: "ProcessHandle") -> bool:
        """Tell whether no ancestor of the process meets the rule's conditions."""
        parent_pid = handle.stat.parent_pid
        for _ in range(_ANCESTORS):
            if parent_pid <= INIT_PID:
                return True
            parent = self.procfs.open(parent_pid)
            if parent is None:
                return True  # it ended meanwhile; its children are init's now
            with parent:
                try:
                    if first_unmet(rule, parent) is None:
                        return False
                    parent_pid = parent.stat.parent_pid
                except GONE:
                    return True
        return True

    def _process_change(self, handle: "ProcessHandle", cause: "Cause") -> SetOomScoreAdj | None:
        rule = self.governing_rule(handle)
        self._settled.pop(handle.pid, None)
        if rule is None:
            self._release(handle.pid)
            if not (handle.pid in self.ledger.processes or self._may_inherit(handle.pid)):
                return None
        else:
            self.rule_of[handle.pid] = rule.number
        value = handle.read_oom_score_adj()
        entry = self.ledger.process(handle.identity)
        if entry is not None:
            entry = _reclaimed(entry, value, handle)
        inherited = entry is None
        if entry is None:
            entry = self._inherited(handle, value, asks_parent=rule is not None)
        own, wanted = wanted_oom_score_adj(rule, entry, value)
        refusal = None if rule is None else self._refusal(rule, handle, own, wanted)
        if refusal is not None and value != own:
            # It has by inheritance, or had before it became somebody else's, what it would not be given.
            rule, refusal, wanted = None, None, own
        if rule is not None and refusal is None:
            if inherited and entry is not None:
                with suppress(OSError):  # on a full disk the change is denied, not the pass
                    self.ledger.record_process(handle.identity, entry)
            if wanted != own:
                self._bequeath(handle, rule, protects=wanted < own)
        if wanted == value:
            if entry is not None and (rule is None or not entry.is_ours(value)):
                self.lineage.chose(handle.pid, entry)
                self.ledger.forget_process(handle.pid)  # the value it has is its own by now
            # Whom a rule may protect is asked each time: a process can become another user.
            is_free = rule is not None and (wanted >= own or rule.terms.trust == "name")
            if is_free and self.matcher.is_decided_by_name(handle.comm):
                self._settled[handle.pid] = (handle.inode, handle.comm, value)
            return None
        held = rule is not None and wanted != own
        if entry is not None and entry.given == wanted:
            cause = "drift"
        # What an heir was given by a privileged ancestor, sshd for one, moved its floor though we did not.
        is_freed = inherited and not held and own > value
        return SetOomScoreAdj(
            identity=handle.identity,
            comm=handle.comm,
            before=value,
            after=wanted,
            own=own,
            cause=cause if held else "restore",
            rule=rule if held else None,
            refusal=refusal,
            moved_floor=is_freed or (entry is not None and entry.moved_floor),
            inherited=inherited and not held,
        )

    def _refusal(self, rule: "Rule", handle: "ProcessHandle", own: int, wanted: int) -> "Refusal | None":
        first = self.policy.first_person_uid
        return trust_refusal(rule, handle, own=own, wanted=wanted, first_person_uid=first)

    def _may_inherit(self, pid: int) -> bool:
        """Tell whether a process that no rule holds may have the value of one that a rule does."""
        if self.lineage.asks_parents:
            return self.lineage.is_needed
        return self.lineage.entry(pid) is not None

    def _bequeath(self, handle: "ProcessHandle", rule: "Rule", *, protects: bool) -> None:
        resets = rule.terms.children == "reset"
        is_attended = protects and resets and rule.terms.scope == "main"
        self.lineage.bequeath(
            handle.pid,
            inherit=not resets,
            attend=standing(handle, self.policy.first_person_uid) if is_attended else None,
        )

    def _inherited(self, handle: "ProcessHandle", value: int, *, asks_parent: bool) -> Entry | None:
        """Return the entry of the process that a child has its value from: what that one had is its own."""
        parent_pid = handle.stat.parent_pid
        entry = self.lineage.entry(handle.pid)
        if entry is None and asks_parent:
            entry = self._entry_of(parent_pid)
        if entry is None and self.lineage.asks_parents:
            entry = self._legacy(parent_pid, value)
        if entry is None:
            return None
        # Started before its ancestor was given that, it has its value, and its floor, from itself.
        is_older = entry.since_ticks > handle.identity.start_time_ticks
        if is_older and (value == entry.given or entry.given_before is None):
            return None
        entry = _reclaimed(entry, value, handle)
        return entry if entry.is_ours(value) else None

    def _entry_of(self, pid: int) -> Entry | None:
        """Return the entry of the process that has a pid now."""
        identity = self.procfs.identity(pid) if pid in self.ledger.processes else None
        return None if identity is None else self.ledger.process(identity)

    def _legacy(self, pid: int, value: int) -> Entry | None:
        """Return the entry of the nearest ancestor in the ledger, if all on the way have its value, too."""
        passed: list[int] = []
        found: Entry | None = None
        for _ in range(_ANCESTORS):
            if pid in self._legacies:
                found = self._legacies[pid]
                break
            handle = self.procfs.open(pid) if pid > INIT_PID else None
            if handle is None:
                break
            with handle:
                try:
                    found = self.ledger.process(handle.identity) or self.lineage.former_entry(pid)
                    if found is not None:
                        rule = self.governing_rule(handle)
                        if rule is not None and rule.terms.children == "inherit":
                            found = None
                        passed.append(pid)
                        break
                    if handle.read_oom_score_adj() != value:
                        break  # it, and so its children, has a value of its own
                    passed.append(pid)
                    pid = handle.stat.parent_pid
                except (*GONE, HIDDEN):
                    break
        self._legacies.update(dict.fromkeys(passed, found))
        return found


def _reclaimed(entry: Entry, value: int, handle: "ProcessHandle") -> Entry:
    """Return the entry, with `value` as ours if only the floor that we moved let the process choose it.

    An ordinary process below its original value can be there by nobody else's leave: a child that lowers
    itself by one before it is looked at would otherwise stay immune for good.
    """
    stole = entry.moved_floor and entry.given < value < entry.original and not entry.is_ours(value)
    return entry._replace(given_before=value) if stole and not handle.may_lower_itself else entry
