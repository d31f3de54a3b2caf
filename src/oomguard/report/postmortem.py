"""A report of the OOM killer in plain words."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from oomguard.core.sample import Sample
from oomguard.core.text import counted, kib, legible, printable, some_of
from oomguard.oom.backtest import Backtest, Replayed
from oomguard.oom.badness import IMMUNE
from oomguard.oom.kill import Kill
from oomguard.oom.log_reader import OomLog
from oomguard.oom.other_killer import NAMELESS, OtherKill
from oomguard.oom.postmortem import Finding, Place
from oomguard.oom.report import Choice, Report, Task
from oomguard.report.cgroup_title import cgroup_title
from oomguard.report.kill_entries import memory_nodes
from oomguard.report.postmortem_before import course_of
from oomguard.report.postmortem_memory import memory_of

_OTHERS = 5
_DAY = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d")


class ValueOrigin(NamedTuple):
    """The journal's entry about the victim's value: oomguard set it, for that rule."""

    value: str
    rule: str
    source: str
    when: str


class Incident(NamedTuple):
    """A report and everything known about it; `number` counts from 1 in the order of the log."""

    number: int
    finding: Finding
    origin: ValueOrigin | None = None
    backtest: Backtest | None = None
    policy: str = ""
    """The policy that `backtest` used, "" without one."""
    before: Sequence[Sample] = ()
    """What the flight recorder has about the minutes before."""

    @property
    def replayed(self) -> dict[int, Replayed]:
        """The candidates under that policy, by pid."""
        return {} if self.backtest is None else {one.place.task.pid: one for one in self.backtest.replayed}


class Fact(NamedTuple):
    """A paragraph about a report, and its topic in one word."""

    label: str
    text: str


def headline(finding: Finding) -> str:
    """Return which process was killed and why, as a sentence."""
    report, reason = finding.report, _reason(finding)
    if report.other is not None:
        return _other_headline(report.other)
    if report.victim is not None:
        others = len(report.kills) - 1
        verb = f"and {others} more were" if others else "was"
        return f"{label(report.victim)} {verb} killed: {reason}."
    if "panic" in report.ending:
        return f"The kernel panicked: {reason}."
    if "no killable" in report.ending:
        return f"No process could be killed: {reason}."
    if "already exiting" in report.ending:
        return f"No process was killed, because one was already exiting: {reason}."
    if report.chosen is not None:
        return f"{label(report.chosen)} was chosen: {reason}; the line about its kill is missing."
    return f"{reason[0].upper()}{reason[1:]}; the log does not show which process was killed."


def _other_headline(other: OtherKill) -> str:
    victim = killed_by_other(other)
    if other.is_kernels:
        victim = victim if other.kill is not None or victim == NAMELESS else f"a process of {victim}"
        killers, whose = "The OOM killer", "the kernel's"
        if other.or_by:
            killers, whose = f"{killers} or {other.or_by}", "their"
        return f"{killers} killed {victim}, says {other.by}; {whose} report is missing."
    return f"Not the kernel: {other.by} killed {victim} for {other.why}."


def killed_by_other(other: OtherKill) -> str:
    """Return what another program says was killed: a cgroup by its short name, or in its words."""
    return cgroup_title(other.victim) if "/" in other.victim else legible(other.victim)


def brief(incident: Incident) -> str:
    """Return when and where, for a report of nothing but a kill, and the facts about the victim."""
    return "; ".join(filter(None, (circumstances(incident.finding.report), *_victim(incident))))


def circumstances(report: Report) -> str:
    """Return when and where it was, as far as the log says."""
    host = f"host {printable(report.host)}" if report.host else ""
    release = f"Linux {printable(report.release)}" if report.release else ""
    return ", ".join(filter(None, (moment(report), host, release)))


def moment(report: Report) -> str:
    """Return when it was, as far as the log says."""
    if report.when:
        return _written(report.when)
    return "" if report.uptime_seconds is None else f"{report.uptime_seconds:.3f} s after boot"


@lru_cache(64)  # a storm has thousands in a second
def _written(when: str) -> str:
    time = _time(when)
    return printable(when) if time is None else time.strftime("%Y-%m-%d %H:%M:%S")


def short_moment(report: Report) -> str:
    """Return when it was without the year, for a table."""
    time = _time(report.when)
    if time is not None:
        return time.strftime("%m-%d %H:%M:%S")
    if report.when:
        day = _DAY.search(report.when)
        return day[0] if day is not None else printable(report.when)
    return "" if report.uptime_seconds is None else f"boot + {report.uptime_seconds:.0f} s"


def _time(when: str) -> datetime | None:
    """Read seconds since 1970 as local time, and ISO 8601 as it is."""
    try:
        return datetime.fromtimestamp(float(when)).astimezone()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return datetime.fromisoformat(when)
    except ValueError:
        return None


def _reason(finding: Finding) -> str:
    """Return why the kernel killed: which memory ran out."""
    report = finding.report
    if report.is_sysrq:
        return "SysRq-f asked for it (a key, or /proc/sysrq-trigger)"
    match finding.constraint:
        case "memcg":
            return f"{_cgroup(report.oom_memcg)} reached its limit{_limit(report)}"
        case "cpuset":
            return f"{memory_nodes(report.nodes)} of its cpuset ran out of memory"
        case "memory-policy":
            return f"{memory_nodes(report.nodes)} of its memory policy ran out of memory"
        case "none":
            return "the host ran out of memory"
        case None:
            return "memory ran out"


def _limit(report: Report) -> str:
    reached = report.memory.reached
    amount = report.memory.cgroup.get(reached)
    if amount is None or amount.limit_kib is None:
        return ""
    return f" of {kib(amount.limit_kib)}{_OF_LIMITS.get(reached, '')}"


_OF_LIMITS = {"memory+swap": " for memory and swap", "kmem": " for the kernel's memory"}
"""What the other limits of cgroups of version 1 are for."""


def _cgroup(path: str) -> str:
    """Return a cgroup in the middle of a sentence."""
    if not path:
        return "a memory cgroup"
    title = cgroup_title(path)
    return f"cgroup {title}" if title[0] in "/…" else title


def paths(report: Report) -> Iterator[Fact]:
    """Yield the paths of the cgroups of which only a short name is in a sentence."""
    oom, task = report.oom_memcg, report.task_memcg
    if report.other is not None:
        return
    if not (oom or task):
        return
    if not task.startswith(oom) and cgroup_title(oom) != oom:
        yield Fact("Limit", legible(oom))
    if cgroup_title(task or oom) != (task or oom):
        yield Fact("Cgroup", legible(task or oom))


def left_out(log: OomLog) -> Iterator[str]:
    """Yield what of a log is in no report: refused allocations, and lines that were skipped."""
    if log.refusals:
        yield (
            f"{counted(log.refusals, 'allocation')} failed because of vm.overcommit_memory. The kernel"
            " killed no process for this."
        )
    if log.skipped:
        yield (
            f"{counted(log.skipped, 'line')} skipped: too long for a kernel log, or too many short ones"
            " that mention memory."
        )


def label(one: Kill | Task | Choice) -> str:
    """Return `postgres[356]`."""
    return f"{printable(one.comm)}[{one.pid}]"


def candidates(finding: Finding) -> Sequence[Place]:
    """Return the tasks of a report in kill order; if that is unknown, the largest first."""
    unranked = (Place(task, None, None) for task in finding.report.tasks)
    return finding.ranked or sorted(unranked, key=lambda one: one.pages, reverse=True)


def listed(incident: Incident, limit: int) -> tuple[list[Place], int]:
    """Return the first candidates and those that were killed, and how many more there are; 0 lists all."""
    places, killed = candidates(incident.finding), {kill.pid for kill in incident.finding.report.kills}
    shown = [one for at, one in enumerate(places) if not limit or at < limit or one.task.pid in killed]
    return shown, len(places) - len(shown)


def facts(incident: Incident) -> Iterator[Fact]:
    """Yield why, which process was next, and the facts about the victim and memory."""
    report = incident.finding.report
    if report.other is not None:
        yield Fact("Words", printable(report.other.said))
        yield from (Fact("Before", text) for text in course_of(report, incident.before))
        return
    for name, sentences, between in _FACTS_OF_A_LINE if incident.finding.is_bare else _FACTS:
        if text := between.join(sentences(incident)):
            yield Fact(name, text)


# Why that process, and which one was next


def _why(incident: Incident) -> Iterator[str]:
    finding = incident.finding
    report, victim, total = finding.report, finding.victim, finding.total_pages
    if report.victim is None:
        if report.ending:
            yield f"The kernel printed: {printable(report.ending.rstrip('.'))}."
    elif finding.why == "allocating":
        yield "vm.oom_kill_allocating_task is set: the kernel kills the process that asks for memory."
    elif finding.why == "child":
        assert report.choice is not None
        yield f"The kernel chose {label(report.choice)}. Before Linux 5.1 it then kills one of its children."
    elif victim is None or (total is None and not finding.ranked):
        if report.choice is not None:
            yield f"The kernel computed a score of {report.choice.score} for it."
    elif victim.badness is None:
        yield "By this calculation it could not be chosen: the report does not show what the kernel compared."
    else:
        yield _sum(victim, finding)
        if finding.why == "lower":
            first = finding.ranked[0]
            assert first.badness is not None
            more = _points(first.badness - victim.badness, finding)
            yield (
                f"By this calculation the badness of {label(first.task)} was {more} higher. The kernel prints"
                " the table after it chose, and skips processes in vfork, about to exit, or killed before."
            )


def _sum(place: Place, finding: Finding) -> str:
    """Return a badness as the sum that it is."""
    page, task = finding.report.memory.page_kib, place.task
    assert place.badness is not None
    parts = [f"{kib(task.rss * page)} in RAM"]
    if task.swap:
        parts.append(f"{kib(task.swap * page)} in swap")
    if finding.era is not None and finding.era.counts_page_tables:
        parts.append(f"{kib(task.page_tables * page)} of page tables")
    value, unit = "", "page"
    if finding.era is not None and finding.era.is_per_mille:
        value, unit = ", oom_score_adj included" if task.oom_score_adj else "", "thousandth"
    elif task.oom_score_adj:
        sign = "-" if task.oom_score_adj < 0 else "+"
        point = kib((finding.point_pages or 0) * page)
        value = f" {sign} {abs(task.oom_score_adj)} × {point} for its oom_score_adj"
    if finding.era is not None and place.badness == finding.era.least and task.oom_score_adj < 0:
        value = f"{value}, but at least one {unit}"
    verb = "Its badness was" if finding.why == "lower" else "It had the highest badness,"
    return f"{verb} {_points(place.badness, finding)}: {' + '.join(parts)}{value}."


def _points(badness: int, finding: Finding) -> str:
    """Return a badness, or a difference, in the unit that the kernel uses."""
    if finding.era is not None and finding.era.is_per_mille:
        return f"{badness} thousandths of memory"
    return size(badness, finding)


def _next(incident: Incident) -> Iterator[str]:
    finding = incident.finding
    victim, runner_up, largest = finding.victim, finding.runner_up, finding.largest
    if finding.why not in ("highest", "sysrq") or victim is None or victim.badness is None:
        return
    if runner_up is None:
        yield "No other process could be killed."
        return
    assert runner_up.badness is not None
    held, value = size(runner_up.pages, finding), runner_up.task.oom_score_adj
    less = victim.badness - runner_up.badness
    than = f"{_points(less, finding)} lower" if less else "the same"
    yield f"{label(runner_up.task)} ({held}, oom_score_adj {value}): its badness was {than}."
    decider = finding.decider
    if largest is None:
        return
    if decider is None:
        if largest.task.pid != victim.task.pid:  # but of its group
            yield "Without oom_score_adj, the same processes would have been killed."
        elif any(one.task.oom_score_adj == IMMUNE and one.pages > victim.pages for one in finding.ranked):
            yield "Only processes with oom_score_adj -1000, which are never killed, used more."
        elif any(one.task.oom_score_adj for one in finding.ranked):
            yield "Without oom_score_adj, the same process would have been killed."
    elif decider.task.pid == victim.task.pid:
        is_next = largest.task.pid == runner_up.task.pid
        instead = "it" if is_next else f"{label(largest.task)} ({size(largest.pages, finding)})"
        yield f"Without oom_score_adj, {instead} would have been killed instead."
    else:
        has = ""
        if largest.task.pid != runner_up.task.pid:
            has = f"{label(largest.task)} ({size(largest.pages, finding)}) has oom_score_adj"
            has = f"{has} {largest.task.oom_score_adj}; "
        yield f"{has}{'with' if has else 'With'} 0 it would have been killed instead."


def size(pages: int, finding: Finding) -> str:
    """Return how much memory pages of the report's host are."""
    return kib(pages * finding.report.memory.page_kib)


