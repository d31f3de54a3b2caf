"""The kill order as text and as JSON. Keys are stable; new ones may be added."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from oomguard.core.process import Identity
from oomguard.core.text import counted, kib, legible, printable
from oomguard.oom.badness import adj_pages
from oomguard.oom.ranking import Candidate, Domain, Rank, Ranked, Reserve, reserve_new, reserve_now
from oomguard.report.change_document import decision_document

FORMAT = 1


class View(NamedTuple):
    """A kill order at one moment.

    `used_kib` is the memory that a cgroup uses, None for the whole host. `notes` are other influences.
    `growth` is by how many KiB processes grow in a minute, None if there is only this view. `options`
    are those that other verbs need for the same policy and daemon.
    """

    domain: Domain
    ranked: Sequence[Ranked]
    users: Mapping[int, str]
    used_kib: int | None = None
    notes: Sequence[str] = ()
    growth: Mapping[Identity, int] | None = None
    options: str = ""

    @property
    def has_policy(self) -> bool:
        """Whether there is a policy's order to compare with."""
        return any(one.new is not None for one in self.ranked)

    def first(self, limit: int) -> Sequence[Ranked]:
        """Return the `limit` processes that go first, now or under the policy; 0 for all."""
        if not limit or limit >= len(self.ranked):
            return self.ranked
        order = sorted(range(len(self.ranked)), key=lambda at: (_soonest(self.ranked[at]), at))
        return [self.ranked[at] for at in sorted(order[:limit])]


def _soonest(one: Ranked) -> float:
    places = [rank.place for rank in (one.now, one.new) if rank is not None and rank.place is not None]
    return min(places, default=float("inf"))


def summary(view: View) -> Iterator[str]:
    """Yield the summary, one sentence a line, the most important first."""
    now, after = reserve_now(view.ranked), reserve_new(view.ranked)
    yield f"{'Now and under the policy: ' if after == now else ''}{_reserve(now)}"
    if after is not None and after != now:
        amount = f"{kib(after.kib)} in {counted(after.processes, 'process', 'es')}"
        before = f" before {label(after.before)}" if after.before else _without_protected(after)
        yield f"Under the policy: {amount}{before}."
    first = next((one for one in view.ranked if one.new is not None and one.new.place == 1), None)
    if first is not None and first.now.place != 1:
        yield f"First under the policy: {label(first.candidate)}."
    yield from view.notes
    if doubtful := sum(_is_doubtful(one) for one in view.ranked):
        denied = f"{counted(doubtful, 'value')} that the kernel may deny"
        yield f"Not counted: {denied}; see oomguard plan{view.options}."
    domain = view.domain
    total, point = domain.total_pages * domain.page_kib, adj_pages(domain.total_pages) * domain.page_kib
    weighs = f"one point of oom_score_adj weighs {kib(point)}"
    if domain.cgroup:
        used = "" if view.used_kib is None else f", {kib(view.used_kib)} used"
        yield f"{legible(domain.cgroup)}: {kib(total)} at most{used}; {weighs}."
    else:
        yield f"{kib(total)} of RAM and swap; {weighs}."


def _reserve(found: Reserve) -> str:
    amount = f"{kib(found.kib)} in {counted(found.processes, 'process', 'es')}"
    if found.before is None:
        return f"{amount} can be killed{_without_protected(found)}."
    return f"{amount} can be killed before the first protected process, {label(found.before)}."


def _without_protected(found: Reserve) -> str:
    if not found.never:
        return "; no oom_score_adj is below 0"
    return f"; {counted(found.never, 'protected process', 'es')} cannot"


def _is_doubtful(one: Ranked) -> bool:
    obstacle = None if one.decision is None else one.decision.obstacle
    return obstacle is not None and obstacle.kind == "may-be-denied"


def label(candidate: Candidate) -> str:
    """Return `sshd[812]`."""
    return f"{printable(candidate.comm)}[{candidate.identity.pid}]"


def rank_document(view: View, *, limit: int) -> dict[str, Any]:
    """Return the view as JSON; `limit` keeps that many processes, 0 all."""
    domain = view.domain
    after = reserve_new(view.ranked)
    return {
        "format": FORMAT,
        "domain": {
            "cgroup": printable(domain.cgroup) or None,
            "total_bytes": domain.total_pages * domain.page_kib * 1024,
            "used_bytes": None if view.used_kib is None else view.used_kib * 1024,
            "page_bytes": domain.page_kib * 1024,
            "pages_per_point": adj_pages(domain.total_pages),
        },
        "killable": {
            "now": _reserve_document(reserve_now(view.ranked)),
            "policy": None if after is None else _reserve_document(after),
        },
        "notes": list(view.notes),
        "processes": [_document(one, view.users, domain.page_kib) for one in view.first(limit)],
    }


def _reserve_document(found: Reserve) -> dict[str, Any]:
    before = found.before
    return {
        "bytes": found.kib * 1024,
        "processes": found.processes,
        "before": None if before is None else {"pid": before.identity.pid, "comm": printable(before.comm)},
    }


def _document(one: Ranked, users: Mapping[int, str], page_kib: int) -> dict[str, Any]:
    candidate = one.candidate
    page = page_kib * 1024
    return {
        "pid": candidate.identity.pid,
        "start_time_ticks": candidate.identity.start_time_ticks or None,
        "comm": printable(candidate.comm),
        "uid": candidate.uid,
        "user": users.get(candidate.uid),
        "rss_bytes": candidate.usage.rss * page,
        "swap_bytes": candidate.usage.swap * page,
        "page_table_bytes": candidate.usage.page_tables * page,
        "freed_bytes": candidate.freed_kib * 1024,
        "oom_score": candidate.kernel_score,
        "exempt": exemption(candidate, one.now) or None,
        "now": one.now._asdict(),
        "policy": None if one.new is None else one.new._asdict(),
        "decision": None if one.decision is None else decision_document(one.decision),
    }


def exemption(candidate: Candidate, rank: Rank) -> str:
    """Return why a process is never killed, "" if it may be."""
    if candidate.exemption:
        return candidate.exemption
    return "" if rank.place is not None else "oom_score_adj -1000"
