"""One level-triggered pass: observe, plan, apply, record. It is the same pass whatever caused it."""

import errno
import os
from collections.abc import Callable, Iterator, Set
from contextlib import suppress

from oomguard.core.change import Change, Outcome, SetOomScoreAdj, SetSysctl, grouped
from oomguard.core.decide import Decision
from oomguard.core.entry import Entry
from oomguard.core.overcommit import Peak
from oomguard.core.policy import Policy
from oomguard.core.process import UnknownFactError
from oomguard.core.protection import JUST_BELOW_ZERO
from oomguard.core.typed import TYPE_CHECKING
from oomguard.kernel.floor import Privilege
from oomguard.kernel.proc_files import GONE, HIDDEN, SHORTAGE
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.reconcile.apply import apply_oom_score_adj, apply_sysctls, take_floor
from oomguard.reconcile.backoff import Backoff
from oomguard.reconcile.inheritance import Inheritance
from oomguard.reconcile.known import NOTHING, UNRELATED
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.managed import ManagedProcesses
from oomguard.reconcile.matching import Itself, Matching
from oomguard.reconcile.planner import Planner

if TYPE_CHECKING:
    from oomguard.core.choices import Cause


_REWRITTEN = "something else keeps rewriting {}"


class Reconciler:
    """Keeps one /proc in line with one policy, with one ledger.

    `now` is monotonic time, in seconds.
    """

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        procfs: Procfs,
        privilege: Privilege | None = None,
        itself: Itself | None = None,
        promised_peak: Callable[[], Peak | None] = lambda: None,
    ) -> None:
        self._itself = itself
        self._promised_peak = promised_peak
        self.privilege = privilege or Privilege()
        self.still_denied: Callable[[Change], None] = lambda _: None
        """Called for a due change that is not tried again yet, because the kernel denied it."""
        self.ledger = ledger
        self.procfs = procfs
        self.managed = ManagedProcesses(ledger, procfs)
        self.adopt(policy)

    def adopt(self, policy: Policy) -> None:
        """Use another policy from the next pass on."""
        self.policy = policy
        self.matching = Matching(policy, self.procfs, self._itself)
        self.inheritance = Inheritance(self.matching, self.managed)
        self.planner = Planner(self.matching, self.managed, self.inheritance, self._promised_peak)
        self.managed.on_policy(policy)
        self.backoff = Backoff(policy.resync_interval_seconds)

    def everything(self, cause: "Cause", now: float) -> Iterator[Outcome]:
        """Apply the policy to sysctls and every process; yield each outcome as it comes."""
        yield from self.sysctls(cause, now)
        pids = self.procfs.pids()
        self.keep_only(set(pids))
        for pid in pids:
            outcome = self.process(pid, cause, now, in_pass=True)
            if outcome is not None:
                yield outcome
        self.end_pass()

    def processes(self) -> Iterator[ProcessHandle]:
        """Yield each process, open, after those that ended were forgotten."""
        pids = self.procfs.pids()
        self.keep_only(set(pids))
        yield from self.procfs.processes(pids)

    @property
    def weight(self) -> int:
        """How many descendants there are, or as much else that only `keep_only` forgets."""
        return max(self.managed.weight, self.inheritance.weight)

    def keep_only(self, pids: Set[int]) -> None:
        """Forget every process that is not among `pids`, which contains all earlier forks."""
        self.managed.keep_only(pids)
        self.inheritance.keep_only(pids)

    def end_pass(self) -> None:
        """Limit what is remembered, after every process was examined."""
        self.managed.has_new_policy = False
        self.ledger.protections.forget_idle(self.managed.values())
        self.ledger.compact()

    def sysctls(self, cause: "Cause", now: float) -> Iterator[Outcome]:
        """Apply the policy to sysctls: of each group all, or none."""
        for changes in grouped(self.planner.sysctl_changes(cause)):
            yield from self._apply_sysctls(changes, now)
        for name in self.planner.foreign_sysctls():
            self.ledger.strike(name)

    def _apply_sysctls(self, changes: list[SetSysctl], now: float) -> list[Outcome]:
        if any(self.backoff.is_denied(change.name, change.after, now) for change in changes):
            for change in changes:
                self.still_denied(change)
            return []
        waiting = {change.name for change in changes if self.backoff.must_wait(change.name, now)}
        if waiting:
            others = ", ".join(sorted(waiting))
            return [
                _contended(change, _REWRITTEN.format("it" if change.name in waiting else others))
                for change in changes
            ]
        outcomes = apply_sysctls(changes, self.procfs, self.ledger, refusal_of=self.planner.sysctl_refusal)
        for change, outcome in zip(changes, outcomes, strict=True):
            if outcome.result == "applied" and change.cause == "drift":
                self.backoff.corrected(change.name, now)
            elif outcome.result != "applied" and change.obstacle is None:
                # Undoing a group wakes its watches.
                self.backoff.denied(change.name, change.after, now)
        return outcomes

    def process(
        self, pid: int, cause: "Cause", now: float, *, in_pass: bool = False, is_watched: bool = False
    ) -> Outcome | None:
        """Apply the policy to one process; return None if there was nothing to do, or it has ended.

        A pass also corrects contended values, and finds inherited ones without fork events. `is_watched`: the
        watch on its value caused this.
        """
        outcome: Outcome | None = None
        for _ in range(2):  # what vanished may have become another
            handle = self.procfs.open(pid)
            if handle is None:
                self.managed.on_exit(pid)
                return outcome
            handle.is_to_write = True
            with handle:
                made = self._open_process(handle, cause, now, in_pass=in_pass, is_watched=is_watched)
            outcome = made or outcome
            if outcome is None or outcome.result != "vanished":
                break
            is_watched = False
        return outcome

    def _open_process(
        self, handle: ProcessHandle, cause: "Cause", now: float, *, in_pass: bool, is_watched: bool
    ) -> Outcome | None:
        made: Outcome | None = None
        try:
            change = self.next_change(handle, cause, in_pass=in_pass)
            made = None if change is None else self._apply(change, handle, now, in_pass=in_pass)
            if is_watched and (made is None or made.result in ("denied", "refused")):
                with suppress(*GONE, HIDDEN):
                    self.backoff.looked(handle.identity, now, handle.budget_key)
            is_left_alone = change is None or change.obstacle is not None
            if is_left_alone and self.inheritance.may_have_floor(handle, in_pass=in_pass):
                made = self._take_floor(handle) or made
        except UnknownFactError as error:  # one that only the write or the floor needs
            self.managed.on_unknown(handle, error)
        except OSError as error:
            self._not_read(error)
        return made

    def needs_nothing(self, pid: int) -> bool:
        """Return whether a process that an event was about needs nothing, by its name: most do not."""
        if self.managed.knows(pid):
            return False
        comm = self.procfs.comm(pid)
        return comm is None or not self.matching.matcher.candidates(comm)

    def next_change(
        self, handle: ProcessHandle, cause: "Cause", *, in_pass: bool = True
    ) -> SetOomScoreAdj | None:
        """Return the change that one process needs, or None; it may end meanwhile."""
        known = self.managed.known.get(handle.pid, NOTHING)
        if known.unchanged is not None and self.managed.is_unchanged(handle, known):
            return None
        executed_ns = self.managed.executed.get(handle.pid)
        if executed_ns is not None:
            self.procfs.slow_reads.disregard(handle.fd, before=executed_ns / 1e9)
        decision = self.decide_and_record(handle, in_pass=in_pass)
        return None if decision is None else decision.change(cause)

    def decide_and_record(self, handle: ProcessHandle, *, in_pass: bool = True) -> Decision | None:
        """Return the decision on a process, and record what later decisions need.

        None: no rule matches it, and it has inherited nothing; or it has ended, or cannot be read now.
        """
        managed = self.managed
        try:
            if not in_pass:
                handle.read_name_and_stat()  # most likely a rule matches it
            known = managed.recall(handle)
            finding = self.planner.find(handle, known, in_pass=in_pass)
            managed.update(handle, known, finding)
        except (*GONE, HIDDEN):
            managed.on_exit(handle.pid)
            return None
        except UnknownFactError as error:
            managed.on_unknown(handle, error)
            return None
        except OSError as error:
            self._not_read(error)
            return None
        if handle.pid in managed.executed and finding.unknown is None:
            managed.on_examined(handle.pid)
        return finding.decision

    def _not_read(self, error: OSError) -> None:
        """Record why a process cannot be read: it must not keep others waiting. OSError: in a shortage."""
        if error.errno in SHORTAGE:
            raise error
        reason = os.strerror(error.errno or errno.EIO)
        self.managed.unreadable[reason] = reason

    def _take_floor(self, handle: ProcessHandle) -> Outcome | None:
        outcome = take_floor(handle, self.ledger, self.privilege)
        if outcome is not None and outcome.result == "denied":
            self.inheritance.check_floor_again(handle.pid)
        elif outcome is not None:
            entry = self.inheritance.from_fork(handle.pid) or Entry(0, JUST_BELOW_ZERO, moved_floor=True)
            self.managed.on_reset(handle.pid, entry, handle.stat.parent_pid)
        return outcome

    def _apply(
        self, change: SetOomScoreAdj, handle: ProcessHandle, now: float, *, in_pass: bool = False
    ) -> Outcome | None:
        """Make a change, or return why it must wait; None if the kernel denied it just now.

        A pass writes every process's value. Protection that a process must not keep is removed at once.
        """
        is_repeatable = not in_pass and change.cause in ("drift", "restore") and not change.inherited
        if change.cause == "drift":
            self.managed.unread.discard(handle.pid)  # or it would be corrected each second, as in a pass
        if not self.backoff.is_idle:
            if self.backoff.is_denied(change.identity, change.after, now):
                self.managed.on_denied(handle.pid)
                self.still_denied(change)
                return None
            if not in_pass and (change.rule is not None or change.after <= change.before):
                user = _user(handle) if is_repeatable and self.backoff.limits_users else None
                if user is not None and self.backoff.is_spent(change.identity, now, user):
                    return _contended(change, f"the processes of {user} keep rewriting their values")
                if self.backoff.must_wait(change.identity, now):
                    return _contended(change, _REWRITTEN.format("it"))
        if self.inheritance.must_move_floor(change, handle):
            change = change._replace(moved_floor=True)
        entry, now_ticks = self.managed.known.get(handle.pid, NOTHING).entry, self.procfs.now_ticks()
        outcome = apply_oom_score_adj(
            change, handle, self.ledger, now_ticks=now_ticks, privilege=self.privilege
        )
        if outcome.result == "denied":
            self.managed.on_denied(handle.pid)
            self.backoff.denied(change.identity, change.after, now)
        elif outcome.result == "applied":
            self.inheritance.check_floor_again(handle.pid)
            if change.rule is None:
                entry = entry or self.managed.descents.get(handle.pid, UNRELATED).origin
                last = entry or Entry(change.own, change.before, moved_floor=change.moved_floor)
                self.managed.on_reset(handle.pid, last, handle.stat.parent_pid)
            if is_repeatable or change.cause == "drift":
                # To find the account takes reads: after the write, which is more urgent.
                self.backoff.corrected(change.identity, now, _user(handle) if is_repeatable else None)
        return outcome


def _contended(change: Change, why: str) -> Outcome:
    return Outcome(
        change,
        "contended",
        reason=why,
        hint="find the program that does, or change the policy; the other value may show which it is. "
        "oomguard waits longer each time before it corrects the value, until the next resync at most",
    )


def _user(handle: ProcessHandle) -> str | None:
    """Return the account for a write if others can cause it repeatedly; None if the process has ended.

    They can rewrite the value, or change their user back and forth, so that it is set and restored. The
    account is not looked up for a value that is set or inherited for the first time, as at each exec.
    """
    try:
        return handle.budget_key
    except (*GONE, HIDDEN):
        return None
