"""What is known about processes from one decision to the next: one table, which outlives each policy."""

from contextlib import suppress

from oomguard.core.policy import FIRST_PERSON_UID
from oomguard.core.trust import controlled_by
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.kernel.hidepid import may_be_hidden
from oomguard.reconcile.inheritance import Inheritance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Set

    from oomguard.core.entry import Entry
    from oomguard.core.policy import Policy
    from oomguard.core.process import UnknownFactError
    from oomguard.core.rule import Rule, Terms
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger
    from oomguard.reconcile.planner import Finding, RaisingRule

    Conditions = tuple[tuple[bytes, ...], Terms]

_SLOW_LIMIT = 64
"""Users to report because their processes could not be read or matched in time."""


class Known(NamedTuple):
    """What is known about a process before it is examined; about most, nothing.

    `entry` is its ledger entry, `inherited` that of the process whose value it inherited. `rule` sets its
    value so far. `raising` is the rule that raises it, or raised the process whose program it still runs;
    `raised`: there is one.
    """

    entry: "Entry | None" = None
    inherited: "Entry | None" = None
    rule: "Rule | None" = None
    raising: "Rule | None" = None
    raised: "RaisingRule | None" = None


NOTHING = Known()


class ManagedProcesses:
    """The processes that rules match, and what they passed on, by pid.

    Original values are in the `ledger`, inherited ones in `inheritance`; a reconciler has one of each.
    """

    def __init__(self, ledger: "Ledger", procfs: "Procfs") -> None:
        self.ledger = ledger
        self._procfs = procfs
        self.inheritance = Inheritance(ledger, procfs)
        self.rule_of: dict[int, int] = {}
        """By pid, the number of the rule that matches it, as last seen."""
        self.raised: dict[int, RaisingRule] = {}
        self.executed: dict[int, int] = {}
        """Processes that ran another program since they were last examined, and when (in the clock of
        forks)."""
        self.postponed: set[int] = set()
        """Processes to examine again soon, because this host was too busy to read them."""
        self.undecided: set[int] = set()
        """Young processes to examine again: a rule will match if they rewrite their command line."""
        self.unreadable: set[str] = set()
        """Why processes could not be read or matched, for people."""
        self.before_release: Callable[[], None] = lambda: None
        """Called before a process is no longer managed, when its rule is still known."""
        self._rules: Sequence[Rule] = ()
        self._first_person_uid = FIRST_PERSON_UID
        self.unchanged: dict[int, int] = {}
        """By pid: the hash of inode, name and value of a process that needs nothing while these stay the
        same."""
        self._forked_from: dict[int, Rule] = {}
        """By pid, the rule that raised the process's parent, whose program it may still run."""
        self._slow: set[str] = set()

    def take(self, policy: "Policy") -> None:
        """Switch to another policy: decisions of rules move to the rules with the same conditions.

        Everything else that depends on the previous policy is dropped.
        """
        before = {number: self._rules[number].conditions for number in {*self.rule_of.values()}}
        known = [*self._forked_from.values(), *(one.rule for one in self.raised.values())]
        found = _successors({*before.values(), *(rule.conditions for rule in known)}, policy.rules)
        self._rules, self._first_person_uid = policy.rules, policy.first_person_uid
        self.rule_of = {
            pid: rule.number for pid, number in self.rule_of.items() if (rule := found.get(before[number]))
        }
        self._forked_from = {
            pid: rule for pid, was in self._forked_from.items() if (rule := found.get(was.conditions))
        }
        self.raised = {
            pid: one._replace(rule=rule)
            for pid, one in self.raised.items()
            if (rule := found.get(one.rule.conditions))
        }
        self.unchanged.clear()
        self.inheritance.on_policy()

    # Events

    def on_fork(self, parent: int, child: int, at_ns: int) -> bool:
        """Record a fork and its time; return whether to check the child soon, whatever it runs."""
        rule = self._raising(parent)
        if rule is None or at_ns > self.executed.get(parent, at_ns):
            self._forked_from.pop(child, None)
        else:
            self._forked_from[child] = rule
        return self.inheritance.on_fork(parent, child, at_ns)

    def forget_forks(self) -> None:
        """Forget every fork because events were lost; living parents show them again."""
        self._forked_from.clear()
        self.inheritance.forget_forks()

    def on_exit(self, pid: int) -> None:
        """Drop what is known about a process that ended; its last forks may not be reported yet.

        Its original value stays where it may only be hidden.
        """
        rule = self._raising(pid)
        if rule is not None:
            self._forked_from[pid] = rule  # until the next pass
        self.inheritance.on_exit(pid)
        self._release(pid)
        self.raised.pop(pid, None)
        self.executed.pop(pid, None)
        self.unchanged.pop(pid, None)
        if pid in self.ledger.processes and not may_be_hidden(self._procfs, pid):
            self.ledger.forget_process(pid)

    def keep_only(self, pids: set[int]) -> None:
        """Drop what is known about processes that are not among `pids`, which contains all earlier forks."""
        for pid in (self.rule_of.keys() | self.raised.keys() | self.ledger.processes.keys()) - pids:
            self.on_exit(pid)
        self.inheritance.keep_only(pids)
        self.executed = {pid: at_ns for pid, at_ns in self.executed.items() if pid in pids}
        self._forked_from = {pid: rule for pid, rule in self._forked_from.items() if pid in pids}

    # Decisions

    def recall(self, handle: "ProcessHandle") -> Known:
        """Return what is known about a process. Raises one of GONE, or HIDDEN."""
        pid = handle.pid
        if not self.knows(pid):
            return NOTHING
        entry, raised = self.ledger.entry(handle.identity), self.raised.get(pid)
        if raised is not None and raised.identity != handle.identity:
            raised = None
        raising = None
        if pid not in self.executed:
            if entry is not None or raised is not None:
                raising = self._raising(pid)
            elif handle.stat.runs_its_parents_program:
                raising = self._forked_from.get(pid)
        rule = None if entry is None else self.rule(pid)
        return Known(entry, self.inheritance.entry(pid), rule, raising, raised)

    def record(self, handle: "ProcessHandle", known: Known, finding: "Finding") -> None:
        """Record what later decisions need of this one, given what was known before it."""
        pid, judged, is_new = handle.pid, finding.judged, known is NOTHING
        if finding.fork_watch is not None or not is_new:
            self.inheritance.watch_for_match(pid, finding.fork_watch)
        if finding.may_match_later:
            self.undecided.add(pid)
        if finding.unknown is not None:
            self.on_unknown(handle, finding.unknown)
            if finding.is_undecided:
                return
        if finding.raised is None:
            self.raised.pop(pid, None)
        else:
            self.raised[pid] = finding.raised
        if judged is None:
            if pid in self.rule_of:
                self._release(pid)
            return
        decision, entry = judged
        rule, value = decision.matched, decision.current
        if rule is not None:
            self.rule_of[pid] = rule.number
        else:
            self._release(pid)
        if entry is None and not is_new:
            self.inheritance.on_other_value(pid)
        if decision.obstacle is not None:
            return
        if rule is not None and entry is not None and decision.is_inherited:
            if not entry.is_ours(value):
                entry = entry._replace(given=value, given_before=None)
            with suppress(OSError):  # on a full disk the change is denied, not the pass
                self.ledger.record(handle.identity, entry)
        if rule is not None and decision.wanted != decision.original:
            shares, protects = rule.terms.children == "inherit", decision.wanted < decision.original
            is_watched = protects and not shares and rule.terms.scope == "main"
            watch = controlled_by(handle, self._first_person_uid) if is_watched else None
            if shares or is_watched or not is_new:
                self.inheritance.on_set(pid, shares=shares, watch=watch)
            self.inheritance.has_new_watched |= protects  # init is watched from the start
        if decision.wanted != value:
            return
        is_own = entry is not None and (rule is None or not entry.is_ours(value))
        if entry is not None and is_own and not decision.is_held:
            is_former = value == entry.given_before
            self.inheritance.on_own_value(pid, entry._replace(given_before=None) if is_former else entry)
            self.ledger.strike(handle.identity)
        if finding.is_unchanged:
            self.unchanged[pid] = hash((handle.inode, handle.comm, value))

    def on_unknown(self, handle: "ProcessHandle", reason: "UnknownFactError") -> None:
        """Record that a fact of a process could not be read, and what to do about it."""
        if reason.is_transient:
            self.postponed.add(handle.pid)
            return
        who = handle.spender().key
        if who not in self._slow and len(self._slow) < _SLOW_LIMIT:
            self._slow.add(who)
            self.unreadable.add(f"{who}: {reason}; rules that need it are not applied to such processes")

    def knows(self, pid: int) -> bool:
        """Return whether anything is known about a process."""
        return (
            pid in self.rule_of
            or pid in self.ledger.processes
            or pid in self._forked_from
            or pid in self.raised
            or pid in self.inheritance.inherited
            or pid in self.inheritance.watched_for_match
            or (self.inheritance.asks_parents and self.inheritance.is_needed)
        )

    def rule(self, pid: int) -> "Rule | None":
        """Return the rule that matches a process, as last seen, or None."""
        number = self.rule_of.get(pid)
        return None if number is None else self._rules[number]

    def is_unchanged(self, handle: "ProcessHandle") -> bool:
        """Return whether a process recorded as `unchanged` still is: then it needs nothing."""
        try:
            is_same = self.unchanged[handle.pid] == hash(
                (handle.inode, handle.comm, handle.read_oom_score_adj())
            )
        except OSError:
            is_same = False
        if is_same:
            self.executed.pop(handle.pid, None)  # the rule belongs to the program that it runs now
        else:
            del self.unchanged[handle.pid]
        return is_same

    def _raising(self, pid: int) -> "Rule | None":
        """Return the rule that raises a process, or that raised the one whose program it still runs."""
        known = self.ledger.processes.get(pid)
        if known is not None and pid in self.rule_of:
            return self._rules[self.rule_of[pid]] if known[1].given > known[1].original else None
        return self.raised[pid].rule if pid in self.raised else self._forked_from.get(pid)

    def _release(self, pid: int) -> None:
        if pid in self.rule_of:
            self.before_release()
            del self.rule_of[pid]


def _successors(wanted: "Set[Conditions]", rules: "Iterable[Rule]") -> "dict[Conditions, Rule]":
    """Return the first rule with each of these conditions."""
    names = {names for names, _ in wanted}
    found: dict[Conditions, Rule] = {}
    for rule in rules if wanted else ():
        if rule.names in names and rule.conditions in wanted:
            found.setdefault(rule.conditions, rule)
    return found
