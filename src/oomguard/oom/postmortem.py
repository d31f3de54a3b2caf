"""Why the kernel chose that process: the decision behind a report of the OOM killer, computed again.

The kernel prints its input, but neither its sums nor its reasons. What a report leaves out is assumed, and
listed as such.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from oomguard.core.choices import Constraint
from oomguard.core.process import INIT_PID
from oomguard.oom.badness import (
    CURRENT,
    IMMUNE,
    Era,
    Usage,
    adj_pages,
    badness,
    era_of,
    kill_order,
    share,
)
from oomguard.oom.draft import NODES_LIMIT
from oomguard.oom.report import Amount, Choice, Invoker, Report, Task

Why = Literal["highest", "child", "allocating", "sysrq", "lower", "unknown"]
"""Why the victim: the highest badness; a child of the highest; it asked for memory; somebody pressed SysRq-f;
another process was higher, by this calculation; or the report does not show it."""

_MESSAGES: dict[str, Constraint] = {
    "Memory cgroup": "memcg",
    "No available memory in cpuset": "cpuset",
    "No available memory (MPOL_BIND)": "memory-policy",
}
"""How the line of a kill or a choice begins if not the whole host ran out."""
_PER_MILLE = 1000
_HARDWALL = 0x20000
"""__GFP_HARDWALL in the masks of kernels that print no names."""


class Place(NamedTuple):
    """A task in the kill order, from 1; place and badness are None for a task that is never killed."""

    task: Task
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
    victim's place, `largest` if all values had been 0; then `decider` is the process whose value prevented
    that. Without `total_pages`, there is an order only if no value matters.
    """

    report: Report
    constraint: Constraint | None
    era: Era | None
    total_pages: int | None
    ranked: tuple[Place, ...] = ()
    victim: Place | None = None
    runner_up: Place | None = None
    largest: Place | None = None
    decider: Place | None = None
    why: Why = "unknown"
    assumed: tuple[str, ...] = ()
    is_bare: bool = False
    """Whether the report is only the line of a kill or of a choice."""

    @property
    def point_pages(self) -> int | None:
        """The weight of one point of `oom_score_adj`."""
        return None if self.total_pages is None else adj_pages(self.total_pages)


def examine(report: Report) -> Finding:
    """Compute a report's decision again."""
    constraint, why = _constraint(report), _plain_reason(report)
    if report.is_bare:
        return Finding(report, constraint, None, None, why=why or "unknown", is_bare=True)
    assumed: list[str] = []
    era = _era(report, assumed)
    total = None if era is None else _total_pages(report, constraint, era, assumed)
    finding = Finding(report, constraint, era, total)
    if not report.tasks or era is None or (total is None and not _is_by_memory_alone(report, era)):
        return finding._replace(
            victim=_victim([Place(task, None, None) for task in report.tasks], report),
            why=why or "unknown",
            assumed=() if total is None else tuple(assumed),
        )
    era = _with_bonus(report, era, total, assumed)
    finding = finding._replace(era=era)
    if not report.memory.knows_page:
        assumed.append("pages of 4 KiB (the report does not show their size)")
    if not {"swapents", "swap"} & set(report.columns):
        assumed.append("no process used swap (the task table does not show it)")
    pages = total or 0
    ranked = rank_tasks(report.tasks, [task.oom_score_adj for task in report.tasks], pages, era)
    ranked = _victim_first(ranked, report)
    victim = _victim(ranked, report)
    by_memory = rank_tasks(report.tasks, [_kept(task) for task in report.tasks], pages, era)
    # With memory.oom.group, whichever of them the kernel chooses, all are killed.
    killed = {kill.pid for kill in report.kills[: None if report.group else 1]}
    others = [one for one in ranked if one.place is not None and one.task.pid not in killed]
    largest = next((one for one in by_memory if one.place == 1), None)
    return finding._replace(
        ranked=tuple(ranked),
        victim=victim,
        runner_up=others[0] if others else None,
        largest=largest,
        decider=None if largest and largest.task.pid in killed else _decider(victim, largest, pages, era),
        why=why or _reason(victim),
        assumed=tuple(assumed),
    )


def _is_by_memory_alone(report: Report, era: Era) -> bool:
    """Return whether the order does not depend on the size of memory: no value but 0 and immunity."""
    return not era.is_per_mille and all(task.oom_score_adj in (0, IMMUNE) for task in report.tasks)


