"""Why the kernel chose that process: the decision behind a report of the OOM killer, computed again.

The kernel prints its input, but neither its sums nor its reasons. What a report leaves out is assumed, and
listed as such.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.oom.badness import (
    CURRENT,
    IMMUNE,
    CgroupLimits,
    Era,
    Usage,
    adj_pages,
    badness,
    cgroup_pages,
    era_of,
    kill_order,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomguard.oom.kill import Constraint
    from oomguard.oom.report import Report, Task

Why = Literal["highest", "child", "allocating", "sysrq", "lower", "unknown"]
"""Why the victim: the highest badness; a child of the highest; it asked for memory; somebody pressed SysRq-f;
another process was higher, by this calculation; or the report does not show it."""

INIT = 1
_PER_MILLE = 1000


class Place(NamedTuple):
    """A task in the kill order, from 1; place and badness are None for a task that is never killed."""

    task: "Task"
    place: int | None
    badness: int | None

    @property
    def pages(self) -> int:
        """What it used: RAM, swap and page tables."""
        return self.task.rss + self.task.swap + self.task.page_tables


class Finding(NamedTuple):
    """A report, and what follows from it.

    `era` is None if the kernel is older than the formula; then nothing is ranked. `total_pages` is the memory
    that ran out, None if unknown. `ranked` is in kill order. `runner_up` would have been killed in the
    victim's place, `largest` if all values had been 0.
    """

    report: "Report"
    constraint: "Constraint | None"
    era: Era | None
    total_pages: int | None
    ranked: tuple[Place, ...] = ()
    victim: Place | None = None
    runner_up: Place | None = None
    largest: Place | None = None
    why: Why = "unknown"
    assumed: tuple[str, ...] = ()

    @property
    def point_pages(self) -> int | None:
        """The weight of one point of `oom_score_adj`."""
        return None if self.total_pages is None else adj_pages(self.total_pages)


def examine(report: "Report") -> Finding:
    """Compute a report's decision again."""
    assumed: list[str] = []
    constraint = _constraint(report)
    era = _era(report, assumed)
    total = None if era is None else _total_pages(report, constraint, era, assumed)
    finding = Finding(report, constraint, era, total)
    if era is None or total is None:
        return finding._replace(
            victim=_victim([Place(task, None, None) for task in report.tasks], report),
            why=_plain_reason(report) or "unknown",
            assumed=tuple(assumed),
        )
    if era.root_bonus != "none" and any(task.uid == 0 for task in report.tasks):
        assumed.append("processes of uid 0 have CAP_SYS_ADMIN, which lowers badness on this kernel")
    if report.tasks and not {"swapents", "swap"} & set(report.columns):
        assumed.append("no process used swap (the task table does not show it)")
    ranked = rank_tasks(report.tasks, [task.oom_score_adj for task in report.tasks], total, era)
    victim = _victim(ranked, report)
    by_memory = rank_tasks(report.tasks, [_kept(task) for task in report.tasks], total, era)
    others = [
        one for one in ranked if one.place is not None and (victim is None or one.task is not victim.task)
    ]
    return finding._replace(
        ranked=tuple(ranked),
        victim=victim,
        runner_up=others[0] if others else None,
        largest=next((one for one in by_memory if one.place == 1), None),
        why=_plain_reason(report) or _reason(victim),
        assumed=tuple(assumed),
    )


def rank_tasks(tasks: "Sequence[Task]", values: "Sequence[int]", total_pages: int, era: Era) -> list[Place]:
    """Return the tasks with these values in kill order, those that are never killed last."""
    points = [
        None if task.pid == INIT else task_badness(task, value, total_pages, era)
        for task, value in zip(tasks, values, strict=True)
    ]
    order = kill_order(points, era=era)
    first = [Place(tasks[at], place, points[at]) for place, at in enumerate(order, 1)]
    spared = set(range(len(tasks))).difference(order)
    return first + [Place(tasks[at], None, points[at]) for at in sorted(spared)]


def task_badness(task: "Task", value: int, total_pages: int, era: Era) -> int | None:
    """Return the badness that a row of the task table has with that `oom_score_adj`."""
    usage = Usage(task.rss, task.swap, task.page_tables)
    is_admin = task.uid == 0 and era.root_bonus != "none"
    return badness(usage, value, total_pages, era=era, is_admin=is_admin)


def share_of(points: int, finding: Finding) -> float:
    """Return a badness as a part of the memory that ran out in a report."""
    return share(points, finding.total_pages or 0, finding.era or CURRENT)


def _kept(task: "Task") -> int:
    """Return the value of a task when all values are set to 0: only immunity remains."""
    return IMMUNE if task.oom_score_adj == IMMUNE else 0


