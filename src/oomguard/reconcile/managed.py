"""What is known about each process: events and decisions update it, and it outlives the policy."""

import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from itertools import chain, islice

from oomguard.core.decide import Decision
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy
from oomguard.core.process import INIT_PID, Identity, UnknownFactError
from oomguard.core.rule import Rule
from oomguard.core.trust import ControlledBy, controlled_by
from oomguard.core.typed import TYPE_CHECKING
from oomguard.kernel.hidepid import may_be_hidden
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.reconcile.known import NOTHING, UNRELATED, Descent, Known
from oomguard.reconcile.ledger import Ledger

if TYPE_CHECKING:
    from oomguard.reconcile.planner import Finding

_UNREADABLE_LIMIT = 64
"""Users whose processes could not be read or matched in time."""

_WATCHED_LIMIT = 64
"""Parents whose children are checked 0.1 s after their fork; the filter in the kernel names each."""

CROSSING_NS = 100_000_000
"""The kernel copies the value to a child before it stamps the fork, so a fork that seems to follow a reset
may have preceded it. On a busy host the two are some milliseconds apart."""

_RESET_NS = 1_000_000_000
"""How long to check the forks of a process that was reset, and of its parent: with CLONE_PARENT a process
can make its child its parent's."""


class ManagedProcesses:
    """What is known about managed processes, and the descent of those that they forked, by pid.

    The `ledger` has the same table, and keeps its entries on file. The fork event of a reused pid
    replaces the old process. `clock` is that of the kernel's events, CLOCK_MONOTONIC in nanoseconds.
    """

    def __init__(self, ledger: Ledger, procfs: Procfs, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.ledger = ledger
        self._procfs = procfs
        self._clock = clock
        self.known: dict[int, Known] = ledger.known
        self.descents: dict[int, Descent] = {}
        self.matched = 0
        """How many processes a rule matches."""
        self.executed: dict[int, int] = {}
        """Processes that ran another program since they were last examined, and when."""
        self.postponed: set[int] = set()
        """Processes to examine again soon, because this host was too busy to read them."""
        self.unread: set[int] = set()
        """Processes to examine again in a second, because reading or matching them took too long: they may
        have inherited something, and the next pass may be an hour away."""
        self.undecided: set[int] = set()
        """Young processes to examine again: a rule will match if they rewrite their command line."""
        self.unreadable: dict[str, str] = {}
        """Why processes could not be read or matched, for people; one for each user, and for each error."""
        self.before_release: Callable[[], None] = lambda: None
        """Called before a process is no longer managed, when its rule is still known."""
        self.asks_parents = ledger.in_force > 0
        """Whether to examine living parents, because fork events were lost."""
        self._protected: dict[int, ControlledBy] = {}
        self._may_match: dict[int, ControlledBy] = {}
        """Parents whose forks wake the daemon: protected `scope: main` processes, and those whose children
        may match by a new command line. One can be both."""
        self.has_new_watched = False
        """Whether `watched` may have changed since this was last set to False."""
        self.has_new_policy = False
        """Whether other policy files were adopted since the last pass ended."""
        self._reset_until: dict[int, int] = {}
        """Processes that were just reset, and their parents: the time until which their forks are checked."""
        self._policy = Policy()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to inherit, so that forks matter."""
        return bool(self.descents) or self.ledger.in_force > 0

    @property
    def weight(self) -> int:
        """How many descendants there are, or as much else that only `keep_only` forgets.

        What was known about processes that ended, programs that ended before they were examined, and resets,
        which matter for a second.
        """
        return max(len(self.descents), 2 * len(self.known), len(self.executed), 4 * len(self._reset_until))

    @property
    def rule_of(self) -> dict[int, int]:
        """By pid, the number of the rule that matches it, as last seen."""
        return {pid: one.rule for pid, one in self.known.items() if one.rule is not None}

    @property
    def watched(self) -> frozenset[int]:
        """The parents whose forks wake the daemon, protected ones first."""
        return frozenset(islice(chain(self._protected, self._may_match), _WATCHED_LIMIT))

    def rule(self, pid: int) -> Rule | None:
        """Return the rule that matches a process, as last seen, or None."""
        number = self.known.get(pid, NOTHING).rule
        return None if number is None else self._policy.rules[number]

    def knows(self, pid: int) -> bool:
        """Return whether anything is known about a process."""
        return (
            pid in self.known
            or pid in self.descents
            or pid in self._may_match
            or (self.asks_parents and self.is_needed)
        )

    # Events

    def on_policy(self, policy: Policy) -> None:
        """Switch to another policy: what is known of rules moves to the rules with the same conditions.

        The new policy decides which children keep values. Forks of `children: inherit` processes were not
        recorded, so parents are asked.
        """
        known = self.known.values()
        descents = {*self.descents.values()}
        numbers = {number for one in known for number in (one.rule, one.raised_by)}
        numbers |= {one.raised_by for one in descents}
        successor = _successors(numbers, self._policy.rules, policy.rules)
        self.has_new_policy |= len(self._policy.rules) > 0 and policy.digest != self._policy.digest
        self._policy = policy
        for one in known:
            one.rule, one.raised_by = successor.get(one.rule), successor.get(one.raised_by)
            one.is_held &= one.raised_by is not None
            self.asks_parents |= one.is_sharing
            one.is_sharing, one.unchanged = False, None
        self.matched = sum(one.rule is not None for one in known)
        moved = {one: one._replace(raised_by=successor.get(one.raised_by)) for one in descents}
        self.descents = {pid: moved[one] for pid, one in self.descents.items() if moved[one] != UNRELATED}

    def on_fork(self, parent: int, child: int, at_ns: int) -> bool:
        """Record a fork and its time; return whether to check the child soon, whatever it runs."""
        old = self.known.get(child, NOTHING)
        is_raised = old.entry is not None or old.raised_by is not None
        if is_raised and not self._procfs.is_alive(Identity(child, old.start_time_ticks)):
            self._forget(child, old)  # it had this pid before, and its last children are known
        if self.executed.get(child, at_ns) < at_ns:
            del self.executed[child]  # the same: it ran a program and ended before it was examined
        is_known = parent in self.known or parent in self.descents
        self._set_descent(child, self._passed_on(parent, at_ns) if is_known else UNRELATED)
        if parent == INIT_PID:
            # The service manager forks seldom. An orphan's child can be made to look like its child.
            return bool(self.ledger.protections)
        inherited = is_known and self.descents.get(parent, UNRELATED).origin is not None
        is_watched = parent in self._protected or parent in self._may_match
        return inherited or is_watched or at_ns <= self._reset_until.get(parent, -1)

    def forget_forks(self) -> None:
        """Forget every fork because events were lost; living parents show them again."""
        self.descents.clear()
        self.asks_parents = True

    def on_examined(self, pid: int) -> None:
        """Forget who raised the program of its parent if a process ran another one since it was examined."""
        if self.executed.pop(pid, None) is not None and pid in self.descents:
            self._set_descent(pid, self.descents[pid]._replace(raised_by=None))

    def on_exit(self, pid: int) -> None:
        """Drop what is known about a process that ended; its last forks may not be reported yet.

        Its original value stays where it may only be hidden.
        """
        self.on_examined(pid)
        one = self.known.get(pid)
        if one is None:
            return
        raised_by = self._raised_by(pid, one)
        if raised_by is not None:
            self.descents[pid] = self.descents.get(pid, UNRELATED)._replace(raised_by=raised_by)
        if one.entry is not None:
            self._leave(pid, one, Descent(one.entry))
        else:
            self._stop_sharing(pid, one)
        self._release(one)
        one.raised_by = one.unchanged = None
        if one.entry is not None and not may_be_hidden(self._procfs, pid):
            self.ledger.forget_process(pid)

    def on_reset(self, pid: int, entry: Entry, parent: int = INIT_PID) -> None:
        """Record that a process got its original value back, in place of that of `entry`."""
        now = self._clock()
        self._leave(pid, self.known.get(pid, NOTHING), Descent(former=entry, former_until=now))
        for reset in (pid, parent):
            if reset != INIT_PID:
                self._reset_until[reset] = now + _RESET_NS

    def on_denied(self, pid: int) -> None:
        """Record that the kernel denied a process its value; nothing of oomguard's is in force then."""
        one = self.known.get(pid, NOTHING)
        if one.entry is None:
            self._stop_sharing(pid, one)

    def on_other_value(self, pid: int) -> None:
        """Record that a process does not have the value that it may have inherited."""
        descent = self.descents.get(pid, UNRELATED)
        if not descent.is_certain:
            self._set_descent(pid, Descent(raised_by=descent.raised_by))

    def keep_only(self, pids: Set[int]) -> None:
        """Drop what is known about processes that are not among `pids`, which contains all earlier forks."""
        for pid in self.known.keys() - pids:
            self.on_exit(pid)
        for pid in [pid for pid, one in self.known.items() if one.is_empty]:
            del self.known[pid]
        self.descents = {pid: descent for pid, descent in self.descents.items() if pid in pids}
        self.executed = {pid: at_ns for pid, at_ns in self.executed.items() if pid in pids}
        for places in (self._protected, self._may_match):
            for pid in places.keys() - pids:
                del places[pid]
        now = self._clock()
        self._reset_until = {pid: until for pid, until in self._reset_until.items() if until >= now}

    def watch(self, pid: int, control: ControlledBy | None, *, for_match: bool = False) -> None:
        """Record whether the forks of a process are to wake the daemon, and who controls it.

        If no place is free, it replaces the process with the highest number, if its own is lower.
        """
        places = self._may_match if for_match else self._protected
        if control is None:
            self.has_new_watched |= places.pop(pid, None) is not None
            return
        if pid not in places:
            if len(places) >= _WATCHED_LIMIT:
                last = max(reversed(places), key=places.__getitem__)
                if control >= places[last]:
                    return
                del places[last]
            self.has_new_watched = True
        places[pid] = control

    # Decisions

    def recall(self, handle: ProcessHandle) -> Known:
        """Return what is known about a process, about most NOTHING. Raises one of GONE, or HIDDEN."""
        one = self.known.get(handle.pid)
        if one is None:
            return NOTHING
        if one.start_time_ticks not in (0, handle.stat.start_time_ticks):  # of another, which had this pid
            self._forget(handle.pid, one)
        return one

    def raising(self, handle: ProcessHandle, one: Known) -> Rule | None:
        """Return the rule that raises a process, or that raised the one whose program it still runs."""
        number = None
        is_forked = one.entry is None and one.raised_by is None
        if handle.pid not in self.executed and (not is_forked or handle.stat.runs_its_parents_program):
            number = self._raised_by(handle.pid, one)
        return None if number is None else self._policy.rules[number]

    def update(self, handle: ProcessHandle, one: Known, finding: "Finding") -> None:
        """Record what later decisions need of this one, given what was recalled before it."""
        pid, decision = handle.pid, finding.decision
        if finding.fork_watch is not None or pid in self._may_match:
            self.watch(pid, finding.fork_watch, for_match=True)
        if finding.may_match_later:
            self.undecided.add(pid)
        if finding.unknown is not None:
            self.on_unknown(handle, finding.unknown)
            if finding.is_undecided:
                return
        if one is NOTHING:
            if decision is None:
                return
            one = Known()
        self.known[pid] = one
        one.raised_by, one.is_held = finding.raised_by, finding.is_held
        if decision is None:
            self._release(one)
        else:
            one.start_time_ticks = decision.identity.start_time_ticks
            self._update(handle, one, decision)
            if finding.is_unchanged:
                one.unchanged = hash((handle.inode, handle.comm, decision.current))
        if one.is_empty:
            del self.known[pid]

    def _update(self, handle: ProcessHandle, one: Known, decision: Decision) -> None:
        rule, entry, value, pid = decision.matched, decision.entry, decision.current, handle.pid
        if rule is not None:
            self.matched += one.rule is None
            one.rule = rule.number
        else:
            self._release(one)
        if entry is None and pid in self.descents:
            self.on_other_value(pid)
        if decision.obstacle is not None:
            return
        if rule is not None and entry is not None and decision.is_inherited:
            if not entry.is_ours(value):
                entry = entry._replace(given=value, given_before=None)
            with suppress(OSError):  # on a full disk the change is denied, not the pass
                self.ledger.record(handle.identity, entry)
        if rule is not None and decision.wanted != decision.own:
            one.is_sharing, protects = rule.terms.children == "inherit", decision.wanted < decision.own
            if protects and not one.is_sharing and rule.terms.scope == "main":
                self.watch(pid, controlled_by(handle, self._policy.first_person_uid))
            elif pid in self._protected:
                self.watch(pid, None)
            self.has_new_watched |= protects  # init is watched from the start
        if entry is None or decision.is_held or decision.wanted != value:
            return
        if rule is None or not entry.is_ours(value):
            # Its own value; it may have saved ours to set it for its children, as sshd does.
            is_former = value == entry.given_before
            self._leave(pid, one, Descent(entry._replace(given_before=None) if is_former else entry))
            self.ledger.strike(handle.identity)

    def on_unknown(self, handle: ProcessHandle, reason: UnknownFactError) -> None:
        """Record that a fact of a process could not be read, and what to do about it."""
        if reason.is_transient:
            self.postponed.add(handle.pid)
            return
        self.unread.add(handle.pid)
        who = handle.spender().key
        if len(self.unreadable) < _UNREADABLE_LIMIT:
            text = f"{who}: {reason}; rules that need it are not applied to such processes"
            self.unreadable.setdefault(who, text)

    def is_unchanged(self, handle: ProcessHandle, one: Known) -> bool:
        """Return whether a process of which is known what is `unchanged` still is: it needs nothing then."""
        try:
            value = handle.read_oom_score_adj()  # first: a rewritten one, which is urgent, needs no more
            is_same = (one.entry is None or value == one.entry.given) and one.unchanged == hash(
                (handle.inode, handle.comm, value)
            )
        except OSError:
            is_same = False
        if is_same:
            self.on_examined(handle.pid)  # the rule belongs to the program that it runs now
        else:
            one.unchanged = None
        return is_same

    def values(self) -> set[int]:
        """Return the values that some process has from oomguard, or until just now passed to its children."""
        since, descents = self._clock() - _RESET_NS, {*self.descents.values()}
        found = [*(one.entry for one in self.known.values()), *(one.origin for one in descents)]
        found += [one.former for one in descents if one.former_until > since]
        return {entry.given for entry in found if entry is not None}

    def _raised_by(self, pid: int, one: Known) -> int | None:
        """Return the number of the rule that raises a process, or raised the one whose program it runs."""
        if one.entry is not None and one.rule is not None:
            return one.rule if one.entry.given > min(0, one.entry.original) else None
        return self.descents.get(pid, UNRELATED).raised_by if one.raised_by is None else one.raised_by

    def _passed_on(self, parent: int, at_ns: int) -> Descent:
        """Return the descent of a child that a process forked at a given time."""
        one, descent = self.known.get(parent, NOTHING), self.descents.get(parent, UNRELATED)
        raised_by = self._raised_by(parent, one) if at_ns <= self.executed.get(parent, at_ns) else None
        if one.entry is not None:
            return Descent(None if one.is_sharing else one.entry, raised_by)
        if descent.former is not None and at_ns <= descent.former_until + CROSSING_NS:
            return Descent(descent.former, raised_by, at_ns <= descent.former_until)
        if descent.former is None and raised_by == descent.raised_by:
            return descent
        return Descent(descent.origin, raised_by, descent.is_certain)

    def _set_descent(self, pid: int, descent: Descent) -> None:
        if descent != UNRELATED:
            self.descents[pid] = descent
        else:
            self.descents.pop(pid, None)

    def _leave(self, pid: int, one: Known, last: Descent) -> None:
        """Record that a process no longer has a value of oomguard's, but earlier children may."""
        if not one.is_sharing:
            self.descents[pid] = last._replace(raised_by=self.descents.get(pid, UNRELATED).raised_by)
        self._stop_sharing(pid, one)

    def _forget(self, pid: int, one: Known) -> None:
        """Forget an earlier process with this pid."""
        self.ledger.forget_process(pid)
        self._stop_sharing(pid, one)
        self._release(one)
        one.raised_by, one.is_held, one.start_time_ticks = None, False, 0

    def _stop_sharing(self, pid: int, one: Known) -> None:
        one.is_sharing = False
        self.watch(pid, None)

    def _release(self, one: Known) -> None:
        if one.rule is not None:
            self.before_release()
            one.rule = None
            self.matched -= 1


def _successors(
    numbers: Set[int | None], rules: Sequence[Rule], later: Sequence[Rule]
) -> dict[int | None, int]:
    """Return, by the number of a rule, that of the first later rule with the same conditions."""
    before = {number: rules[number].conditions for number in numbers if number is not None}
    names, wanted = {names for names, _ in before.values()}, {*before.values()}
    found: dict[object, int] = {}
    for rule in later if wanted else ():
        if rule.names in names and rule.conditions in wanted:
            found.setdefault(rule.conditions, rule.number)
    return {number: found[known] for number, known in before.items() if known in found}
