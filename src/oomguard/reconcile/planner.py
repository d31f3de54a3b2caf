"""From what /proc says now to the changes that would bring it to the policy. Writes nothing."""

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.budget import Budget
from oomguard.core.decide import Decision, decide, wanted_by
from oomguard.core.diff import (
    Entry,
    Outcome,
    SetOomScoreAdj,
    SetSysctl,
    diff_sysctls,
    left_alone,
    own_oom_score_adj,
    refusal_of,
)
from oomguard.core.match import Governed, Matcher, first_unmet, quick_unmet, search
from oomguard.core.policy import Value
from oomguard.core.process import INIT_PID, UnknownFactError
from oomguard.core.trust import Standing, is_trusted, standing, trust_refusal
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.kernel.slow_reads import REFILL, UNNOTICED_SECONDS
from oomguard.kernel.sysctl import observe_overcommit, observe_sysctls
from oomguard.kernel.timeout import TooLongError, within
from oomguard.reconcile.inheritance import ANCESTORS_LIMIT, Inheritance
from oomguard.reconcile.itself import Itself
from oomguard.reconcile.lineage import Lineage

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Sequence

    from oomguard.core.diff import Cause, Change
    from oomguard.core.overcommit import Peak, Refusal
    from oomguard.core.policy import Policy, Rule
    from oomguard.core.process import Identity
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger

SHORTAGE = frozenset((errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN))
"""What the kernel answers when it is short of memory or descriptors: a reason to wait, not to die."""

MATCH_SECONDS = 0.02
"""Processor time that the `cmdline` patterns of one rule may take on one process."""

UNDECIDED_TICKS = 3 * os.sysconf("SC_CLK_TCK")
"""A program that rewrites its command line has done so at this age."""

_SLOW_LIMIT = 64
"""Users that are reported because their processes could not be read or judged in time."""


_UNGOVERNED = Governed()
_KEEP = Value("keep")


class Situation(NamedTuple):
    """The value a process has, and what it would have without oomguard.

    `entry` is the ledger's, or, if `is_inherited`, that of the process it has its value from.
    """

    value: int
    own: int
    entry: Entry | None
    is_inherited: bool


class Judged(NamedTuple):
    """What is decided on a process, and from what. `is_plain`: no other rule might have governed it."""

    decision: Decision
    situation: Situation
    is_plain: bool

    def change(self, cause: "Cause") -> SetOomScoreAdj | None:
        """Return the write that the decision asks for, or None."""
        decision, entry = self.decision, self.situation.entry
        obstacle, own = decision.obstacle, decision.original
        if decision.wanted == decision.current or (obstacle is not None and obstacle.kind == "unknown"):
            return None
        rule = decision.rule if decision.wanted != own else None
        if entry is not None and not decision.is_inherited and entry.is_written:
            cause = "drift" if entry.given == decision.wanted else cause
        # What a child was given by a privileged ancestor, sshd for one, moved its floor though we did not.
        is_reset = decision.is_inherited and rule is None and own > decision.current
        return SetOomScoreAdj(
            identity=decision.identity,
            comm=decision.comm,
            before=decision.current,
            after=decision.wanted,
            own=own,
            cause="restore" if rule is None else cause,
            rule=rule,
            obstacle=obstacle,
            moved_floor=is_reset or (entry is not None and entry.moved_floor),
            inherited=decision.is_inherited and rule is None,
        )


