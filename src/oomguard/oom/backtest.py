"""What would have been killed under another policy: a report's decision with other values.

A report has the name, uid and value of each process, and the cgroup of the victim. If a rule needs more,
it is open whether it matches, and the process has several possible values.
"""

import re
from typing import Literal, NamedTuple

from oomguard.core.cgroup import in_user_slice, system_unit, user_unit
from oomguard.core.match import Matcher, first_unmet
from oomguard.core.policy import Policy
from oomguard.core.process import INIT_PID, Program
from oomguard.core.rule import Rule
from oomguard.core.trust import DYNAMIC_UIDS, trust_refusal
from oomguard.oom.badness import IMMUNE
from oomguard.oom.postmortem import Finding, Place, rank_tasks, task_badness
from oomguard.oom.report import Task

_CONTAINER = re.compile(
    r"kubepods|docker[-/][0-9a-f]{12}|cri-containerd-|crio-[0-9a-f]|libpod-[0-9a-f]|/lxc(?:\.payload\.|/)"
    r"|/machine\.slice/(?:systemd-nspawn@|machine-(?!qemu))"
)
"""Their cgroups by the names that runtimes give them. Not a virtual machine, nor the runtime itself."""


class Verdict(NamedTuple):
    """The value of a process under a policy, and the rule that sets it; None keeps the process's own."""

    value: int
    rule: Rule | None = None


class Replayed(NamedTuple):
    """A process with all its possible values: several if a rule needs what the report does not have.

    `place` is computed with the likeliest values, the first of each process.
    """

    place: Place
    verdicts: tuple[Verdict, ...]

    @property
    def likely(self) -> Verdict:
        """Its value if everything unknown is as the rules need it."""
        return self.verdicts[0]


Result = Literal["same", "other", "open", "nobody"]


class Backtest(NamedTuple):
    """What a policy would have changed.

    `victims` are the processes that may have been killed, the likeliest first; a single one is certain.
    `open_rules` need what the report does not have.
    """

    result: Result
    victims: tuple[Replayed, ...]
    replayed: tuple[Replayed, ...]
    open_rules: tuple[Rule, ...]


class _UnrecordedError(Exception):
    """A rule needs what the report does not have."""


class _Recorded:
    """A process as far as a report has it, for rules to match."""

    def __init__(self, task: Task, *, cgroup: str, is_exact: bool) -> None:
        self.comm = task.comm.encode("utf-8", "surrogateescape")
        self.uid = self.likely_uid = self.saved_uid = task.uid  # the kernel prints the real one
        self.has_dynamic_uid = self.uid in DYNAMIC_UIDS
        self.in_user_namespace = self.in_pid_namespace = False
        self.cgroup_is_roots = not user_unit(cgroup)  # below a user's own service manager they are his
        self.in_container = _CONTAINER.search(cgroup) is not None and not in_user_slice(cgroup)
        self.is_exact = is_exact
        self._cgroup = cgroup

    @property
    def cgroup(self) -> str:
        """The cgroup, if it shows the unit."""
        if self.is_exact or system_unit(self._cgroup):
            return self._cgroup
        raise _UnrecordedError

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """Not in any report."""
        raise _UnrecordedError

    @property
    def exe(self) -> str | None:
        """Not in any report."""
        raise _UnrecordedError

    @property
    def program(self) -> Program | None:
        """As for a daemon without CAP_SYS_PTRACE."""
        return None