# The victim


def _victim(incident: Incident) -> Iterator[str]:
    report, place = incident.finding.report, incident.finding.victim
    victim = report.victim
    if victim is None:
        return
    parts = []
    where = "" if report.task_memcg in ("", "/", report.oom_memcg) else _cgroup(report.task_memcg)
    if victim.uid is not None and not where.endswith(f"(uid {victim.uid})"):
        parts.append(f"uid {victim.uid}")
    if where:
        parts.append(where)
    rss_kib = victim.rss_kib if place is None or place.badness is None else None  # in its badness
    if rss_kib is not None:
        parts.append(f"{kib(rss_kib)} in RAM")
        parts += [f"{kib(place.task.swap * report.memory.page_kib)} in swap"] if place is not None else []
    value = value_of_victim(incident.finding)
    if value is not None:
        parts.append(f"{'oom_adj' if report.has_oom_adj else 'oom_score_adj'} {value}")
    if parts:
        yield f"{', '.join(parts)}."
    if incident.origin is not None:
        yield origin_of(incident.origin)


def origin_of(origin: ValueOrigin) -> str:
    """Return which rule set the victim's value, as a sentence."""
    return f"oomguard set {origin.value} at {origin.when}, for {origin.rule} ({origin.source})."


def value_of_victim(finding: Finding) -> int | None:
    """Return the value of the first process that was killed, None if the report lacks it."""
    victim = finding.report.victim
    if victim is not None and victim.oom_score_adj is not None:
        return victim.oom_score_adj
    return None if finding.victim is None else finding.victim.task.oom_score_adj


