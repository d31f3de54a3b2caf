"""A report of the OOM killer in plain words."""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.badness import IMMUNE
from oomguard.core.commit import kib
from oomguard.core.policy import counted
from oomguard.core.postmortem import Place
from oomguard.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.core.backtest import Backtest, Replayed
    from oomguard.core.oom_kill import Kill
    from oomguard.core.oom_report import Report, Task
    from oomguard.core.postmortem import Finding

_OTHERS = 5
_CONTIGUOUS_ORDER = 2
"""From here on what was asked for is in one piece that may be lacking with much memory free."""


class Gift(NamedTuple):
    """What the journal says of the value that the victim had: oomguard gave it, by that rule."""

    value: str
    rule: str
    source: str
    when: str


class Told(NamedTuple):
    """A report with all there is to tell of it; `number` counts from 1 in the order of the log."""

    number: int
    finding: "Finding"
    gift: Gift | None = None
    backtest: "Backtest | None" = None
    policy: str = ""
    """The policy that `backtest` is about, "" without one."""


def title(told: Told) -> str:
    """Return what happened in one line."""
    report = told.finding.report
    host = f"{printable(report.host)}:" if report.host else ""
    what = f"{ran_out(told.finding)}: {outcome(report)}"
    return "  ".join(filter(None, (f"#{told.number}", moment(report), f"{host} {what}".strip())))


def moment(report: "Report") -> str:
    """Return when it was, as far as the log says."""
    if report.when:
        try:
            time = datetime.fromtimestamp(float(report.when)).astimezone()
        except (ValueError, OverflowError, OSError):
            return printable(report.when)
        return time.strftime("%Y-%m-%d %H:%M:%S")
    return "" if report.uptime_seconds is None else f"{report.uptime_seconds:.3f} s after boot"


def ran_out(finding: "Finding") -> str:
    """Return whose memory ran out."""
    report = finding.report
    match finding.constraint:
        case "memcg":
            return f"{_cgroup(report.oom_memcg)} was out of memory"
        case "cpuset":
            return (
                f"the memory nodes of its cpuset ({printable(report.nodes) or 'unknown'}) were out of memory"
            )
        case "memory-policy":
            return (
                f"the memory nodes of its policy ({printable(report.nodes) or 'unknown'}) were out of memory"
            )
        case "none":
            return "the host was out of memory"
        case None:
            return "out of memory"


def outcome(report: "Report") -> str:
    """Return what the kernel did."""
    if report.victim is not None:
        others = len(report.kills) - 1
        more = f" and {others} more" if others else ""
        return f"the kernel killed {label(report.victim)}{more}"
    if "panic" in report.ending:
        return "the kernel panicked"
    if "no killable" in report.ending:
        return "nobody was left to be killed"
    if "already exiting" in report.ending:
        return "nobody was killed, one was about to exit"
    return "the log does not say who died"


def label(one: "Kill | Task") -> str:
    """Return `postgres[356]`."""
    return f"{printable(one.comm)}[{one.pid}]"


def unranked(report: "Report") -> "list[Place]":
    """Return the tasks of a report whose order cannot be told, those that held most first."""
    return sorted((Place(task, None, None) for task in report.tasks), key=lambda one: one.pages, reverse=True)


def prose(told: Told) -> "Iterator[str]":
    """Yield what happened and why, a paragraph a line."""
    finding = told.finding
    yield " ".join(_circumstances(finding))
    if finding.report.victim is not None:
        yield " ".join(_victims(told))
    elif finding.report.ending:
        yield f"The kernel said: {printable(finding.report.ending)}."
    if told.policy:
        yield _replayed(told)
    doubts = list(_doubts(finding))
    if doubts:
        yield f"Not in the report, or assumed: {'; '.join(doubts)}."


def _circumstances(finding: "Finding") -> "Iterator[str]":
    report, page = finding.report, finding.report.memory.page_kib
    invoker = report.invoker
    if invoker is not None and invoker.is_sysrq:
        yield "Somebody pressed SysRq-f."
    elif invoker is not None:
        who = printable(invoker.comm) or "A process"
        who = f"{who}[{invoker.pid}]" if invoker.pid is not None else who
        yield f"{who} asked for {kib(page << min(max(invoker.order, 0), 20))} that could not be had."
    memory = report.memory
    if finding.constraint == "memcg":
        yield from _cgroup_memory(finding)
    elif memory.total_pages is not None:
        free = memory.pages.get("free")
        sentence = f"The host has {kib(memory.total_pages * page)} of RAM"
        if free is not None:
            sentence += f", {kib(free * page)} of it free"
        yield f"{sentence}, and {_swap(finding)}."
        yield from _use(finding)
        if invoker is not None and invoker.order >= _CONTIGUOUS_ORDER:
            yield "It had to be contiguous: that can be lacking with much of it free."


