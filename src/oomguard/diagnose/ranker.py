"""Which process the kernel would kill first, now and under the policy."""

import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from oomguard.core.decide import Decision
from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import Memory
from oomguard.core.policy import DEFAULT_PATH, Policy, policy_option
from oomguard.core.process import UnknownFactError
from oomguard.core.text import counted, legible, printable
from oomguard.diagnose.this_host import ThisHost, hint_at
from oomguard.kernel.hidepid import hides_processes
from oomguard.kernel.host_facts import is_in_container
from oomguard.kernel.memcg import (
    Memcg,
    ancestors,
    group_killed_with,
    members,
    open_memcg,
    read_limits,
    read_used_bytes,
)
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle
from oomguard.kernel.sysctl_files import observe_memory, read_sysctl
from oomguard.kernel.usage import PAGE_KIB, observe_candidate
from oomguard.oom.badness import adj_pages, cgroup_pages, era_of, global_pages
from oomguard.oom.ranking import Candidate, Domain, Ranked, rank
from oomguard.policy.users import user_name
from oomguard.reconcile.preview import Preview
from oomguard.report.rank_view import View, label

_SWAPPINESS = 60
"""The kernel's default, where the sysctl cannot be read."""


def open_ranker(policy: Policy | None, host: ThisHost, *, cgroup: str | None = None) -> "Ranker":
    """Return a ranker for a host or one cgroup. Without a policy, it shows the kernel's order only."""
    has_policy = policy is not None
    # The kernel's order needs no original values.
    preview = host.open_preview(policy or Policy(), warns=has_policy)
    hint = "" if has_policy else hint_at(preview.policy_in_use)
    note = f"{DEFAULT_PATH} is missing, but {hint}" if hint else ""
    memcg = None if cgroup is None else open_memcg(preview.planner.procfs, cgroup)
    options = policy_option(policy.path if policy else "") + host.options
    return Ranker(preview, memcg, has_policy=has_policy, note=note, options=options)


