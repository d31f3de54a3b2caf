"""One pass by a process that is not the daemon, or as many as a restore needs."""

import time
from collections.abc import Callable
from typing import NamedTuple

from oomguard.core.change import Outcome
from oomguard.core.choices import Cause
from oomguard.core.overcommit import Peak
from oomguard.core.policy import Policy
from oomguard.kernel.floor import SysResource
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import open_hosts_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import open_state_folder, require_ledger, require_state_folder

LONGEST_SECONDS = 10.0
"""How long processes may start faster than they are examined before `repeat_until_quiet` gives up."""


class Pass(NamedTuple):
    """The result: `outcomes` ends with what a restore left alone.

    `lost_lines` of the ledger could not be read, so their original values are unknown. `hidden` processes
    have an original value, and /proc hides them. `is_complete`: every other process was examined.
    `unreadable` says why some could not be read.
    """

    outcomes: list[Outcome]
    lost_lines: int
    hidden: int
    is_complete: bool = True
    unreadable: tuple[str, ...] = ()


def reconcile_once(
    policy: Policy,
    cause: Cause,
    procfs: Procfs,
    state_dir: str,
    *,
    promised_peak: Callable[[], Peak | None],
) -> Pass:
    """Apply a policy as the only writer: in one pass, or for a restore in as many as needed.

    OomguardError: another process, such as the daemon, holds the state folder, or there is none to restore
    from.
    """
    if cause == "restore":
        require_state_folder(state_dir)
    folder = open_state_folder(state_dir)
    if cause == "restore":
        require_ledger(folder)
    folder.lock()
    ledger = open_hosts_ledger(folder, procfs, to_restore=cause == "restore")
    try:
        reconciler = Reconciler(policy, ledger, procfs, SysResource(), promised_peak=promised_peak)
        if cause == "restore":
            left = reconciler.planner.left_alone()
            outcomes, is_complete = repeat_until_quiet(reconciler, cause)
            outcomes += left
        else:
            outcomes, is_complete = [*reconciler.everything(cause, time.monotonic())], True
        unreadable = tuple(sorted(reconciler.managed.unreadable.values()))
        return Pass(outcomes, ledger.ignored_lines, ledger.hidden(procfs), is_complete, unreadable)
    finally:
        ledger.close()
        folder.close()
        procfs.close()


def repeat_until_quiet(
    reconciler: Reconciler, cause: Cause, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Outcome], bool]:
    """Return the last outcome of each target, and whether every process was examined.

    After a pass, examine the processes that started meanwhile, until a round changes none of them and none of
    them ends unseen: it may have forked before. If any pass or round changed something, there is another
    pass.
    """
    procfs = reconciler.procfs
    outcomes: dict[object, Outcome] = {}
    deadline = clock() + LONGEST_SECONDS

    def take(outcome: Outcome | None) -> bool:
        if outcome is None or outcome.result == "vanished":
            return False
        outcomes[outcome.change.target] = outcome
        return outcome.result == "applied"

    while True:
        examined = set(procfs.pids())
        changed = sum(take(outcome) for outcome in reconciler.everything(cause, clock()))
        is_quiet = False
        while not is_quiet:
            listed = set(procfs.pids())
            late = listed - examined
            changed_late = sum(
                take(reconciler.process(pid, cause, clock(), in_pass=True)) for pid in sorted(late)
            )
            changed += changed_late
            is_quiet = not changed_late and late <= set(procfs.pids())
            examined = listed
            if clock() > deadline:
                return list(outcomes.values()), False
        if not changed:
            return list(outcomes.values()), True