def _cgroup_memory(finding: "Finding") -> "Iterator[str]":
    report = finding.report
    memory = report.memory.cgroup.get("memory")
    if memory is None:
        yield "The cgroup was at its limit."
    elif memory.limit_kib is None:
        yield f"The cgroup held {kib(memory.usage_kib)}; the limit it hit was another than that of memory."
    else:
        yield f"The cgroup held {kib(memory.usage_kib)} of the {kib(memory.limit_kib)} it may have."
    yield "Only its own processes could be taken, however much the host had."


def _swap(finding: "Finding") -> str:
    memory = finding.report.memory
    if not memory.swap_total_kib:
        return "no swap"
    total = f"{kib(memory.swap_total_kib)} of swap"
    if memory.swap_free_kib is None:
        return total
    return f"{total}, {kib(memory.swap_free_kib) if memory.swap_free_kib else 'none'} of it free"


def _use(finding: "Finding") -> "Iterator[str]":
    """Yield where the memory was, if not with processes."""
    memory = finding.report.memory
    total, page = memory.total_pages, memory.page_kib
    if not total:
        return
    for counter, what, way_out in (
        ("slab_unreclaimable", "the kernel's own objects (slab)", "`slabtop` shows whose"),
        ("shmem", "shared memory and tmpfs", "killing frees none of it"),
    ):
        pages = memory.pages.get(counter, 0)
        if pages * 4 >= total:
            yield f"{kib(pages * page)} were {what}: {way_out}."


def _victims(told: Told) -> "Iterator[str]":
    finding = told.finding
    report, victim = finding.report, finding.report.victim
    assert victim is not None
    yield f"{label(victim)} died{_at(told)}."
    yield from _why(finding)
    if told.gift is not None:
        gift = told.gift
        yield (
            f"Its value of {gift.value} was given by oomguard at {gift.when} ({gift.rule}, {gift.source})."
        )
    others = report.kills[1:]
    if report.group:
        yield f"memory.oom.group is set on {printable(report.group)}: all of it goes together."
    if others:
        shown = ", ".join(label(one) for one in others[:_OTHERS])
        more = f" and {len(others) - _OTHERS} more" if len(others) > _OTHERS else ""
        yield f"The kernel also killed {shown}{more}."


def _at(told: Told) -> str:
    """Return where the victim lived and what it had."""
    report = told.finding.report
    victim = report.victim
    assert victim is not None
    parts = []
    if victim.uid is not None:
        parts.append(f"uid {victim.uid}")
    if report.task_memcg and report.task_memcg != report.oom_memcg:
        parts.append(f"in {_below(report.task_memcg, report.oom_memcg)}")
    if victim.rss_kib is not None:
        parts.append(f"{kib(victim.rss_kib)} in RAM")
    place = told.finding.victim
    if place is not None and place.task.swap:
        parts.append(f"{kib(place.task.swap * report.memory.page_kib)} in swap")
    value = _value(told.finding)
    if value is not None:
        parts.append(f"{'oom_adj' if report.has_oom_adj else 'oom_score_adj'} {value}")
    return f" ({', '.join(parts)})" if parts else ""


def _value(finding: "Finding") -> int | None:
    victim = finding.report.victim
    if victim is not None and victim.oom_score_adj is not None:
        return victim.oom_score_adj
    return None if finding.victim is None else finding.victim.task.oom_score_adj


def _why(finding: "Finding") -> "Iterator[str]":
    report, victim, total = finding.report, finding.victim, finding.total_pages
    if finding.why == "allocating":
        yield "vm.oom_kill_allocating_task is set: whoever asks is killed, and nothing is compared."
        return
    if finding.why == "child":
        assert report.choice is not None
        chosen = f"{printable(report.choice.comm)}[{report.choice.pid}]"
        yield f"Chosen was {chosen}; kernels before 5.1 then kill a child of the chosen one instead."
        return
    if victim is None or total is None:
        if report.choice is not None:
            yield f"The kernel gave it a score of {report.choice.score}."
        return
    if victim.badness is None or victim.place is None:
        yield "By this reckoning it could not be chosen at all: what the report has is not what was compared."
        return
    yield f"{_sum(victim, finding)}."
    if finding.why == "lower":
        first = finding.ranked[0]
        assert first.badness is not None
        ahead = _points(first.badness - victim.badness, finding)
        yield (
            f"By this reckoning {label(first.task)} was ahead by {ahead}:"
            " the table is printed after the choice, and what was in vfork or about to exit is passed over."
        )
    elif finding.runner_up is None:
        yield "Nobody else could have been taken."
    else:
        yield from _comparison(victim, finding.runner_up, finding)


