"""One level-triggered pass: observe, plan, apply, record. Whatever led to it, it is the same pass."""

from typing import TYPE_CHECKING

from oomguard.core.commit import MODE
from oomguard.core.plan import Entry, Outcome, SetSysctl
from oomguard.kernel.floor import Privilege
from oomguard.reconcile.apply import apply_oom_score_adj, apply_sysctl
from oomguard.reconcile.contention import Contention
from oomguard.reconcile.lineage import Lineage
from oomguard.reconcile.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from oomguard.core.plan import Cause, Change, SetOomScoreAdj
    from oomguard.core.policy import Policy
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger


class Reconciler:
    """Keeps one /proc to one policy, with one ledger. `now` is monotonic time, in seconds."""

    def __init__(
        self, policy: "Policy", ledger: "Ledger", procfs: "Procfs", privilege: Privilege | None = None
    ) -> None:
        self.privilege = privilege or Privilege()
        self.ledger = ledger
        self.lineage = Lineage(ledger, procfs.is_alive)
        self.procfs = procfs
        self.adopt(policy)

    def adopt(self, policy: "Policy") -> None:
        """Take another policy from the next pass on."""
        self.policy = policy
        self.lineage.reconsider()
        self.planner = Planner(policy, self.ledger, self.procfs, self.lineage)
        self.contention = Contention(policy.resync_interval_seconds)

    def everything(self, cause: "Cause", now: float) -> "Iterator[Outcome]":
        """Bring sysctls and every process to the policy, yielding each outcome as it comes."""
        yield from self.sysctls(cause, now)
        for change, handle in self.planner.process_changes(cause):
            outcome = self._apply(change, handle, now)
            yield self._again(outcome, handle.pid, cause, now)
        self.ledger.compact()

    def sysctls(self, cause: "Cause", now: float) -> "Iterator[Outcome]":
        """Bring the sysctls to the policy."""
        tried = set()
        for change in self.planner.sysctl_changes(cause):
            if change.name == MODE and change.refusal is None:
                break
            tried.add(change.name)
            yield self._apply(change, None, now)
        else:
            return
        # A limit may have been denied, or taken otherwise than planned: what the mode would put in
        # force is judged by what the kernel has now.
        for change in self.planner.sysctl_changes(cause, leave=tried):
            yield self._apply(change, None, now)

    def process(self, pid: int, cause: "Cause", now: float) -> "Outcome | None":
        """Bring one process to the policy; None if there was nothing to do, or it is gone."""
        outcome = self._process(pid, cause, now)
        return None if outcome is None else self._again(outcome, pid, cause, now)

    def _again(self, outcome: Outcome, pid: int, cause: "Cause", now: float) -> Outcome:
        """Decide once more on a process that has vanished: it may have become another."""
        return (outcome.result == "vanished" and self._process(pid, cause, now)) or outcome

    def _process(self, pid: int, cause: "Cause", now: float) -> "Outcome | None":
        handle = self.procfs.open(pid)
        if handle is None:
            self.planner.forget(pid)
            return None
        with handle:
            change = self.planner.process_change(handle, cause)
            return None if change is None else self._apply(change, handle, now)

    def _apply(self, change: "Change", handle: "ProcessHandle | None", now: float) -> Outcome:
        target = _target(change)
        if self.contention.is_paused(target, now):
            return Outcome(
                change,
                "contended",
                reason="something else keeps rewriting it",
                hint="find what does (the other value tells), or give it way in the policy; "
                "oomguard tries again ever less often, at every resync in the end",
            )
        if isinstance(change, SetSysctl):
            outcome = apply_sysctl(change, self.procfs, self.ledger)
        else:
            assert handle is not None
            known = self.ledger.process(change.identity)
            outcome = apply_oom_score_adj(
                change,
                handle,
                self.ledger,
                now_ticks=self.procfs.now_ticks(),
                privilege=self.privilege,
            )
            if outcome.result == "applied" and change.rule is None:
                inherited = Entry(change.own, change.before, moved_floor=change.moved_floor)
                self.lineage.gave_up(handle.pid, known or inherited)
            elif outcome.result == "denied" and handle.pid not in self.ledger.processes:
                self.lineage.disregard(handle.pid)
        if outcome.result == "applied" and change.cause == "drift":
            self.contention.healed(target, now)
        return outcome


def _target(change: "SetSysctl | SetOomScoreAdj") -> "Hashable":
    return change.name if isinstance(change, SetSysctl) else change.identity
