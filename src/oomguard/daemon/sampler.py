"""Finds the processes that the kernel would kill first, for a sample."""

import os
from collections.abc import Callable, Generator
from contextlib import suppress

from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.process import UnknownFactError
from oomguard.core.rule import Rule
from oomguard.core.sample import HOLDERS, Holder
from oomguard.core.text import printable
from oomguard.kernel.memcg import Memcg, members_by_cgroup
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.usage import PAGE_KIB, observe_candidate
from oomguard.oom.badness import CURRENT, era_of
from oomguard.oom.ranking import Candidate, Domain, rank

_CLOSER_LOOK = 2 * HOLDERS
"""Processes whose memory is read: the kernel's own score, in parts per thousand, is too coarse to order
them."""

_UNIT_LENGTH = 64


class Sampler:
    """Looks at processes, one a step."""

    def __init__(self, procfs: Procfs, rule_of: Callable[[int], Rule | None]) -> None:
        self._procfs = procfs
        self._rule_of = rule_of
        self._era = era_of(os.uname().release) or CURRENT

    def members(self, memcg: Memcg, total_kib: int) -> Generator[None, None, tuple[Holder, ...]]:
        """Return the processes of a cgroup with that limit which the kernel would kill first."""
        pids: list[int] = []
        for some in members_by_cgroup(memcg):
            pids += some
            yield
        return (yield from self.holders(pids, total_kib // PAGE_KIB))

    def holders(self, pids: list[int], pages: int) -> Generator[None, None, tuple[Holder, ...]]:
        """Return the processes that the kernel would kill first, by score and then by memory."""
        scores = []
        for pid in pids:
            with suppress(OSError, ValueError):
                if score := int(self._procfs.read(f"{pid}/oom_score", 16)):
                    scores.append((score, pid))
            yield
        scores.sort(reverse=True)
        unit_of: dict[Candidate, str] = {}
        for handle in self._procfs.processes(sorted(pid for _, pid in scores[:_CLOSER_LOOK])):
            if (candidate := observe_candidate(handle, self._era)) is not None:
                unit_of[candidate] = _unit(handle)
                yield
        ranked = rank([*unit_of], Domain(pages, PAGE_KIB, era=self._era))
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


def _unit(handle: ProcessHandle) -> str:
    with suppress(*GONE, HIDDEN, UnknownFactError):
        return printable(user_unit(handle.cgroup) or system_unit(handle.cgroup))[:_UNIT_LENGTH]
    return ""