class Backtester:
    """Applies a policy to reports."""

    def __init__(self, policy: Policy) -> None:
        self._matcher = Matcher(policy.rules)
        self._first_person_uid = policy.first_person_uid

    def replay(self, finding: Finding) -> Backtest | None:
        """Compute the decision with the policy's values; None if the report has too little."""
        report, era, total = finding.report, finding.era, finding.total_pages
        if era is None or total is None or not report.tasks:
            return None
        open_rules: dict[int, Rule] = {}
        verdicts = [
            (Verdict(task.oom_score_adj),)
            if task.pid == INIT_PID
            else self._verdicts(task, finding, open_rules)
            for task in report.tasks
        ]
        likely = rank_tasks(report.tasks, [found[0].value for found in verdicts], total, era)
        of_pid = {task.pid: found for task, found in zip(report.tasks, verdicts, strict=True)}
        replayed = tuple(Replayed(place, of_pid[place.task.pid]) for place in likely)
        victims = _asking(replayed, finding) or self._victims(replayed, finding)
        return Backtest(_result(victims, finding), victims, replayed, tuple(open_rules.values()))

    def _verdicts(self, task: Task, finding: Finding, open_rules: dict[int, Rule]) -> tuple[Verdict, ...]:
        """Return the possible values under the policy, the first rule's first."""
        facts = _facts(task, finding)
        own = task.oom_score_adj
        found: list[Verdict] = []
        for rule in self._matcher.candidates(facts.comm):
            is_met, is_certain = _is_met(rule, facts)
            if not is_met:
                continue
            trusted = _is_trusted(rule, facts, own, self._first_person_uid)
            if trusted is False:
                continue
            found.append(Verdict(rule.terms.value.wanted(own), rule))
            if is_certain and trusted:
                return tuple(found)
            open_rules[rule.number] = rule
        return (*found, Verdict(own))

    def _victims(self, replayed: tuple[Replayed, ...], finding: Finding) -> tuple[Replayed, ...]:
        """Return the processes that may have been killed: those whose highest badness may be the highest."""
        bounds = [_bounds(one, finding) for one in replayed]
        certain = max((low for low, _ in bounds if low is not None), default=None)
        likely = [one for one in replayed if one.place.place == 1]
        possible = [
            one
            for one, (_, high) in zip(replayed, bounds, strict=True)
            if high is not None and (certain is None or high >= certain) and one not in likely
        ]
        # A certain process has one badness; others can be as high only if they are open themselves.
        return tuple(likely + [one for one in possible if _is_open(one) or _is_open(likely[0])])


def _asking(replayed: tuple[Replayed, ...], finding: Finding) -> tuple[Replayed, ...]:
    """Return the victim if the kernel kills the process that asks for memory: then only immunity matters."""
    victim = finding.victim
    if finding.why != "allocating" or victim is None:
        return ()
    own = [one for one in replayed if one.place.task.pid == victim.task.pid]
    return () if any(verdict.value == IMMUNE for verdict in own[0].verdicts) else tuple(own)


def _bounds(one: Replayed, finding: Finding) -> tuple[int | None, int | None]:
    """Return the lowest and the highest possible badness of a process; None is never chosen."""
    era, total = finding.era, finding.total_pages
    assert era is not None
    assert total is not None
    if one.place.task.pid == INIT_PID:
        return None, None
    points = [task_badness(one.place.task, verdict.value, total, era) for verdict in one.verdicts]
    known = [number for number in points if number is not None and (number or era.least is None)]
    if not known:
        return None, None
    return (None if len(known) < len(points) else min(known)), max(known)


def _is_open(one: Replayed) -> bool:
    return len({verdict.value for verdict in one.verdicts}) > 1


def _result(victims: tuple[Replayed, ...], finding: Finding) -> Result:
    """Return what a policy changes: against the kernel's choice, or the first by this calculation."""
    if not victims:
        return "nobody"
    if len(victims) > 1:
        return "open"
    pid, report = victims[0].place.task.pid, finding.report
    unchanged = {one.task.pid for one in finding.ranked if one.place == 1}
    unchanged |= {one.pid for one in (report.victim, report.chosen) if one is not None}
    if report.group:  # whichever of it the kernel chooses, all of it is killed
        unchanged |= {one.pid for one in report.kills}
    return "same" if pid in unchanged else "other"


def _facts(task: Task, finding: Finding) -> _Recorded:
    report = finding.report
    victim = report.victim
    if victim is not None and victim.pid == task.pid and report.task_memcg:
        return _Recorded(task, cgroup=report.task_memcg, is_exact=True)
    # Every candidate was in the cgroup that reached its limit, or below it.
    return _Recorded(task, cgroup=report.oom_memcg, is_exact=False)


def _is_met(rule: Rule, facts: _Recorded) -> tuple[bool, bool]:
    """Return whether a rule may match, and whether that is certain."""
    terms = rule.terms
    is_certain = terms.scope == "all"
    if not facts.is_exact and (terms.cgroups or terms.user_units):
        rule = rule._replace(terms=terms._replace(cgroups=(), user_units=()))
        is_certain = False
    try:
        return first_unmet(rule, facts) is None, is_certain
    except _UnrecordedError:
        return True, False


def _is_trusted(rule: Rule, facts: _Recorded, own: int, first_person_uid: int) -> bool | None:
    """Return whether trust allows a rule to set its value; None if unknown."""
    try:
        refusal = trust_refusal(rule, facts, own=own, first_person_uid=first_person_uid)
    except _UnrecordedError:
        return None
    return refusal is None
