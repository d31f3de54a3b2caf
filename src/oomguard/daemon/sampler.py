"""Finds the processes that the kernel would kill first, for a sample."""

import os
from collections.abc import Callable, Generator
from contextlib import suppress

from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.process import UnknownFactError
from oomguard.core.rule import Rule
from oomguard.core.sample import HOLDERS, Holder
from oomguard.core.text import printable
from oomguard.kernel.memcg import CGROUPS_LIMIT, Memcg, members_by_cgroup
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.usage import PAGE_KIB, observe_candidate
from oomguard.oom.badness import CURRENT, badness, era_of
from oomguard.oom.ranking import Candidate, Domain, rank

_CLOSER_LOOK = 2 * HOLDERS
"""Processes of a host whose memory is read: the kernel's own score, in parts per thousand of the host, is too
coarse to order them."""

_UNIT_LENGTH = 64


class Sampler:
    """Looks at processes, one a step."""

    def __init__(self, procfs: Procfs, rule_of: Callable[[int], Rule | None]) -> None:
        self._procfs = procfs
        self._rule_of = rule_of
        self._era = era_of(os.uname().release) or CURRENT

    def members(self, memcg: Memcg, total_kib: int) -> Generator[None, None, tuple[Holder, ...]]:
        """Return the processes of a cgroup with that limit which the kernel would kill first.

        All are read, in the first cgroups below: the kernel's own score is relative to the host, where those
        of a cgroup may be equal.
        """
        pages = total_kib // PAGE_KIB
        scores: list[tuple[int, int]] = []
        for pids in members_by_cgroup(memcg, CGROUPS_LIMIT):
            yield
            for handle in self._procfs.processes(pids):
                one = observe_candidate(handle, self._era)
                if one is not None and not one.exemption:
                    points = badness(
                        one.usage, one.oom_score_adj, pages, era=self._era, is_admin=one.is_admin
                    )
                    if points is not None:
                        _add(scores, points, one.identity.pid)
                yield
        return (yield from self._first(scores, pages))

    def holders(self, pids: list[int], pages: int) -> Generator[None, None, tuple[Holder, ...]]:
        """Return the processes that the kernel would kill first, by score and then by memory."""
        scores: list[tuple[int, int]] = []
        for pid in pids:
            with suppress(OSError, ValueError):
                if score := int(self._procfs.read(f"{pid}/oom_score", 16)):
                    _add(scores, score, pid)
            yield
        return (yield from self._first(scores, pages))

    def _first(self, scores: list[tuple[int, int]], pages: int) -> Generator[None, None, tuple[Holder, ...]]:
        """Return the first of processes with these scores and pids, with what they use now."""
        scores.sort(reverse=True)  # what their users' budgets suffice for are the first victims
        unit_of: dict[Candidate, str] = {}
        for handle in self._procfs.processes(pid for _, pid in scores[:_CLOSER_LOOK]):
            if (candidate := observe_candidate(handle, self._era)) is not None:
                unit_of[candidate] = _unit(handle)
                yield
        scanned = sorted(unit_of, key=lambda one: one.identity.pid)
        ranked = rank(scanned, Domain(pages, PAGE_KIB, era=self._era))
        return tuple([self._holder(one.candidate, unit_of[one.candidate]) for one in ranked[:HOLDERS]])

    def _holder(self, candidate: Candidate, unit: str) -> Holder:
        rule = self._rule_of(candidate.identity.pid)
        return Holder(
            *candidate.identity,
            comm=printable(candidate.comm),
            unit=unit,
            rss_kib=candidate.usage.rss * PAGE_KIB,
            swap_kib=candidate.usage.swap * PAGE_KIB,
            oom_score_adj=candidate.oom_score_adj,
            rule="" if rule is None else rule.label,
        )


def _add(scores: list[tuple[int, int]], score: int, pid: int) -> None:
    """Add a process, and forget some that are not among the first: all of a large host take 1 MiB."""
    scores.append((score, pid))
    if len(scores) > 10 * _CLOSER_LOOK:
        scores.sort(reverse=True)
        del scores[_CLOSER_LOOK:]


def _unit(handle: ProcessHandle) -> str:
    with suppress(*GONE, HIDDEN, UnknownFactError):
        return printable(user_unit(handle.cgroup) or system_unit(handle.cgroup))[:_UNIT_LENGTH]
    return ""