def _also(incident: Incident) -> Iterator[str]:
    report = incident.finding.report
    others = report.kills[1:]
    if others:
        yield f"The kernel also killed {some_of([*map(label, others)], _OTHERS)}."
    if report.group:
        yield f"memory.oom.group is set on {_cgroup(report.group)}: the kernel kills all of its processes."


# Another policy, and what is unknown


def _replayed(incident: Incident) -> Iterator[str]:
    if not incident.policy:
        return
    report, policy, backtest = incident.finding.report, printable(incident.policy), incident.backtest
    if backtest is None:
        yield f"Under {policy}: unknown, because the report has no task table or not the size of memory."
        return
    if not backtest.victims:
        yield f"Under {policy}, no process could have been killed."
        return
    names = [_would(one) for one in backtest.victims[:_OTHERS]]
    if len(backtest.victims) > _OTHERS:
        names.append(f"one of {len(backtest.victims) - _OTHERS} more")
    would = "would have been chosen" if incident.finding.why == "child" else "would have been killed"
    if report.chosen is None and report.victim is None:
        yield f"Under {policy}, first in the kill order would be {' or '.join(names)}."
    elif backtest.result == "same":
        same = f"processes {would}, first" if report.group else f"process {would}:"
        yield f"Under {policy}, the same {same} {names[0]}."
    elif backtest.result == "other":
        yield f"Under {policy}, {names[0]} {would} instead."
    else:
        rules = some_of([f"{rule.label} ({rule.source})" for rule in backtest.open_rules], _OTHERS)
        yield f"Under {policy}, {' or '.join(names)} {would}."
        yield f"The report does not show whether these rules match: {legible(rules)}."


