"""Finds who inherited a protective value when no fork tells: the evidence, read from /proc."""

from typing import TYPE_CHECKING

from oomguard.core.diff import Entry
from oomguard.core.process import INIT_PID
from oomguard.core.protection import JUST_BELOW_ZERO, Holder, home_service, inherited
from oomguard.kernel.procfs import GONE, HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from oomguard.core.policy import Rule
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger
    from oomguard.reconcile.lineage import Lineage

ANCESTORS_LIMIT = 64
"""How far up a tree is followed: deeper than any that is not made to mislead."""


class Inheritance:
    """Decides whether a process has a protective value by itself.

    `rule_of` returns the rule that governs a process, `is_trusted` whether only root can start such a one.
    """

    def __init__(
        self,
        ledger: "Ledger",
        lineage: "Lineage",
        procfs: "Procfs",
        *,
        rule_of: "Callable[[ProcessHandle], Rule | None]",
        is_trusted: "Callable[[ProcessHandle], bool]",
    ) -> None:
        self._ledger = ledger
        self._lineage = lineage
        self._procfs = procfs
        self._rule_of = rule_of
        self._is_trusted = is_trusted
        self._checked: dict[int, int] = {}
        """By pid, the inode of a process whose floor is known not to be inherited: it is so for good."""

    def is_possible(self, value: int) -> bool:
        """Tell whether a process with this value may have inherited it: if not, nothing else is read."""
        return self._ledger.protections.include(value)

    def entry(self, handle: "ProcessHandle", value: int) -> Entry | None:
        """Return what a process with this value inherited, or None if it has it by itself.

        Trusted processes, and those that may choose their value freely, have every value by themselves.
        """
        protections = self._ledger.protections
        if not protections.include(value) or self._is_trusted(handle) or handle.may_lower_itself:
            return None
        chain = [self._holder(handle)]
        if protections.origin(value, chain[0]) is None:
            return None
        is_set_by_trusted = False
        pid = handle.stat.parent_pid
        while pid > INIT_PID and len(chain) < ANCESTORS_LIMIT:
            parent = self._procfs.open(pid)
            if parent is None:
                break
            with parent:
                try:
                    known = self._ledger.process(parent.identity)
                    if parent.read_oom_score_adj() != value:
                        is_unmanaged = known is None and self._lineage.former_entry(pid) is None
                        is_set_by_trusted = is_unmanaged and self._is_trusted(parent)
                        break
                    if known is not None and known.was_ours(value):
                        rule = self._rule_of(parent)
                        shares = rule is not None and rule.terms.children == "inherit"
                        return None if shares else known._replace(moved_floor=True)
                    chain.append(self._holder(parent))
                    pid = parent.stat.parent_pid
                except (*GONE, HIDDEN):
                    break
        found = inherited(protections, value, chain, is_set_by_trusted=is_set_by_trusted)
        return None if found is None else Entry(found.original, value, moved_floor=True)

    def may_have_floor(self, handle: "ProcessHandle") -> bool:
        """Tell whether a process may have inherited a floor below 0, though its value is 0 or more.

        Asked once for each process, since none gets such a floor later but from a privileged process.
        """
        protections = self._ledger.protections
        if not protections or self._checked.get(handle.pid) == handle.inode:
            return False
        if handle.read_oom_score_adj() < 0:
            return False
        may_have = (
            not self._is_trusted(handle)
            and not handle.may_lower_itself
            and protections.origin(JUST_BELOW_ZERO, self._holder(handle)) is not None
        )
        self._checked[handle.pid] = handle.inode
        return may_have

    def forget(self, pid: int) -> None:
        """Check the floor of a process again: it became another's, or is another."""
        self._checked.pop(pid, None)

    def keep_only(self, pids: "Set[int]") -> None:
        """Forget every process that is not among `pids`."""
        self._checked = {pid: inode for pid, inode in self._checked.items() if pid in pids}

    def _holder(self, handle: "ProcessHandle") -> Holder:
        cgroup = handle.cgroup
        service = home_service(cgroup)
        # Into a cgroup that systemd delegated to a user, that user moves any process of his own.
        if service and self._procfs.cgroups.are_roots(f"{cgroup}/any") is False:
            service = ""
        return Holder(
            handle.stat.start_time_ticks,
            service,
            handle.in_container,
            self._is_trusted(handle),
        )
