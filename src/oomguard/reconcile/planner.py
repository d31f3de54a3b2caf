"""Plans the changes from the current /proc to the policy. Records nothing."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from oomguard.core.change import Change, Outcome, SetOomScoreAdj, SetSysctl
from oomguard.core.decide import Decision, Match, Refusal, Situation, decide, wanted_by
from oomguard.core.entry import Entry, own_value
from oomguard.core.match import first_unmet, quick_unmet
from oomguard.core.overcommit import Peak
from oomguard.core.process import UnknownFactError
from oomguard.core.rule import LEFT_BY, OOM_SCORE_ADJ_MIN, Rule, Value
from oomguard.core.sysctl_diff import diff_sysctls, left_alone, refusal_of
from oomguard.core.trust import ControlledBy, controlled_by, trust_refusal
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle
from oomguard.kernel.sysctl_files import observe_overcommit, observe_sysctls
from oomguard.reconcile.inheritance import Inheritance, reclaimed
from oomguard.reconcile.known import NOTHING, UNRELATED, Known
from oomguard.reconcile.managed import ManagedProcesses
from oomguard.reconcile.matching import Matching

if TYPE_CHECKING:
    from oomguard.core.choices import Cause

UNDECIDED_TICKS = 3 * os.sysconf("SC_CLK_TCK")
"""By this age, a program has rewritten its command line, if it does."""

_KEEP = Value("keep")


class Finding(NamedTuple):
    """What was found out about a process: the decision, if any, and what to record for the next one.

    `decision` is None if no rule matches it and it inherited nothing. `unknown` is why a rule could not be
    tried; with `is_undecided`, nothing can be decided yet. `raised_by` and `is_held` are those of `Known`.
    `fork_watch`: its children may come to match a rule, and this is who controls it. `may_match_later`: so
    may the process itself. `is_unchanged`: the decision stays the same while its name and value do.
    """

    decision: Decision | None = None
    unknown: UnknownFactError | None = None
    is_undecided: bool = False
    raised_by: int | None = None
    is_held: bool = False
    fork_watch: ControlledBy | None = None
    may_match_later: bool = False
    is_unchanged: bool = False


_NOTHING = Finding()
"""The finding for most processes: no rule matches them, and they inherited nothing."""


_NO_MATCH = Match()


class Planner:
    """A policy and one /proc, with what is known about its processes."""

    def __init__(
        self,
        matching: Matching,
        managed: ManagedProcesses,
        inheritance: Inheritance,
        promised_peak: Callable[[], Peak | None] = lambda: None,
    ) -> None:
        self.policy = matching.policy
        self.matching = matching
        self.procfs = matching.procfs
        self._managed = managed
        self._inheritance = inheritance
        self._ledger = managed.ledger
        self._promised_peak = promised_peak

    def sysctl_changes(self, cause: "Cause") -> list[SetSysctl]:
        """Return the sysctl writes that are due, in order."""
        names = self.sysctl_names()
        if not names:
            return []
        actual, memory = observe_overcommit(self.procfs, names)
        return diff_sysctls(
            self.policy, actual, memory, self._ledger.sysctls, cause=cause, peak=self._promised_peak()
        )

    def sysctl_refusal(self, changes: Sequence[SetSysctl]) -> Refusal | None:
        """Return why these values must not be set on the host in its current state, or None."""
        actual, memory = observe_overcommit(self.procfs, {change.name for change in changes})
        return refusal_of(changes, self.policy, actual, memory, self._promised_peak())

    def sysctl_names(self) -> set[str]:
        """Return the sysctls that are set: those of the policy, and those to restore."""
        return {setting.name for setting in self.policy.sysctls} | self._ledger.sysctls.keys()

    def missing_sysctls(self) -> set[str]:
        """Return those that this kernel lacks, which are skipped. OSError: one cannot be read."""
        names = self.sysctl_names()
        return names - observe_sysctls(self.procfs, names).keys()

    def foreign_sysctls(self) -> dict[str, int]:
        """Return the sysctls in the ledger that something else has set since, so they are not restored."""
        if self._ledger.sysctls.keys() <= {setting.name for setting in self.policy.sysctls}:
            return {}
        actual = observe_sysctls(self.procfs, self._ledger.sysctls)
        return {name: actual[name] for name in left_alone(self.policy, actual, self._ledger.sysctls)}

    def left_alone(self) -> list[Outcome]:
        """Return what a restore leaves alone: values that are neither the original nor oomguard's."""
        found = []
        for name, value in self.foreign_sysctls().items():
            entry = self._ledger.sysctls[name]
            if not _has(entry, value):
                found.append(_left_alone(SetSysctl(name, value, value, "restore"), entry))
        for handle in self.procfs.processes(one.pid for one in sorted(self._ledger.processes)):
            with suppress(*GONE, HIDDEN, UnknownFactError):
                known, value = self._ledger.entry(handle.identity), handle.read_oom_score_adj()
                if known is not None and not _has(reclaimed(known, value, handle), value):
                    change = SetOomScoreAdj(handle.identity, handle.comm, value, value, value, "restore")
                    found.append(_left_alone(change, known))
        return found

    def find(self, handle: ProcessHandle, known: Known, *, in_pass: bool = True) -> Finding:
        """Return the decision on a process, given what is known. Raises GONE, HIDDEN or UnknownFactError.

        Only a pass reads the value of the many processes that no rule matches; between passes, forks show
        what they inherited.
        """
        matches = self.matching.rules(handle)
        rule, refused, unknown, situation = self._first(handle, known, matches) if matches else _NO_MATCH
        fork_watch, may_match_later = None, False
        if self.matching.matcher.has_titles:
            fork_watch, may_match_later = self._may_come_to_match(handle, rule)
        descent = self._managed.descents.get(handle.pid, UNRELATED)
        is_known = known is not NOTHING or descent is not UNRELATED
        is_undecided, raised_by, is_held = False, None, False
        if unknown is not None:
            is_undecided, rule = self._meanwhile(handle, known, rule, unknown)
            raised_by, is_held = known.raised_by, known.is_held
        elif is_known and (raising := self._managed.raising(handle, known)) is not None:
            rule, is_held = self._unescaped(handle, known, raising, rule)
            raised_by = raising.number if is_held else None
            if is_held and refused is not None and refused[0].number == raising.number:
                rule = None  # it still matches, but asks for less than the process chose
        decision, is_unchanged = None, False
        if not is_undecided and (
            rule is not None
            or refused is not None
            or known.entry is not None
            or descent.origin is not None
            or self._inheritance.is_possible(handle, in_pass=in_pass)
        ):
            if handle.stat.is_zombie:
                raise ProcessLookupError("a zombie: it has ended")
            situation = situation or self._situation(handle, known, may_match=rule is not None)
            match = Match(rule, refused, unknown)
            decision = decide(handle.identity, handle.comm, situation, match, is_held=is_held)
            rule = decision.rule
            if rule is not None and decision.obstacle is None:
                if raised_by is None and decision.wanted == decision.own and rule.terms.value.raises:
                    raised_by = rule.number
                is_plain = refused is None and unknown is None and not is_held
                is_met = decision.wanted == decision.current
                is_unchanged = is_plain and is_met and self._is_unchanged(handle, decision, rule)
        elif unknown is None and fork_watch is None:
            return _NOTHING
        return Finding(
            decision, unknown, is_undecided, raised_by, is_held, fork_watch, may_match_later, is_unchanged
        )

    def _first(
        self,
        handle: ProcessHandle,
        known: Known,
        matches: Iterable[tuple[Rule, UnknownFactError | None]],
    ) -> Match:
        """Return the first of the rules that match a process which may set its value."""
        situation: Situation | None = None
        refused = unknown = None
        first_person = self.policy.first_person_uid
        for rule, untried in matches:
            refusal, reason = None, untried
            try:
                situation = situation or self._situation(handle, known, may_match=True)
                refusal = trust_refusal(rule, handle, own=situation.own, first_person_uid=first_person)
            except UnknownFactError as error:
                reason = untried or error
            if refusal is not None:  # the next rules are tried, or a protected name would be an escape
                refused = refused or (None if untried else (rule, refusal))
            elif reason is None:
                return Match(rule, refused, unknown, situation)
            elif unknown is None or reason.is_transient:
                unknown = reason
        return Match(None, refused, unknown, situation)

    def _may_come_to_match(
        self, handle: ProcessHandle, rule: Rule | None
    ) -> tuple[ControlledBy | None, bool]:
        """Return the `fork_watch` and `may_match_later` of a process that `rule` matches."""
        matcher = self.matching.matcher
        if not self.matching.possible_rules(handle) or not matcher.may_come_to_match(handle, rule):
            return None, False
        age = self.procfs.now_ticks() - handle.identity.start_time_ticks
        return controlled_by(handle, self.policy.first_person_uid), age < UNDECIDED_TICKS

    def _situation(self, handle: ProcessHandle, known: Known, *, may_match: bool) -> Situation:
        """Return the current and the own value of a process; `may_match`: a rule may match it."""
        value = handle.read_oom_score_adj()
        if known.entry is not None:
            entry = reclaimed(known.entry, value, handle)
            return Situation(value, own_value(entry, value), entry, is_inherited=False)
        origin = self._inheritance.origin(handle, value, may_match=may_match)
        own = value if origin is None else origin.original
        return Situation(value, own, origin, is_inherited=origin is not None)

    def _unescaped(
        self,
        handle: ProcessHandle,
        known: Known,
        raising: Rule,
        found: Rule | None,
    ) -> tuple[Rule | None, bool]:
        """Return the rule to apply, and whether that is the one that raised the process so far, not `found`.

        That is so if the process left it by its own doing.

        A process can change its name, command line and value at any time; its user may rename its program and
        move it to another cgroup. Every rule that raises by those could be escaped. So an untrusted one stays
        under that rule until it runs another program, even if it had the rule's value before oomguard set it,
        or set a higher one; and so does what it forks, whatever value that set meanwhile. A process in a
        cgroup that only root can move it to has left the rule.
        """
        is_same = found is not None and found.number == raising.number
        if is_same or self._did_nothing(handle, known, raising):
            return found, False
        entry, own = known.entry, own_value(known.entry, handle.read_oom_score_adj())
        # What a process chose does not count as given by a rule that allows it: it can choose less later.
        lowest = OOM_SCORE_ADJ_MIN if entry is None or found is not None else entry.original
        is_raised_less = wanted_by(raising, lowest) <= wanted_by(found, lowest)
        if (found is not None or entry is not None) and is_raised_less:
            return found, False
        unmet = quick_unmet(raising, handle)
        left_by = "itself" if unmet is None else LEFT_BY.get(unmet)  # a container is no condition
        is_by_itself = left_by == "itself" or (left_by == "move" and not handle.is_where_root_put_it)
        if not is_by_itself or self.matching.is_trusted(handle):
            return found, False
        # It may have chosen more than the rule asks for: lowering that would take trust.
        is_less = wanted_by(raising, own) < own
        kept = raising._replace(terms=raising.terms._replace(value=_KEEP)) if is_less else raising
        return kept, True

    def _did_nothing(self, handle: ProcessHandle, known: Known, raising: Rule) -> bool:
        """Return whether a process that leaves a rule still meets its conditions, so that others prevail.

        It was forked by the topmost of its tree (`scope: main`), or an edit of the policy put a rule first.
        """
        is_forked = raising.terms.scope == "main" and known.entry is None and known.raised_by is None
        is_edited = self._managed.has_new_policy and not known.is_held
        return (is_forked or is_edited) and first_unmet(raising, handle, self.matching.search) is None

    def _meanwhile(
        self, handle: ProcessHandle, known: Known, found: Rule | None, unknown: UnknownFactError
    ) -> tuple[bool, Rule | None]:
        """Return what applies while a rule cannot be tried; first, whether nothing can be decided."""
        if unknown.is_transient:
            return True, None
        is_trusted = self.matching.is_trusted(handle)
        entry = known.entry
        so_far = None if entry is None else self._managed.rule(handle.pid)
        if entry is not None and not is_trusted and not self._may_keep(handle, entry, so_far):
            if handle.read_oom_score_adj() >= entry.original:
                return True, None  # nothing to take from it; what somebody wrote is not its own yet
            entry = so_far = None
        rule = so_far or (None if is_trusted else found)
        return rule is None and (is_trusted or entry is not None), rule

    def _may_keep(self, handle: ProcessHandle, entry: Entry, rule: Rule | None) -> bool:
        """Return whether an untrusted process keeps its value while its rule is unknown.

        Not if it was protected as root's and is now another user's; yes if its rule protects it by `user`.
        """
        if entry.given >= entry.original:
            return True
        try:
            if rule is None or quick_unmet(rule, handle) is not None:
                return False
            first = self.policy.first_person_uid
            return trust_refusal(rule, handle, own=entry.original, first_person_uid=first) is None
        except UnknownFactError:
            return False

    def _is_unchanged(self, handle: ProcessHandle, decision: Decision, rule: Rule) -> bool:
        """Return whether the decision is the same while name and value are.

        Check trust each time: a process can change its user.
        """
        return (
            (decision.wanted >= decision.own or rule.terms.trust == "name")
            and not self._ledger.protections.include(decision.current)
            and self.matching.matcher.is_decided_by_name(handle.comm)
        )


def _has(entry: Entry, value: int) -> bool:
    return value == entry.original or entry.is_ours(value)


def _left_alone(change: Change, entry: Entry) -> Outcome:
    given = entry.given if entry.made is None else entry.made
    return Outcome(change, "left-alone", reason=f"set by something else (oomguard had set {given})")