def _would(one: Replayed) -> str:
    rule = "no rule" if one.likely.rule is None else one.likely.rule.label
    return f"{label(one.place.task)} (oom_score_adj {one.likely.value}, {rule})"


def value_of(task: Task, replayed: Replayed | None) -> str:
    """Return a process's value, and the policy's: `0→500`, or `0→500?` if the report leaves that open."""
    values = {task.oom_score_adj} if replayed is None else {one.value for one in replayed.verdicts}
    if replayed is None or values == {task.oom_score_adj}:
        return str(task.oom_score_adj)
    return f"{task.oom_score_adj}→{replayed.likely.value}{'?' if len(values) > 1 else ''}"


def _missing(incident: Incident) -> Iterator[str]:
    """Yield what the report lacks."""
    finding, report = incident.finding, incident.finding.report
    if report.is_mixed:
        yield "whatever is not certain: lines of two reports may be mixed here"
        if not report.tasks:
            return
    elif report.invoker is None:
        yield "the beginning, which shows what asked for memory"
    if not report.tasks:
        table = "the task table (cut off, rate-limited, or vm.oom_dump_tasks is 0)"
        yield table if not report.columns else "the rows of the task table"
    elif finding.era is None:
        yield "the order, because kernels before 2.6.36 used another formula"
    elif finding.total_pages is None:
        yield "the size of memory" + ("" if finding.ranked else ", so processes are not ranked")
    if report.rows_left_out:
        rows = counted(report.rows_left_out, "row")
        yield f"{rows} of the task table after the first {len(report.tasks):,}"
    if report.rows_unread:
        yield f"{counted(report.rows_unread, 'row')} of the task table, garbled: the order may be wrong"
    if report.suppressed:
        yield (
            f"{counted(report.suppressed, 'report')} before this one, because the kernel prints at most"
            " ten in five seconds"
        )


_FACTS: Sequence[tuple[str, Callable[[Incident], Iterable[str]], str]] = (
    ("Why", _why, " "),
    ("Next", _next, " "),
    ("Victim", _victim, " "),
    ("Also", _also, " "),
    ("Memory", lambda one: memory_of(one.finding), " "),
    ("Before", lambda one: course_of(one.finding.report, one.before) if one.before else (), " "),
    ("Policy", _replayed, " "),
    ("Missing", _missing, "; "),
    ("Assumed", lambda one: one.finding.assumed, "; "),
)
"""How the sentences of each fact are joined."""
_FACTS_OF_A_LINE = [one for one in _FACTS if one[0] in ("Why", "Victim", "Before", "Policy", "Missing")]
"""Those that a report may have of which the log has only the line of a kill."""