def _constraint(report: "Report") -> "Constraint | None":
    if report.constraint is not None:
        return report.constraint
    messages = [kill.message for kill in report.kills]
    if report.memory.cgroup or any(message.startswith("Memory cgroup") for message in messages):
        return "memcg"
    if report.memory.ram_pages is not None or any(messages) or report.ending:
        return "none"
    return None


def _era(report: "Report", assumed: list[str]) -> Era | None:
    if report.release:
        return era_of(report.release)
    if report.has_oom_adj:
        return None
    victim = report.victim
    if victim is not None and victim.oom_score_adj is not None:
        return CURRENT  # since 5.4, and the formula moved once since then
    release = _oldest_release(report)
    if release:
        assumed.append(f"Linux {release} or later (the report does not show the release)")
        return era_of(release)
    return CURRENT if report.context else None


def _oldest_release(report: "Report") -> str:
    """Return the first kernel that prints what the report has."""
    victim = report.victim
    if victim is not None and victim.message:
        return "5.1"
    for column, release in (
        ("rss_anon", "6.8"),
        ("pgtables_bytes", "4.15"),
        ("nr_pmds", "4.1"),
        ("nr_ptes", "3.14"),
        ("oom_score_adj", "2.6.39"),
    ):
        if column in report.columns:
            return release
    return ""


def _total_pages(
    report: "Report", constraint: "Constraint | None", era: Era, assumed: list[str]
) -> int | None:
    memory = report.memory
    swap = (memory.swap_total_kib or 0) // memory.page_kib
    if constraint == "memcg":
        return _limit_pages(report, assumed)
    if constraint in ("cpuset", "memory-policy"):
        nodes = _node_numbers(report.nodes)
        kib = sum(amount for node, amount in memory.nodes_kib.items() if node in nodes)
        return kib // memory.page_kib + swap if kib else None
    if memory.total_pages is not None:
        if memory.swap_total_kib is None:
            assumed.append("there was no swap (the report does not show it)")
        return memory.total_pages + swap
    return _pages_by_score(report, era, assumed)


def _limit_pages(report: "Report", assumed: list[str]) -> int | None:
    amounts = report.memory.cgroup
    memory = amounts.get("memory")
    if memory is None:
        return None
    page_kib = report.memory.page_kib
    both, swap = amounts.get("memory+swap"), amounts.get("swap")
    limit = memory.limit_kib
    if limit is None:
        if both is None or both.limit_kib is None:
            return None
        limit = both.limit_kib
    uses_swap = any(task.swap for task in report.tasks)
    swap_limit = None if swap is None else swap.limit_kib
    if both is not None:
        swap_limit = None if both.limit_kib is None else max(both.limit_kib - limit, 0)
    if swap_limit is None:
        if uses_swap:
            assumed.append("the cgroup's swap limit is what its processes use (the report does not show it)")
            swap_limit = sum(task.swap for task in report.tasks) * page_kib
        else:
            swap_limit = 0
    limits = CgroupLimits(limit * 1024, swap_limit * 1024)
    return cgroup_pages(limits, swap_total_kib=swap_limit, is_v2=True, page_kib=page_kib)


def _pages_by_score(report: "Report", era: Era, assumed: list[str]) -> int | None:
    """Compute it from the score that kernels printed before 5.1, which is in thousandths."""
    choice = report.choice
    if choice is None or choice.score <= 0:
        return None
    task = next((one for one in report.tasks if one.pid == choice.pid), None)
    if task is None or task.oom_score_adj != 0:
        return None
    points = task_badness(task, 0, _PER_MILLE, era._replace(is_per_mille=False))
    assumed.append("the size of memory follows from the score (the report does not show it)")
    return None if points is None else points * _PER_MILLE // choice.score


def _node_numbers(nodes: str) -> set[int]:
    """Parse a list of memory nodes, `0-1,3`."""
    found: set[int] = set()
    for part in nodes.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last.isdecimal() or not last):
            found.update(range(int(first), min(int(last or first), int(first) + 1024) + 1))
    return found


def _victim(ranked: "Sequence[Place]", report: "Report") -> Place | None:
    victim = report.victim
    if victim is None:
        return None
    return next((one for one in ranked if one.task.pid == victim.pid), None)


def _plain_reason(report: "Report") -> Why | None:
    """Return the reason that the report says itself."""
    victim = report.victim
    if victim is None:
        return "unknown"
    if "oom_kill_allocating_task" in victim.message:
        return "allocating"
    if report.choice is not None and report.choice.pid != victim.pid:
        return "child"
    if report.invoker is not None and report.invoker.is_sysrq:
        return "sysrq"
    return None


def _reason(victim: Place | None) -> Why:
    if victim is None:
        return "unknown"
    return "highest" if victim.place == 1 else "lower"