def _with_bonus(report: Report, era: Era, total: int | None, assumed: list[str]) -> Era:
    """Return the formula with the bonus for root if the kernel's own score does not contradict it.

    The report has the uid of a process, but not its capabilities.
    """
    if era.root_bonus == "none":
        return era
    plain, choice = era._replace(root_bonus="none"), report.choice
    task = None if choice is None else next((one for one in report.tasks if one.pid == choice.pid), None)
    if task is not None and task.uid == 0 and total and choice is not None and choice.score is not None:
        scores = []
        for one in (era, plain):
            points = task_badness(task, task.oom_score_adj, total, one) or 0
            scores.append(points if one.is_per_mille else points * _PER_MILLE // total)
        return era if abs(scores[0] - choice.score) <= abs(scores[1] - choice.score) else plain
    values = [one.oom_score_adj for one in report.tasks]
    orders = [rank_tasks(report.tasks, values, total or 0, one)[:2] for one in (era, plain)]
    if [one.task for one in orders[0]] != [one.task for one in orders[1]]:
        assumed.append("processes of uid 0 have CAP_SYS_ADMIN, which lowers badness on this kernel")
    return era


def _decider(victim: Place | None, largest: Place | None, total: int, era: Era) -> Place | None:
    """Return the process whose value made the difference between the victim and the largest; None if none.

    It is the largest only if that would have been killed with 0, and all others with the values they had.
    """
    if victim is None or largest is None or victim.badness is None:
        return None
    assert largest.badness is not None  # as if all values were 0
    without = task_badness(victim.task, 0, total, era)
    ahead = task_badness(largest.task, largest.task.oom_score_adj, total, era)
    is_enough = ahead is None or without is None or without < ahead
    is_victims = victim.task.oom_score_adj > 0 and (is_enough or largest.badness <= victim.badness)
    return victim if is_victims else largest


def rank_tasks(tasks: Sequence[Task], values: Sequence[int], total_pages: int, era: Era) -> list[Place]:
    """Return the tasks with these values in kill order, those that are never killed last."""
    points = [
        None if task.pid == INIT_PID else task_badness(task, value, total_pages, era)
        for task, value in zip(tasks, values, strict=True)
    ]
    order = kill_order(points, era=era)
    first = [Place(tasks[at], place, points[at]) for place, at in enumerate(order, 1)]
    spared = set(range(len(tasks))).difference(order)
    return first + [Place(tasks[at], None, points[at]) for at in sorted(spared)]


def task_badness(task: Task, value: int, total_pages: int, era: Era) -> int | None:
    """Return the badness that a row of the task table has with that `oom_score_adj`."""
    usage = Usage(task.rss, task.swap, task.page_tables)
    return badness(usage, value, total_pages, era=era, is_admin=task.uid == 0)


def share_of(place: Place, finding: Finding) -> float | None:
    """Return a badness as a part of the memory that ran out in a report; None if one of them is unknown."""
    if place.badness is None or finding.total_pages is None:
        return None
    return share(place.badness, finding.total_pages, finding.era or CURRENT)


def _kept(task: Task) -> int:
    """Return the value of a task when all values are set to 0: only immunity remains."""
    return IMMUNE if task.oom_score_adj == IMMUNE else 0


def _constraint(report: Report) -> Constraint | None:
    if report.constraint is not None:
        return report.constraint
    message, ending = report.message.partition(" in UB")[0], report.ending
    if message != report.message:
        return None  # a container of OpenVZ, or the host
    for beginning, constraint in _MESSAGES.items():
        if message.startswith(beginning):
            return constraint
    # With nothing to kill on the whole host, the kernel would panic.
    found_nothing = ending.startswith("Out of memory and no killable") and not report.is_sysrq
    if report.memory.cgroup or "mem_cgroup" in "".join(report.stack) or found_nothing:
        return "memcg"
    if report.context is None and report.invoker is not None and _is_limited(report, report.invoker):
        return "memory-policy" if report.invoker.nodes else "cpuset"
    return "none" if message or ending or report.stack or report.memory.ram_pages is not None else None


def _is_limited(report: Report, invoker: Invoker) -> bool:
    """Return whether an allocation could use only some of the nodes (constrained_alloc)."""
    nodes = _node_numbers(report.nodes)
    if not nodes or not set(report.memory.nodes_kib) - nodes:
        return False
    number, _, names = invoker.gfp_mask.partition("(")
    is_users = "USER" in names or "HARDWALL" in names or (not names and bool(int(number, 16) & _HARDWALL))
    return is_users or bool(invoker.nodes)


def _era(report: Report, assumed: list[str]) -> Era | None:
    if report.release:
        # RHEL 6 has the next kernels' formula.
        return era_of(report.release) or (era_of("2.6.39") if report.has_oom_score_adj else None)
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


def _oldest_release(report: Report) -> str:
    """Return the first kernel that prints what the report has."""
    victim = report.victim
    if victim is not None and victim.message and victim.shmem_rss_kib is not None:
        return "5.1"  # 2.6.18 begins so, too, but has no figures
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


def _total_pages(report: Report, constraint: Constraint | None, era: Era, assumed: list[str]) -> int | None:
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
            assumed.append("swap is not counted (the report does not show it)")
        return memory.total_pages + swap
    return _pages_by_score(report, era, assumed)


def _limit_pages(report: Report, assumed: list[str]) -> int | None:
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
    if both is not None:
        room = None if both.limit_kib is None else max(both.limit_kib - limit, 0)
        swap = Amount(max(both.usage_kib - memory.usage_kib, 0), room)
    swap_limit = None if swap is None else swap.limit_kib
    used = sum(task.swap for task in report.tasks) * page_kib
    if swap_limit is None:
        swap_limit = used
        if swap_limit:
            assumed.append("the cgroup's swap limit is what its processes use (the report does not show it)")
    elif swap_limit and swap is not None and not (used or swap.usage_kib):
        swap_limit = 0  # the kernel swaps before it kills, and counts no more swap than there is
        assumed.append("the host has no swap, because the cgroup used none (the report does not show it)")
    return max(limit // page_kib + swap_limit // page_kib, 1)


def _pages_by_score(report: Report, era: Era, assumed: list[str]) -> int | None:
    """Compute it from the score that kernels printed before 5.1, which is in thousandths."""
    choice = report.choice
    if choice is None or choice.score is None or choice.score <= 0:
        return None
    task = next((one for one in report.tasks if one.pid == choice.pid), None)
    if task is None or task.oom_score_adj != 0:
        return None
    points = task_badness(task, 0, _PER_MILLE, era._replace(is_per_mille=False))
    assumed.append("the size of memory follows from the score (the report does not show it)")
    return None if points is None else points * _PER_MILLE // choice.score


def _node_numbers(nodes: str) -> set[int]:
    """Parse a list of memory nodes, `0-1,3`."""
    found = [-1]
    for part in nodes.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last.isdecimal() or not last) and int(first) > found[-1]:  # in order
            found += range(int(first), min(int(last or first), NODES_LIMIT) + 1)
    return set(found[1:])


def _victim(ranked: Sequence[Place], report: Report) -> Place | None:
    victim = report.victim
    if victim is None:
        return None
    return next((one for one in ranked if one.task.pid == victim.pid), None)


def _victim_first(ranked: list[Place], report: Report) -> list[Place]:
    """Return the order with the victim before others of its badness: a cgroup is scanned in another order."""
    victim = _victim(ranked, report)
    if victim is None or victim.place is None:
        return ranked
    first = next(at for at, one in enumerate(ranked) if one.badness == victim.badness)
    order = ranked.copy()
    order.insert(first, order.pop(victim.place - 1))
    return [one if one.place is None else one._replace(place=at) for at, one in enumerate(order, 1)]


def _plain_reason(report: Report) -> Why | None:
    """Return the reason that the report itself gives."""
    victim = report.victim
    if victim is None:
        return "unknown"
    chosen = report.choice
    if "oom_kill_allocating_task" in report.message:
        return "allocating"
    if chosen is not None and chosen.pid != victim.pid and not _is_thread(chosen, report):
        return "child"
    if report.is_sysrq:
        return "sysrq"
    return None


def _is_thread(chosen: Choice, report: Report) -> bool:
    """Return whether what was chosen is a thread of the victim: a table without gaps has no row of it."""
    victim, pids = report.victim, {task.pid for task in report.tasks}
    has_gaps = report.rows_left_out or report.rows_unread
    return victim is not None and victim.pid in pids and chosen.pid not in pids and not has_gaps


def _reason(victim: Place | None) -> Why:
    if victim is None:
        return "unknown"
    return "highest" if victim.place == 1 else "lower"
