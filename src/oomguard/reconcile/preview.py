"""What a pass would do on this host: the planner's decisions, and what the kernel will deny."""

import os
import stat
from collections.abc import Hashable, Iterator, Mapping, Set
from contextlib import suppress

from oomguard.core.change import SetSysctl, grouped
from oomguard.core.choices import Cause
from oomguard.core.decide import Decision, Obstacle, Rights, denial
from oomguard.core.process import UnknownFactError
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.tally import Tally
from oomguard.core.text import printable
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.process_rights import is_read_only
from oomguard.kernel.procfs import ProcessHandle
from oomguard.reconcile.reconciler import Reconciler

_CONTENDED = Obstacle(
    "contended",
    "something else keeps rewriting it",
    "find the program that does, and let one of the two set the value",
)


class Preview:
    """Decides as the daemon does, and adds what would come of it.

    Writes nothing, and opens nothing for writing. `rights` are those of the process that would write.
    `contended` is what the running daemon has paused to correct: sysctls by name, processes by identity.
    `denied` is what the kernel denied it: by `name[pid]` and value. `policy_in_use` is its policy.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        rights: Rights,
        contended: Set[Hashable] = frozenset(),
        denied: Mapping[tuple[str, int], Obstacle] | None = None,
        *,
        policy_in_use: str = "",
    ) -> None:
        self.policy_in_use = policy_in_use
        self._reconciler = reconciler
        self.planner = reconciler.planner
        self._rights = rights
        self._contended = contended
        self._denied = denied or {}
        self._is_read_only = is_read_only(reconciler.procfs.root)

    def close(self) -> None:
        """Close its /proc."""
        self._reconciler.procfs.close()

    @property
    def unreadable(self) -> list[str]:
        """Why processes could not be read or judged so far, for people."""
        return sorted(self._reconciler.managed.unreadable.values())

    @property
    def hidden(self) -> int:
        """How many processes with an original value /proc hides from this user."""
        return self._reconciler.ledger.hidden(self._reconciler.procfs)

    def processes(self) -> Iterator[tuple[ProcessHandle, Decision | None]]:
        """Yield each process, open and with its name read, with the decision on it, or None."""
        for handle in self._reconciler.processes():
            decision = self.judge(handle)
            with suppress(*GONE):
                _ = handle.comm  # it may have ended before anything was read
                yield handle, decision

    def judge(self, handle: ProcessHandle) -> Decision | None:
        """Return the decision on a process, or None. Children come after the parents they inherit from."""
        decision = self._reconciler.decide_and_record(handle)
        if decision is None or decision.obstacle is not None:
            return decision
        with suppress(*GONE, HIDDEN, UnknownFactError):
            return decision._replace(obstacle=self._obstacle(decision, handle))
        return decision

    def count(self, handle: ProcessHandle, decision: Decision | None, tally: Tally) -> None:
        """Count a process, and the rules that would match it but for an earlier one."""
        tally.add(handle.comm, decision)
        first = None if decision is None else decision.matched
        if first is None:
            return
        with suppress(*GONE, HIDDEN, UnknownFactError):
            for rule, unknown in self.planner.matching.rules(handle):
                if unknown is None and rule.number > first.number:
                    tally.overtaken.setdefault(rule.number, first)

    def keep_only(self, pids: set[int]) -> None:
        """Forget every process that is not among `pids`."""
        self._reconciler.keep_only(pids)

    def sysctl_changes(self, cause: Cause) -> list[SetSysctl]:
        """Return the sysctl writes that are due; an obstacle to one is one to its whole group."""
        found = []
        for changes in grouped(self.planner.sysctl_changes(cause)):
            obstacle = changes[0].obstacle or self._sysctl_obstacle(changes)
            found += [change._replace(obstacle=obstacle) for change in changes]
        return found

    def _obstacle(self, decision: Decision, handle: ProcessHandle) -> Obstacle | None:
        if decision.wanted == decision.current:
            return None
        if decision.identity in self._contended:
            return _CONTENDED
        # The floor is at most the value that a process has by itself, unless oomguard moved it.
        is_moved = decision.entry is not None and decision.entry.moved_floor
        rights = self._rights
        obstacle = denial(
            decision.wanted,
            highest_floor=decision.current if is_moved else decision.own,
            owner_uid=rights.uid if rights.overrides_owner else handle.value_owner(),
            is_read_only=self._is_read_only,
            rights=rights,
        )
        if obstacle is None or obstacle.kind != "may-be-denied":
            return obstacle
        who = f"{printable(decision.comm)}[{decision.identity.pid}]"
        return self._denied.get((who, decision.wanted), obstacle)

    def _sysctl_obstacle(self, changes: list[SetSysctl]) -> Obstacle | None:
        for change in changes:
            denied = self._sysctl_denial(change) or (_CONTENDED if change.name in self._contended else None)
            if denied is not None:
                where = f"{change.name}: " if len(changes) > 1 else ""
                return denied._replace(reason=where + denied.reason)
        return None

    def _sysctl_denial(self, change: SetSysctl) -> Obstacle | None:
        path = f"{self.planner.procfs.root}/{SYSCTLS[change.name].path}"
        try:
            if is_read_only(path):
                return Obstacle(
                    "denied", "/proc/sys is read-only here", "run on the host, not in a container"
                )
            found = os.stat(path)
        except OSError:
            return None
        if not found.st_mode & stat.S_IWUSR:
            return Obstacle("denied", "this sysctl is read-only", "remove it from the policy of this host")
        # Capabilities do not help: the kernel checks if the writer owns the file (fs/proc/proc_sysctl.c).
        if found.st_uid != self._rights.uid:
            return Obstacle(
                "denied", f"uid {self._rights.uid} cannot change sysctls", "run as root of the host"
            )
        return None
