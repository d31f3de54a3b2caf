"""Matches a policy with the processes of one /proc: reads what `core.match` and `core.trust` need."""

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress

from oomguard.core.budget import Budget
from oomguard.core.cgroup import system_unit
from oomguard.core.match import Matcher, first_unmet, search
from oomguard.core.policy import Policy
from oomguard.core.process import INIT_PID, Identity, UnknownFactError
from oomguard.core.rule import Rule
from oomguard.core.trust import is_trusted
from oomguard.core.typed import NamedTuple
from oomguard.kernel.proc_files import GONE
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.slow_reads import REFILL, UNNOTICED_SECONDS
from oomguard.kernel.timeout import TooLongError, within

_STARTING = re.compile(rb"[0-9]+|systemd-executo|\(.*", re.DOTALL)
"""How a process is called until systemd runs the service: its executor, opened by a descriptor or by path, is
in the service's cgroup from the start, and sets `OOMScoreAdjust=` before its last exec."""

MATCH_SECONDS = 0.02
"""CPU time that the `cmdline` patterns of one rule may take on one process."""


def is_being_started(handle: ProcessHandle) -> bool:
    """Return whether systemd is about to run a service here; its value is not the service's yet."""
    is_possible = handle.stat.parent_pid == INIT_PID and _STARTING.fullmatch(handle.comm) is not None
    return is_possible and handle.uid == handle.saved_uid == 0 and system_unit(handle.cgroup) != ""


class Itself(NamedTuple):
    """The calling process, and the daemon if one runs, with its only child, the reader of its policy."""

    own_pid: int
    daemon: Identity | None = None

    def covers(self, handle: ProcessHandle) -> bool:
        """Return whether a process is one of them. Raises one of GONE."""
        pid, daemon = handle.pid, self.daemon
        if daemon is None or pid == self.own_pid:
            return pid == self.own_pid
        if pid == daemon.pid:
            return handle.identity == daemon
        # In a container it may be init, where every orphan is its child.
        return daemon.pid != INIT_PID and handle.stat.parent_pid == daemon.pid


class Matching:
    """Finds the rule for a process. Each method raises one of GONE if the process has ended."""

    def __init__(self, policy: Policy, procfs: Procfs, itself: Itself | None = None) -> None:
        self.policy = policy
        self.matcher = Matcher(policy.rules)
        self.itself = itself or Itself(os.getpid())
        self.procfs = procfs
        self._pattern_time = Budget(capacity=MATCH_SECONDS, refill=REFILL)

    def possible_rules(self, handle: ProcessHandle) -> tuple[Rule, ...]:
        """Return the rules that may match a process, by its name; none do if the kernel never kills it."""
        found = self.matcher.candidates(handle.comm)
        if not found or handle.pid == INIT_PID or self.itself.covers(handle):
            return ()
        stat = handle.stat
        return () if stat.is_kernel_thread or stat.is_zombie or is_being_started(handle) else found

    def rules(self, handle: ProcessHandle) -> Iterable[tuple[Rule, UnknownFactError | None]]:
        """Return the rules that match a process or cannot be tried, as `Matcher.matches`."""
        found = self.possible_rules(handle)
        return self.matcher.matches(handle, found, self.search, self.is_topmost) if found else ()

    def shares_value(self, handle: ProcessHandle) -> bool:
        """Return whether a rule with `children: inherit` matches the process, trusted or not."""
        rule = next((rule for rule, unknown in self.rules(handle) if unknown is None), None)
        return rule is not None and rule.terms.children == "inherit"

    def is_topmost(self, rule: Rule, handle: ProcessHandle) -> bool:
        """Return whether no ancestor of the process meets the rule's conditions."""
        parent_pid = handle.stat.parent_pid
        with suppress(*GONE):  # an ancestor has ended; its children are init's now
            for parent in self.procfs.ancestors(parent_pid):
                if first_unmet(rule, parent, self.search) is None:
                    return False
        return True

    def search(self, pattern: re.Pattern[str], text: str, handle: ProcessHandle) -> bool:
        """Search a process's command line. UnknownFactError: that takes too long."""
        spent, key = self._pattern_time, handle.spender().key
        if spent.is_spent(key, time.monotonic()):
            raise TooLongError(f"`cmdline` patterns took too long on other processes of {key}")
        begun = time.thread_time()
        try:
            return within(MATCH_SECONDS, lambda: search(pattern, text, handle))
        finally:
            took = time.thread_time() - begun
            if took > UNNOTICED_SECONDS:
                now = time.monotonic()
                spent.forget_paid(now)
                spent.charge(key, took, now)

    def is_trusted(self, handle: ProcessHandle) -> bool:
        """Return whether a process is root's, or a system user's in a system service.

        False if its user made it too slow to read; root's own processes are always read.
        """
        try:
            return is_trusted(handle, self.policy.first_person_uid)
        except UnknownFactError as error:
            if error.is_transient:
                raise
            return False