class Ranker:
    """Ranks all processes as the OOM killer would."""

    def __init__(
        self, preview: Preview, memcg: Memcg | None, *, has_policy: bool, note: str = "", options: str = ""
    ) -> None:
        self._preview = preview
        self._procfs = preview.planner.procfs
        self._memcg = memcg
        self._has_policy = has_policy
        self._note, self._options = note, options
        self._own_pid = os.getpid()
        self._user = lru_cache(maxsize=1024)(user_name)

    def close(self) -> None:
        """Close its /proc."""
        self._preview.close()

    def look(self) -> View:
        """Return the kill order of this moment."""
        memory = observe_memory(self._procfs)
        if memory is None:
            raise OomguardError(
                f"{printable(self._procfs.root)}/meminfo is missing, so the total is not known",
                hint="proc is mounted with subset=pid; use --proc with another mount",
            )
        domain = self._domain(memory)
        candidates: list[Candidate] = []
        decisions: dict[int, Decision] = {}
        for handle in self._processes():
            decision = self._judge(handle)
            candidate = observe_candidate(handle, domain.era, None if decision is None else decision.current)
            if candidate is not None:
                candidates.append(candidate)
                if decision is not None:
                    decisions[handle.pid] = decision
        if self._memcg is None or not self._memcg.is_v2:
            # The kernel's list of tasks is in order of birth (kernel/fork.c:copy_process).
            candidates.sort(key=lambda one: (one.identity.start_time_ticks, one.identity.pid))
        ranked = rank(candidates, domain, decisions if self._has_policy else None)
        used = None if self._memcg is None else read_used_bytes(self._memcg)
        return View(
            domain,
            ranked,
            {uid: name for uid in {one.uid for one in candidates} if (name := self._user(uid))},
            used_kib=None if used is None else used // 1024,
            notes=[*([self._note] if self._note else []), *self._notes(domain, memory, ranked)],
            options=self._options,
        )

    def _processes(self) -> Iterator[ProcessHandle]:
        pids = self._procfs.pids()
        self._preview.keep_only(set(pids))
        asked = pids if self._memcg is None else members(self._memcg)
        # This process will have ended before memory runs out.
        return self._procfs.processes(pid for pid in asked if pid != self._own_pid)

    def _judge(self, handle: ProcessHandle) -> Decision | None:
        """Return the policy's decision on a process, None if there is none."""
        with suppress(*GONE, HIDDEN, UnknownFactError):
            handle.read_name_and_stat()
            if self._has_policy and not handle.stat.is_kernel_thread:
                return self._preview.judge(handle)
        return None

    def _domain(self, memory: Memory) -> Domain:
        release = self._procfs.read("sys/kernel/osrelease").decode("ascii", "replace").strip()
        era = era_of(release)
        if era is None:
            raise OomguardError(
                f"Linux {release} uses a formula that oomguard does not know",
                hint="oom_score_adj came with Linux 2.6.36",
            )
        if self._memcg is None:
            total = global_pages(memory.total_kib, memory.swap_total_kib, page_kib=PAGE_KIB)
            return Domain(total, PAGE_KIB, era=era)
        pages = self._limit_pages(self._memcg, memory)
        if pages is None:
            raise self._unlimited(self._memcg, memory)
        return Domain(pages, PAGE_KIB, self._memcg.path, era)

    def _limit_pages(self, memcg: Memcg, memory: Memory) -> int | None:
        swappiness = read_sysctl(self._procfs, "vm.swappiness")
        limits = read_limits(memcg, host_swappiness=_SWAPPINESS if swappiness is None else swappiness)
        return cgroup_pages(limits, swap_total_kib=memory.swap_total_kib, page_kib=PAGE_KIB)

    def _unlimited(self, memcg: Memcg, memory: Memory) -> OomguardError:
        if not os.path.isdir(memcg.folder):
            return OomguardError(
                f"{legible(memcg.path)} was removed",
                hint="its service has stopped: start it, or omit --cgroup",
            )
        above = (one.path for one in ancestors(memcg) if self._limit_pages(one, memory) is not None)
        limited = next(above, None)
        way_out = "omit --cgroup for the whole host"
        if limited is not None:
            way_out = f"its ancestor has one: use --cgroup {shlex.quote(legible(limited))}"
        return OomguardError(
            f"{legible(memcg.path)} has no memory limit, so it never runs out of memory by itself",
            hint=way_out,
        )

    def _notes(self, domain: Domain, memory: Memory, ranked: list[Ranked]) -> Iterator[str]:
        """Yield what else influences which process is killed."""
        if self._memcg is None and self._procfs.root == "/proc" and is_in_container():
            yield "In a container: the kernel may kill processes of the host first, which are not shown"
        elif self._memcg is None and hides_processes(self._procfs):
            yield "The kernel may kill other users' processes first: hidepid= hides them from this user"
        panic = read_sysctl(self._procfs, "vm.panic_on_oom")
        if panic == 2 or (panic and self._memcg is None):
            yield f"vm.panic_on_oom is {panic}: the kernel panics instead of killing"
        if self._memcg is None and read_sysctl(self._procfs, "vm.oom_kill_allocating_task"):
            yield "vm.oom_kill_allocating_task is 1: the kernel kills the task that asks"
        if adj_pages(domain.total_pages) == 0:
            yield "The total is less than 1000 pages: oom_score_adj has no effect here, except -1000"
        if self._memcg is not None:
            for one in ancestors(self._memcg):
                pages = self._limit_pages(one, memory)
                if pages is not None and pages < domain.total_pages:
                    yield f"{legible(one.path)}, an ancestor, has a lower limit and reaches it first"
        partial = sum(one.candidate.is_partial for one in ranked)
        if partial:
            yield f"The memory of {counted(partial, 'process', 'es')} is not exact: reading took too long"
        if ranked and ranked[0].now.place is not None:
            group = self._group(ranked[0].candidate)
            if group:
                name = label(ranked[0].candidate)
                yield f"The kernel would kill all of {legible(group)} with {name}: memory.oom.group is 1"

    def _group(self, victim: Candidate) -> str:
        handle = self._procfs.open(victim.identity.pid)
        if handle is None:
            return ""
        with handle:
            try:
                memcg = self._memcg or open_memcg(self._procfs, "/")
                return group_killed_with(memcg, handle.cgroup)
            except (*GONE, HIDDEN, OomguardError, UnknownFactError):
                return ""
