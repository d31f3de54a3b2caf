"""From what /proc says now to the changes that would bring it to the policy. Writes nothing."""

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

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
from oomguard.core.match import quick_unmet
from oomguard.core.policy import Value
from oomguard.core.process import UnknownFactError
from oomguard.core.trust import Standing, standing
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.kernel.sysctl import observe_overcommit, observe_sysctls
from oomguard.reconcile.inheritance import Inheritance, reclaimed
from oomguard.reconcile.matching import NO_CANDIDATES, Matching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from oomguard.core.diff import Cause, Change
    from oomguard.core.overcommit import Peak, Refusal
    from oomguard.core.policy import Policy, Rule
    from oomguard.core.process import Identity
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.itself import Itself
    from oomguard.reconcile.ledger import Ledger

SHORTAGE = frozenset((errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN))
"""What the kernel answers when it is short of memory or descriptors: a reason to wait, not to die."""

UNDECIDED_TICKS = 3 * os.sysconf("SC_CLK_TCK")
"""A program that rewrites its command line has done so at this age."""

_SLOW_LIMIT = 64
"""Users that are reported because their processes could not be read or judged in time."""


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
    """A policy held against one /proc, with what is known of its processes."""

    def __init__(
        self,
        policy: "Policy",
        ledger: "Ledger",
        procfs: "Procfs",
        inheritance: Inheritance | None = None,
        itself: "Itself | None" = None,
        promised_peak: "Callable[[], Peak | None]" = lambda: None,
    ) -> None:
        self.policy = policy
        self.promised_peak = promised_peak
        self.ledger = ledger
        self.inheritance = Inheritance(ledger, procfs) if inheritance is None else inheritance
        self.matching = Matching(policy, procfs, itself)
        self.procfs = procfs
        self.rule_of: dict[int, int] = {}
        """By pid, the number of the rule that governs it, as last seen."""
        self.before_release: Callable[[], None] = lambda: None
        """Called before a process is managed no more: the last moment to ask which rule it was."""
        self._settled: dict[int, tuple[int, bytes, int]] = {}
        """By pid: inode, name and value of a process that needs nothing while these are the same."""
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
                if known is not None and not _has(reclaimed(known, value, handle), value):
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

    def forked(self, parent: int, child: int, at_ns: int) -> bool:
        """Take note of a fork, and when it was; tell whether to check the child soon, whatever it runs."""
        rule = self._raised_by(parent)
        if rule is None or at_ns > self.executed.get(parent, at_ns):
            self._forked_from.pop(child, None)
        else:
            self._forked_from[child] = rule
        return self.inheritance.on_fork(parent, child, at_ns)

    def forget_forks(self) -> None:
        """Forget which process forked which; living parents show it again."""
        self._forked_from.clear()
        self.inheritance.forget_forks()

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
        self.inheritance.on_exit(pid)
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
        self.inheritance.keep_only(pids)
        self.executed = {pid: at_ns for pid, at_ns in self.executed.items() if pid in pids}
        for pid in (self.rule_of.keys() | self._content.keys() | self.ledger.processes.keys()) - pids:
            self.forget(pid)
        self._forked_from = {pid: rule for pid, rule in self._forked_from.items() if pid in pids}

    def _judge(self, handle: "ProcessHandle", *, in_pass: bool) -> Judged | None:
        """Return what is decided on a process; None if there is nothing to decide, or it cannot be yet."""
        situation: Situation | None = None

        def refusal(rule: "Rule") -> "Refusal | None":
            nonlocal situation
            situation = situation or self._situation(handle, may_match=True)
            return self.matching.refusal(rule, handle, own=situation.own)

        governed = self.matching.governed(handle, refusal)
        rule, refused, unknown = governed
        self.inheritance.watch_for_match(
            handle.pid, None if governed is NO_CANDIDATES else self._expectation(handle, rule)
        )
        if unknown is not None:
            self._note_unknown(handle, unknown)
            if unknown.is_transient:
                return None
            rule = self._rule_meanwhile(handle, rule)
            if rule is None and (self.ledger.process(handle.identity) or self.matching.is_trusted(handle)):
                return None
        else:
            rule = self._rule_left(handle, rule, refused and refused[0]) or rule
        if rule is not None:
            self.rule_of[handle.pid] = rule.number
        elif refused is None:
            self._release(handle.pid)
            if not (
                handle.pid in self.ledger.processes or self.inheritance.is_possible(handle, in_pass=in_pass)
            ):
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
        if not self.matching.matcher.may_come_to_match(handle, rule):
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
                self._record_children(handle, rule, protects=decision.wanted < own)
        if decision.wanted != value:
            return
        if entry is None and rule is not None and value > 0 and rule.terms.value.kind != "keep":
            self._content[handle.pid] = handle.identity, rule
        is_chosen = rule is None or (entry is not None and not entry.is_ours(value))
        if entry is not None and is_chosen and not decision.is_renamed:
            is_former = value == entry.given_before
            self.inheritance.on_own_value(
                handle.pid, entry._replace(given_before=None) if is_former else entry
            )
            self.ledger.strike_process(handle.pid)  # the value it has is its own by now
        # Trust is checked each time: a process can change its user.
        is_free = rule is not None and (decision.wanted >= own or rule.terms.trust == "name")
        is_free = is_free and is_plain and not decision.is_renamed
        is_free = is_free and not self.ledger.protections.include(value)
        if is_free and self.matching.matcher.is_decided_by_name(handle.comm):
            self._settled[handle.pid] = (handle.inode, handle.comm, value)

    def _rule_meanwhile(self, handle: "ProcessHandle", otherwise: "Rule | None") -> "Rule | None":
        """Return the rule to go by while one cannot be judged: the one that governs the process so far."""
        number = self.rule_of.get(handle.pid)
        if number is not None and self.ledger.process(handle.identity) is not None:
            return self.policy.rules[number]
        return None if self.matching.is_trusted(handle) else otherwise

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
        if quick_unmet(rule._replace(names=()), handle) is not None or self.matching.is_trusted(handle):
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
            entry = self.inheritance.original_of(handle, value, self.matching, may_match=may_match)
            if entry is None:
                self.inheritance.on_other_value(handle.pid)
        else:
            entry = reclaimed(entry, value, handle)
        if is_inherited and entry is not None:
            return Situation(value, entry.original, entry, is_inherited)
        return Situation(value, own_oom_score_adj(entry, value), entry, is_inherited)

    def _record_children(self, handle: "ProcessHandle", rule: "Rule", *, protects: bool) -> None:
        resets = rule.terms.children == "reset"
        is_watched = protects and resets and rule.terms.scope == "main"
        self.inheritance.on_set(
            handle.pid,
            shares=not resets,
            watch=standing(handle, self.policy.first_person_uid) if is_watched else None,
        )


def _has(entry: Entry, value: int) -> bool:
    return value == entry.original or entry.is_ours(value)


def _left_alone(change: "Change", entry: Entry) -> Outcome:
    given = entry.given if entry.made is None else entry.made
    return Outcome(change, "left-alone", reason=f"set by something else (oomguard had set {given})")
