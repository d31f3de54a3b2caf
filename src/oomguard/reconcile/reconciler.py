"""One level-triggered pass: observe, plan, apply, record. Whatever led to it, it is the same pass."""

from typing import TYPE_CHECKING

from oomguard.core.commit import MODE
from oomguard.reconcile.apply import apply_oom_score_adj, apply_sysctl
from oomguard.reconcile.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.core.plan import Cause, Outcome
    from oomguard.core.policy import Policy
    from oomguard.kernel.procfs import Procfs
    from oomguard.reconcile.ledger import Ledger


class Reconciler:
    """Keeps one /proc to one policy, with one ledger."""

    def __init__(self, policy: "Policy", ledger: "Ledger", procfs: "Procfs") -> None:
        self.ledger = ledger
        self.procfs = procfs
        self.planner = Planner(policy, ledger, procfs)

    @property
    def policy(self) -> "Policy":
        """The policy in force."""
        return self.planner.policy

    def adopt(self, policy: "Policy") -> None:
        """Take another policy from the next pass on."""
        self.planner = Planner(policy, self.ledger, self.procfs)

    def everything(self, cause: "Cause") -> "Iterator[Outcome]":
        """Bring sysctls and every process to the policy, yielding what was done as it is done."""
        yield from self.sysctls(cause)
        yield from self.processes(cause)
        self.ledger.compact()

    def sysctls(self, cause: "Cause") -> "Iterator[Outcome]":
        """Bring the sysctls to the policy."""
        tried = set()
        for change in self.planner.sysctl_changes(cause):
            if change.name == MODE and change.refusal is None:
                break
            tried.add(change.name)
            yield apply_sysctl(change, self.procfs, self.ledger)
        else:
            return
        # A limit may have been denied, or taken otherwise than planned: what the mode would put in
        # force is judged by what the kernel has now.
        for change in self.planner.sysctl_changes(cause):
            if change.name not in tried:
                yield apply_sysctl(change, self.procfs, self.ledger)

    def processes(self, cause: "Cause") -> "Iterator[Outcome]":
        """Bring every process to the policy."""
        for change, handle in self.planner.process_changes(cause):
            yield apply_oom_score_adj(change, handle, self.ledger)

    def process(self, pid: int, cause: "Cause") -> "Outcome | None":
        """Bring one process to the policy; None if there was nothing to do, or it is gone."""
        handle = self.procfs.open(pid)
        if handle is None:
            self.planner.forget(pid)
            return None
        with handle:
            change = self.planner.process_change(handle, cause)
            return None if change is None else apply_oom_score_adj(change, handle, self.ledger)
