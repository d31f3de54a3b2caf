"""The kernel's kill order, now and under a policy."""

from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.oom.badness import CURRENT, Era, Usage, badness, kill_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from oomguard.core.decide import Decision
    from oomguard.core.process import Identity

    Exemption = Literal["", "init", "in vfork, or dying"]


class Domain(NamedTuple):
    """The memory that runs out: `cgroup` is "" for the whole host."""

    total_pages: int
    page_kib: int = 4
    cgroup: str = ""
    era: Era = CURRENT


class Candidate(NamedTuple):
    """A process as the OOM killer sees it.

    `kernel_score` is its /proc/PID/oom_score, always relative to the whole host; None if it could not be
    read. `freed_kib` is the memory that killing it frees: anonymous memory, swap and page tables, but not
    shared memory and files. `is_partial`: the memory is not exact, because not all could be read in
    time; the start time may be 0 then.
    """

    identity: "Identity"
    comm: bytes
    uid: int
    oom_score_adj: int
    usage: Usage
    freed_kib: int
    exemption: "Exemption" = ""
    is_admin: bool = False
    kernel_score: int | None = None
    is_partial: bool = False


class Rank(NamedTuple):
    """A place in the kill order, from 1. Place and badness are None if it is never killed."""

    place: int | None
    badness: int | None
    oom_score_adj: int


class Ranked(NamedTuple):
    """A process, its place now, and its place under the policy; None if there is no policy."""

    candidate: Candidate
    now: Rank
    new: Rank | None = None
    decision: "Decision | None" = None
    """The policy's decision; None if there is none."""


class Reserve(NamedTuple):
    """The processes killed before the first protected one, whose value is below 0.

    `before` is that process, None if no protected process can be killed; `never` is how many of them cannot.
    """

    kib: int
    processes: int
    before: Candidate | None
    never: int = 0


def is_protected(candidate: Candidate, value: int) -> bool:
    """Return whether a value protects a process. The kernel never kills init or a dying process."""
    return value < 0 and not candidate.exemption


def rank(
    candidates: "Sequence[Candidate]", domain: Domain, decisions: "Mapping[int, Decision] | None" = None
) -> list[Ranked]:
    """Return all candidates, the first victim first and those that are never killed last.

    `candidates` are in the order in which the kernel scans them: it decides between equals.
    `decisions` are the policy's, by pid; a process without one keeps its value.
    """
    now = _ranks(candidates, domain, [one.oom_score_adj for one in candidates])
    if decisions is None:
        ranked = [Ranked(one, rank) for one, rank in zip(candidates, now, strict=True)]
    else:
        found = [decisions.get(one.identity.pid) for one in candidates]
        values = [
            one.oom_score_adj if decision is None else decision.result
            for one, decision in zip(candidates, found, strict=True)
        ]
        new = _ranks(candidates, domain, values)
        ranked = [
            Ranked(one, before, after, decision)
            for one, before, after, decision in zip(candidates, now, new, found, strict=True)
        ]
    return sorted(ranked, key=lambda one: one.now.place or len(ranked) + 1)


def reserve(ranks: "Sequence[tuple[Candidate, Rank]]") -> Reserve:
    """Return how much is killed before the first protected process is reached."""
    kib = processes = 0
    for candidate, rank in sorted(ranks, key=lambda one: one[1].place or 0):
        if rank.place is None:
            continue
        if is_protected(candidate, rank.oom_score_adj):
            return Reserve(kib, processes, candidate)
        kib += candidate.freed_kib
        processes += 1
    never = sum(is_protected(candidate, rank.oom_score_adj) for candidate, rank in ranks)
    return Reserve(kib, processes, None, never)


def reserve_now(ranked: "Sequence[Ranked]") -> Reserve:
    """Return the reserve with the current values."""
    return reserve([(one.candidate, one.now) for one in ranked])


def reserve_new(ranked: "Sequence[Ranked]") -> Reserve | None:
    """Return the reserve under the policy; None if there is no policy."""
    ranks = [(one.candidate, one.new) for one in ranked if one.new is not None]
    return reserve(ranks) if ranks else None


def _ranks(candidates: "Sequence[Candidate]", domain: Domain, values: "Sequence[int]") -> list[Rank]:
    points = [
        None
        if one.exemption
        else badness(one.usage, value, domain.total_pages, era=domain.era, is_admin=one.is_admin)
        for one, value in zip(candidates, values, strict=True)
    ]
    places = {at: place for place, at in enumerate(kill_order(points, era=domain.era), 1)}
    return [Rank(places.get(at), points[at], value) for at, value in enumerate(values)]