class Planner:
    """A policy held against one /proc, with what the ledger and the lineage know of it."""

    def __init__(
        self,
        policy: "Policy",
        ledger: "Ledger",
        procfs: "Procfs",
        lineage: Lineage | None = None,
        itself: Itself | None = None,
        promised_peak: "Callable[[], Peak | None]" = lambda: None,
    ) -> None:
        self.policy = policy
        self.promised_peak = promised_peak
        self.ledger = ledger
        self.lineage = Lineage(ledger, procfs.is_alive) if lineage is None else lineage
        self._inheritance = Inheritance(
            ledger, self.lineage, procfs, rule_of=self.governing_rule, is_trusted=self._is_trusted
        )
        self._legacies: dict[int, Entry | None] = {}
        self.procfs = procfs
        self.matcher = Matcher(policy.rules)
        self.rule_of: dict[int, int] = {}
        """By pid, the number of the rule that governs it, as last seen."""
        self.before_release: Callable[[], None] = lambda: None
        """Called before a process is managed no more: the last moment to ask which rule it was."""
        self._settled: dict[int, tuple[int, bytes, int]] = {}
        """By pid: inode, name and value of a process that needs nothing while these are the same."""
        self._pattern_time = Budget(capacity=MATCH_SECONDS, refill=REFILL)
        self.executed: dict[int, int] = {}
        """Processes that have run another program since they were looked at, and when, as forks are dated."""
        self.renamed: dict[int, Rule] = {}
        """By pid, the rule that goes on governing a process which left it by a name of its own choice."""
        self._forked_from: dict[int, Rule] = {}
        """By pid, the rule that raised the process it was forked from, whose program it may still run."""
        self._content: dict[int, tuple[Identity, Rule]] = {}
        """By pid, processes that have by themselves what a rule raises to."""
        self.postponed: set[int] = set()
        """Processes to look at again soon: this host was too busy to read them."""
        self.undecided: set[int] = set()
        """Young processes to look at again: a rule matches them if they rewrite their command line."""
        self._slow: set[str] = set()
        self.unreadable: set[str] = set()
        """What kept processes from being read or judged, for a person."""
        self.itself = itself or Itself(os.getpid())

    def succeed(self, before: "Planner") -> None:
        """Take over, from the planner of the policy before, which rules processes cannot leave by a name."""
        wanted = {
            rule.conditions for rules in (before.renamed, before._forked_from) for rule in rules.values()
        }
        found: dict[object, Rule] = {}
        for rule in self.policy.rules if wanted else ():
            if rule.conditions in wanted:
                found.setdefault(rule.conditions, rule)
        self.renamed, self._forked_from = (
            {pid: found[rule.conditions] for pid, rule in rules.items() if rule.conditions in found}
            for rules in (before.renamed, before._forked_from)
        )
        self.rule_of = {pid: rule.number for pid, rule in self.renamed.items()}

    def sysctl_changes(self, cause: "Cause") -> list[SetSysctl]:
        """Return the sysctl writes that are due, in order."""
        names = self.sysctl_names()
        if not names:
            return []
        actual, memory = observe_overcommit(self.procfs, names)
        return diff_sysctls(
            self.policy, actual, memory, self.ledger.sysctls, cause=cause, peak=self.promised_peak()
        )

    def sysctl_refusal(self, changes: "Sequence[SetSysctl]") -> "Refusal | None":
        """Return why the host, as it is at this moment, must not get these values; or None."""
        actual, memory = observe_overcommit(self.procfs, {change.name for change in changes})
        return refusal_of(changes, self.policy, actual, memory, self.promised_peak())

    def sysctl_names(self) -> set[str]:
        """Return the sysctls that are kept: those of the policy, and those to put back."""
        return {setting.name for setting in self.policy.sysctls} | self.ledger.sysctls.keys()

    def foreign_sysctls(self) -> dict[str, int]:
        """Return the sysctls in the ledger that are not restored, as something else has set them since."""
        if self.ledger.sysctls.keys() <= {setting.name for setting in self.policy.sysctls}:
            return {}
        actual = observe_sysctls(self.procfs, self.ledger.sysctls)
        return {name: actual[name] for name in left_alone(self.policy, actual, self.ledger.sysctls)}

    def left_alone(self) -> list[Outcome]:
        """Return what a restore leaves: values that are neither the original nor what oomguard had set."""
        found = []
        for name, value in self.foreign_sysctls().items():
            entry = self.ledger.sysctls[name]
            if not _has(entry, value):
                found.append(_left_alone(SetSysctl(name, value, value, "restore"), entry))
        for handle in self.procfs.processes(sorted(self.ledger.processes)):
            with suppress(*GONE, HIDDEN):
                known, value = self.ledger.process(handle.identity), handle.read_oom_score_adj()
                if known is not None and not _has(_reclaimed(known, value, handle), value):
                    change = SetOomScoreAdj(handle.identity, handle.comm, value, value, value, "restore")
                    found.append(_left_alone(change, known))
        return found

    def process_changes(self, cause: "Cause") -> "Iterator[tuple[SetOomScoreAdj, ProcessHandle]]":
        """Yield each process's change with the process held open; it closes on the next step."""
        for handle in self.processes():
            change = self.process_change(handle, cause)
            if change is not None:
                yield change, handle

    def processes(self) -> "Iterator[ProcessHandle]":
        """Yield each process there is, held open, after those that are gone were forgotten."""
        pids = self.procfs.pids()
        self.forget_all_but(set(pids))
        yield from self.procfs.processes(pids)

    def process_change(
        self, handle: "ProcessHandle", cause: "Cause", *, in_pass: bool = True
    ) -> SetOomScoreAdj | None:
        """Return the change that one process needs, or None; it may be gone meanwhile.

        Only a pass reads the value of the many that no rule matches; between two, forks tell what those
        inherited.
        """
        settled = self._settled.get(handle.pid)
        if settled is not None and self._is_as(handle, settled):
            self.executed.pop(handle.pid, None)  # the rule is that of the program it runs now
            return None
        self._settled.pop(handle.pid, None)
        if handle.pid in self.executed:
            self.procfs.slow_reads.disregard(handle.fd, before=self.executed[handle.pid] / 1e9)
        judged = self.judge(handle, in_pass=in_pass)
        return None if judged is None else judged.change(cause)

    def _is_as(self, handle: "ProcessHandle", settled: tuple[int, bytes, int]) -> bool:
        try:
            return settled == (handle.inode, handle.comm, handle.read_oom_score_adj())
        except OSError:
            return False

    def judge(self, handle: "ProcessHandle", *, in_pass: bool = True) -> Judged | None:
        """Return what is decided on a process, and keep what later decisions need.

        None: no rule concerns it, and it has inherited nothing; or it is gone, or cannot be read now.
        """
        try:
            judged = self._judge(handle, in_pass=in_pass)
            if judged is not None:
                self._note(handle, judged)
        except (*GONE, HIDDEN):
            self.forget(handle.pid)
            return None
        except UnknownFactError as error:
            self._note_unknown(handle, error)
            return None
        except OSError as error:
            if error.errno in SHORTAGE:
                raise
            self.unreadable.add(os.strerror(error.errno or errno.EIO))
            return None
        else:
            return judged
        finally:
            if handle.pid not in self.postponed:
                self.executed.pop(handle.pid, None)

    def may_have_floor(self, handle: "ProcessHandle", *, in_pass: bool = True) -> bool:
        """Tell whether a process that needs no other value may have inherited a floor below 0."""
        if not in_pass:
            self._inheritance.forget(handle.pid)  # it may have become another user's
            if not self.lineage.is_certain(handle.pid):
                return False
        try:
            return self._inheritance.may_have_floor(handle)
        except (*GONE, HIDDEN, UnknownFactError):
            return False

    def forked(self, parent: int, child: int, at_ns: int) -> bool:
        """Take note of a fork, and when it was; tell whether to check the child soon, whatever it runs."""
        rule = self._raised_by(parent)
        if rule is None or at_ns > self.executed.get(parent, at_ns):
            self._forked_from.pop(child, None)
        else:
            self._forked_from[child] = rule
        return self.lineage.forked(parent, child, at_ns)

    def forget_forks(self) -> None:
        """Forget which process forked which; living parents show it again."""
        self._forked_from.clear()
        self.lineage.forget()

    def _raised_by(self, pid: int) -> "Rule | None":
        """Return the rule that raises a process, as last seen, or that raised the one it was forked from."""
        known = self.ledger.processes.get(pid)
        if known is not None and pid in self.rule_of:
            return self.policy.rules[self.rule_of[pid]] if known[1].given > known[1].original else None
        return self._content[pid][1] if pid in self._content else self._forked_from.get(pid)

    def forget(self, pid: int) -> None:
        """Drop what is known of a process that is gone."""
        rule = self._raised_by(pid)
        if rule is not None:
            self._forked_from[pid] = rule  # until the next pass: its last forks may not be known yet
        self.lineage.died(pid)
        self._release(pid)
        self.renamed.pop(pid, None)
        self._content.pop(pid, None)
        self.executed.pop(pid, None)
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
        self._inheritance.keep_only(pids)
        self.executed = {pid: at_ns for pid, at_ns in self.executed.items() if pid in pids}
        for pid in (self.rule_of.keys() | self._content.keys() | self.ledger.processes.keys()) - pids:
            self.forget(pid)
        self._forked_from = {pid: rule for pid, rule in self._forked_from.items() if pid in pids}

    def governing_rule(self, handle: "ProcessHandle") -> "Rule | None":
        """Return the rule that governs the process. Raises one of GONE if it ended."""
        return self._governed(handle).rule

    def _governed(
        self, handle: "ProcessHandle", refusal: "Callable[[Rule], Refusal | None]" = lambda _: None
    ) -> Governed:
        if handle.pid == INIT_PID or not self.matcher.candidates(handle.comm) or self.itself.covers(handle):
            return _UNGOVERNED
        if handle.stat.is_kernel_thread or handle.stat.is_zombie:
            return _UNGOVERNED
        return self.matcher.decide(
            handle, lambda rule: self.is_topmost(rule, handle), refusal, self.search_within(handle)
        )

    def search_within(self, handle: "ProcessHandle") -> "Callable[[re.Pattern[str], str], bool]":
        """Return a search that raises UnknownFactError when it takes too long on this process's words."""

        def bounded(pattern: "re.Pattern[str]", text: str) -> bool:
            spent = self._pattern_time
            if spent and spent.is_spent(handle.spender().key, time.monotonic()):
                raise TooLongError(
                    f"`cmdline` patterns took too long on other processes of {handle.spender().key}"
                )
            begun = time.thread_time()
            try:
                return within(MATCH_SECONDS, lambda: search(pattern, text))
            finally:
                took = time.thread_time() - begun
                if took > UNNOTICED_SECONDS:
                    now = time.monotonic()
                    spent.settle(now)
                    spent.charge(handle.spender().key, took, now)

        return bounded

    def is_topmost(self, rule: "Rule", handle: "ProcessHandle") -> bool:
        """Tell whether no ancestor of the process meets the rule's conditions."""
        parent_pid = handle.stat.parent_pid
        for _ in range(ANCESTORS_LIMIT):
            if parent_pid <= INIT_PID:
                return True
            parent = self.procfs.open(parent_pid)
            if parent is None:
                return True  # it ended meanwhile; its children are init's now
            with parent:
                try:
                    if first_unmet(rule, parent, self.search_within(parent)) is None:
                        return False
                    parent_pid = parent.stat.parent_pid
                except GONE:
                    return True
        return True

    def _judge(self, handle: "ProcessHandle", *, in_pass: bool) -> Judged | None:
        """Return what is decided on a process; None if there is nothing to decide, or it cannot be yet."""
        situation: Situation | None = None

        def refusal(rule: "Rule") -> "Refusal | None":
            nonlocal situation
            situation = situation or self._situation(handle, may_match=True)
            return self.refusal(rule, handle, own=situation.own)

        governed = self._governed(handle, refusal)
        rule, refused, unknown = governed
        self.lineage.expect(handle.pid, None if governed is _UNGOVERNED else self._expectation(handle, rule))
        if unknown is not None:
            self._note_unknown(handle, unknown)
            if unknown.is_transient:
                return None
            rule = self._rule_meanwhile(handle, rule)
            if rule is None and (self.ledger.process(handle.identity) or self._is_trusted(handle)):
                return None
        else:
            rule = self._rule_left(handle, rule, refused and refused[0]) or rule
        if rule is not None:
            self.rule_of[handle.pid] = rule.number
        elif refused is None:
            self._release(handle.pid)
            if not (handle.pid in self.ledger.processes or self._may_inherit(handle, in_pass=in_pass)):
                return None
        situation = situation or self._situation(handle, may_match=rule is not None)
        decision = decide(
            handle.identity,
            handle.comm,
            current=situation.value,
            original=situation.own,
            rule=rule,
            refusal=refused,
            unknown="" if unknown is None else str(unknown),
            is_inherited=situation.is_inherited and situation.entry is not None,
            is_renamed=handle.pid in self.renamed,
        )
        return Judged(decision, situation, unknown is None and refused is None)

    def _expectation(self, handle: "ProcessHandle", rule: "Rule | None") -> Standing | None:
        """Return the standing of a process whose children may come to match a rule, or None."""
        if not self.matcher.may_come_to_match(handle, rule):
            return None
        if self.procfs.now_ticks() - handle.identity.start_time_ticks < UNDECIDED_TICKS:
            self.undecided.add(handle.pid)
        return standing(handle, self.policy.first_person_uid)

    def _note(self, handle: "ProcessHandle", judged: Judged) -> None:
        """Keep what later decisions need: on this process, and on the children that it has or will have."""
        decision, situation, is_plain = judged
        rule, entry, value, own = decision.rule, situation.entry, decision.current, decision.original
        if decision.obstacle is not None:
            if rule is not None and decision.obstacle.kind == "refused":
                self.rule_of[handle.pid] = rule.number
            return
        if rule is not None:
            if situation.is_inherited and entry is not None:
                if not entry.is_ours(value):
                    entry = entry._replace(given=value, given_before=None)
                with suppress(OSError):  # on a full disk the change is denied, not the pass
                    self.ledger.record_process(handle.identity, entry)
            if decision.wanted != own:
                self._bequeath(handle, rule, protects=decision.wanted < own)
        if decision.wanted != value:
            return
        if entry is None and rule is not None and value > 0 and rule.terms.value.kind != "keep":
            self._content[handle.pid] = handle.identity, rule
        is_chosen = rule is None or (entry is not None and not entry.is_ours(value))
        if entry is not None and is_chosen and not decision.is_renamed:
            is_former = value == entry.given_before
            self.lineage.chose(handle.pid, entry._replace(given_before=None) if is_former else entry)
            self.ledger.strike_process(handle.pid)  # the value it has is its own by now
        # Trust is checked each time: a process can change its user.
        is_free = rule is not None and (decision.wanted >= own or rule.terms.trust == "name")
        is_free = is_free and is_plain and not decision.is_renamed
        is_free = is_free and not self._inheritance.is_possible(value)
        if is_free and self.matcher.is_decided_by_name(handle.comm):
            self._settled[handle.pid] = (handle.inode, handle.comm, value)

    def refusal(self, rule: "Rule", handle: "ProcessHandle", *, own: int) -> "Refusal | None":
        """Return why a rule must not give a process, whose own value is `own`, what it asks for; or None."""
        wanted = rule.terms.value.wanted(own)
        if wanted is None:
            return None
        first = self.policy.first_person_uid
        return trust_refusal(rule, handle, own=own, wanted=wanted, first_person_uid=first)

    def _is_trusted(self, handle: "ProcessHandle") -> bool:
        return is_trusted(handle, self.policy.first_person_uid)

    def _rule_meanwhile(self, handle: "ProcessHandle", otherwise: "Rule | None") -> "Rule | None":
        """Return the rule to go by while one cannot be judged: the one that governs the process so far."""
        number = self.rule_of.get(handle.pid)
        if number is not None and self.ledger.process(handle.identity) is not None:
            return self.policy.rules[number]
        return None if self._is_trusted(handle) else otherwise

    def _rule_left(
        self, handle: "ProcessHandle", found: "Rule | None", refused: "Rule | None"
    ) -> "Rule | None":
        """Return the rule that raised a process which then left it by itself, for one that raises it less.

        A process can change its name, its command line and its value at any time, and every rule that raises
        by the first two could be escaped. So an untrusted one goes on being governed until it runs another
        program, also if it had the rule's value before it was given it, or chose a higher one; and so does
        what it forks, whatever value that chose meanwhile.
        """
        pid, was = handle.pid, self.renamed.pop(handle.pid, None)
        if not (pid in self.ledger.processes or pid in self._content or pid in self._forked_from):
            return None  # as most of all processes: nothing is read of them
        identity, rule = self._content.pop(pid, (None, None))
        entry = self.ledger.process(handle.identity)
        if entry is not None:
            is_raised = entry.given > entry.original and (was or pid in self.rule_of)
            rule = (was or self.policy.rules[self.rule_of[pid]]) if is_raised else None
        elif identity != handle.identity:
            rule = self._forked_from.get(pid) if handle.stat.runs_its_parents_program else None
        if rule is None or pid in self.executed:
            return None
        if rule.number in [other.number for other in (found, refused) if other]:
            return None
        own = own_oom_score_adj(entry, handle.read_oom_score_adj())
        original = own if entry is None else entry.original
        if (found or entry) and wanted_by(rule, original) <= wanted_by(found, original):
            return None
        if quick_unmet(rule._replace(names=()), handle) is not None or self._is_trusted(handle):
            return None
        self.renamed[pid] = rule
        if entry is None:
            self._content[pid] = handle.identity, rule
        # It may have chosen more than the rule asks for: lowering that would take trust.
        return rule._replace(terms=rule.terms._replace(value=_KEEP)) if wanted_by(rule, own) < own else rule

    def _note_unknown(self, handle: "ProcessHandle", reason: UnknownFactError) -> None:
        if reason.is_transient:
            self.postponed.add(handle.pid)
            return
        who = handle.spender().key
        if who not in self._slow and len(self._slow) < _SLOW_LIMIT:
            self._slow.add(who)
            self.unreadable.add(f"{who}: {reason}; rules that need it are not applied to such processes")

    def _situation(self, handle: "ProcessHandle", *, may_match: bool) -> Situation:
        """Return what the process has and would have; `may_match`: a rule may govern it."""
        value = handle.read_oom_score_adj()
        entry = self.ledger.process(handle.identity)
        is_inherited = entry is None
        if entry is None:
            entry = self._inherited(handle, value, asks_parent=may_match)
        else:
            entry = _reclaimed(entry, value, handle)
        if is_inherited and entry is not None:
            return Situation(value, entry.original, entry, is_inherited)
        return Situation(value, own_oom_score_adj(entry, value), entry, is_inherited)

    def _may_inherit(self, handle: "ProcessHandle", *, in_pass: bool) -> bool:
        """Tell whether a process that no rule holds may have the value of one that a rule does."""
        if self.lineage.entry(handle.pid) is not None:
            return True
        if self.lineage.asks_parents and self.lineage.is_needed:
            return True
        return (
            in_pass
            and bool(self.ledger.protections)
            and self._inheritance.is_possible(handle.read_oom_score_adj())
        )

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
        if entry is not None:
            # Started before its ancestor was given that, it has its value, and its floor, from itself.
            is_older = entry.since_ticks > handle.identity.start_time_ticks
            if is_older and (value == entry.given or entry.given_before is None):
                return None
            entry = _reclaimed(entry, value, handle)
            if entry.was_ours(value):
                return entry
        entry = self._inheritance.entry(handle, value)
        if entry is None:
            self.lineage.has_own(handle.pid)
        return entry

    def _entry_of(self, pid: int) -> Entry | None:
        """Return the entry of the process that has a pid now."""
        identity = self.procfs.identity(pid) if pid in self.ledger.processes else None
        return None if identity is None else self.ledger.process(identity)

    def _legacy(self, pid: int, value: int) -> Entry | None:
        """Return the entry of the nearest ancestor in the ledger, if all on the way have its value, too."""
        passed: list[int] = []
        found: Entry | None = None
        for _ in range(ANCESTORS_LIMIT):
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


def _has(entry: Entry, value: int) -> bool:
    return value == entry.original or entry.is_ours(value)


def _left_alone(change: "Change", entry: Entry) -> Outcome:
    given = entry.given if entry.made is None else entry.made
    return Outcome(change, "left-alone", reason=f"set by something else (oomguard had set {given})")


def _reclaimed(entry: Entry, value: int, handle: "ProcessHandle") -> Entry:
    """Return the entry, with `value` as ours if only the floor that we moved let the process choose it.

    An ordinary process below its original value can be there by nobody else's leave: a child that lowers
    itself by one before it is looked at would otherwise stay immune for good.
    """
    stole = entry.moved_floor and entry.given < value < entry.original and not entry.is_ours(value)
    return (
        entry._replace(given_before=value, is_written=False)
        if stole and not handle.may_lower_itself
        else entry
    )