def _comparison(victim: "Place", next_one: "Place", finding: "Finding") -> "Iterator[str]":
    page = finding.report.memory.page_kib
    assert victim.badness is not None
    assert next_one.badness is not None
    ahead = victim.badness - next_one.badness
    yield (
        f"Next would have been {label(next_one.task)} ({kib(next_one.pages * page)},"
        f" oom_score_adj {next_one.task.oom_score_adj}), behind by {_points(ahead, finding)}."
    )
    largest = finding.largest
    if largest is None:
        return
    if largest.task.pid != victim.task.pid:
        yield (
            f"Its oom_score_adj decided: with 0 for all, {label(largest.task)} would have died,"
            f" which held {kib(largest.pages * page)}."
        )
    elif any(one.task.oom_score_adj == IMMUNE and one.pages > victim.pages for one in finding.ranked):
        yield "Only what has -1000, and is never killed, held more."
    else:
        yield "It held the most, too: with 0 for all it would have been the same."


def _sum(place: "Place", finding: "Finding") -> str:
    """Return a badness as the sum that it is."""
    page, total = finding.report.memory.page_kib, finding.total_pages
    assert place.badness is not None
    assert total is not None
    task = place.task
    parts = [f"{kib(task.rss * page)} in RAM"]
    if task.swap:
        parts.append(f"{kib(task.swap * page)} in swap")
    if finding.era is not None and finding.era.counts_page_tables:
        parts.append(f"{kib(task.page_tables * page)} of page tables")
    held = " + ".join(parts)
    highest = "It had the highest badness: " if finding.why != "lower" else "Its badness: "
    if finding.era is not None and finding.era.is_per_mille:
        return f"{highest}{held}, or {place.badness} thousandths of memory, value included"
    point = finding.point_pages or 0
    sign = "-" if task.oom_score_adj < 0 else "+"
    value = (
        f" {sign} {abs(task.oom_score_adj)} × {kib(point * page)} for its oom_score_adj"
        if task.oom_score_adj
        else ""
    )
    in_all = f"{'' if place.badness >= 0 else '-'}{kib(abs(place.badness) * page)}"
    return f"{highest}{held}{value}, in all {in_all}"


def _points(badness: int, finding: "Finding") -> str:
    """Return a difference of badness in the unit that the kernel reckons in."""
    if finding.era is not None and finding.era.is_per_mille:
        return f"{badness} thousandths"
    return kib(badness * finding.report.memory.page_kib)


def _replayed(told: Told) -> str:
    policy = printable(told.policy)
    backtest = told.backtest
    if backtest is None:
        return (
            f"Under {policy}: cannot be told, the report has no task table or not how much memory there was."
        )
    if not backtest.victims:
        return f"Under {policy} nobody could have been killed."
    names = [_would(one) for one in backtest.victims[:_OTHERS]]
    if len(backtest.victims) > _OTHERS:
        names.append(f"one of {len(backtest.victims) - _OTHERS} more")
    if backtest.result == "same":
        return f"Under {policy} it would have been the same: {names[0]}."
    if backtest.result == "other":
        return f"Under {policy} {names[0]} would have died instead."
    rules = ", ".join(f"{rule.label} ({rule.source})" for rule in backtest.open_rules[:_OTHERS])
    return (
        f"Under {policy} it would have been {' or '.join(names)}: the report does not tell whether"
        f" {printable(rules)} held."
    )


def _would(one: "Replayed") -> str:
    verdict = one.likely
    if verdict.rule is None:
        return f"{label(one.place.task)} (oom_score_adj {verdict.value}, no rule)"
    return f"{label(one.place.task)} (oom_score_adj {verdict.value}, {verdict.rule.label})"


def _doubts(finding: "Finding") -> "Iterator[str]":
    report = finding.report
    if report.invoker is None:
        yield "its beginning, who asked for memory"
    if not report.tasks:
        dumped = "the table of tasks (cut off, rate-limited, or vm.oom_dump_tasks is 0)"
        yield dumped if not report.columns else "the rows of the table of tasks"
    elif finding.era is None:
        yield "how kernels before 2.6.36 chose, which was by another formula"
    elif finding.total_pages is None:
        yield "how much memory there was, so nothing is ranked"
    if report.rows_left_out:
        rows = counted(report.rows_left_out, "row")
        yield f"{rows} of the table of tasks, beyond the {len(report.tasks):,} that are kept"
    if report.suppressed:
        yield f"{counted(report.suppressed, 'report')} before it, as the kernel prints ten in five seconds"
    yield from finding.assumed


def _below(path: str, above: str) -> str:
    """Return a cgroup by what it is below another one, which was named before."""
    inside = path.removeprefix(above) if above not in ("", "/") else path
    return printable(path) if inside == path else f"…{printable(inside)}"


def _cgroup(path: str) -> str:
    return printable(path) if path else "a memory cgroup"
