"""Matches a policy with the processes of one /proc: reads what `core.match` and `core.trust` need."""

import os
import time

from oomguard.core.budget import Budget
from oomguard.core.match import Matcher, MatchResult, first_unmet, search
from oomguard.core.process import INIT_PID, Identity, UnknownFactError
from oomguard.core.trust import is_trusted, trust_refusal
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.kernel.proc_files import GONE
from oomguard.kernel.slow_reads import REFILL, UNNOTICED_SECONDS
from oomguard.kernel.timeout import TooLongError, within

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from oomguard.core.decide import Refusal
    from oomguard.core.policy import Policy
    from oomguard.core.rule import Rule
    from oomguard.kernel.procfs import ProcessHandle, Procfs

MATCH_SECONDS = 0.02
"""CPU time that the `cmdline` patterns of one rule may take on one process."""

NO_CANDIDATES = MatchResult()
"""The result if no rule can match the process, by its name or because it is oomguard."""


class Itself(NamedTuple):
    """The calling process, and the daemon if one runs, with its only child, the reader of its policy."""

    own_pid: int
    daemon: Identity | None = None

    def covers(self, handle: "ProcessHandle") -> bool:
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

    def __init__(self, policy: "Policy", procfs: "Procfs", itself: Itself | None = None) -> None:
        self.policy = policy
        self.matcher = Matcher(policy.rules)
        self.itself = itself or Itself(os.getpid())
        self.procfs = procfs
        self._pattern_time = Budget(capacity=MATCH_SECONDS, refill=REFILL)

    def match(self, handle: "ProcessHandle", own: "Callable[[], int] | None" = None) -> MatchResult:
        """Return the rule that matches a process, and what else was found.

        `own` returns its original value, on which depends whether a rule protects it, and so takes trust;
        without `own`, trust does not matter.
        """
        if handle.pid == INIT_PID or not self.matcher.candidates(handle.comm) or self.itself.covers(handle):
            return NO_CANDIDATES
        stat = handle.stat
        if stat.is_kernel_thread or stat.is_zombie:
            return NO_CANDIDATES

        def refusal(rule: "Rule") -> "Refusal | None":
            return None if own is None else self.refusal(rule, handle, own=own())

        return self.matcher.find_rule(
            handle, lambda rule: self.is_topmost(rule, handle), refusal, self.search_within(handle)
        )

    def refusal(self, rule: "Rule", handle: "ProcessHandle", *, own: int) -> "Refusal | None":
        """Return why a rule must not set a process with the original value `own`, or None."""
        wanted, first = rule.terms.value.wanted(own), self.policy.first_person_uid
        if wanted is None:
            return None
        return trust_refusal(rule, handle, own=own, wanted=wanted, first_person_uid=first)

    def shares_value(self, handle: "ProcessHandle") -> bool:
        """Return whether a rule with `children: inherit` matches the process."""
        rule = self.match(handle).rule
        return rule is not None and rule.terms.children == "inherit"

    def is_topmost(self, rule: "Rule", handle: "ProcessHandle") -> bool:
        """Return whether no ancestor of the process meets the rule's conditions."""
        parent_pid = handle.stat.parent_pid
        try:
            for parent in self.procfs.ancestors(parent_pid):
                if first_unmet(rule, parent, self.search_within(parent)) is None:
                    return False
        except GONE:
            pass  # an ancestor has ended; its children are init's now
        return True

    def search_within(self, handle: "ProcessHandle") -> "Callable[[re.Pattern[str], str], bool]":
        """Return a search that raises UnknownFactError if this process's command line takes too long."""

        def bounded(pattern: "re.Pattern[str]", text: str) -> bool:
            spent = self._pattern_time
            if spent and spent.is_spent(handle.spender().key, time.monotonic()):
                raise TooLongError(
                    f"`cmdline` patterns took too long on other processes of {handle.spender().key}"
                )
            begun = time.thread_time()
            try:
                return within(MATCH_SECONDS, lambda: search(pattern, text))
            finally:
                took = time.thread_time() - begun
                if took > UNNOTICED_SECONDS:
                    now = time.monotonic()
                    spent.forget_paid(now)
                    spent.charge(handle.spender().key, took, now)

        return bounded

    def is_trusted(self, handle: "ProcessHandle") -> bool:
        """Return whether a process is root's, or a system user's in a system service.

        False if its user made it too slow to read; root's own processes are always read.
        """
        try:
            return is_trusted(handle, self.policy.first_person_uid)
        except UnknownFactError as error:
            if error.is_transient:
                raise
            return False
