"""Passes until one finds nothing to change: a process forked during a pass is not in its list."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.core.change import Outcome
    from oomguard.core.choices import Cause
    from oomguard.reconcile.reconciler import Reconciler

LONGEST_SECONDS = 10.0
"""How long processes may start faster than they are examined before `repeat_until_quiet` gives up."""


def repeat_until_quiet(
    reconciler: "Reconciler", cause: "Cause", clock: "Callable[[], float]" = time.monotonic
) -> "tuple[list[Outcome], bool]":
    """Return the last outcome of each target, and whether every process was examined.

    After a pass, examine the processes that started meanwhile, until a round changes none of them and none of
    them ends unseen: it may have forked before. If any pass or round changed something, there is another
    pass.
    """
    procfs = reconciler.procfs
    outcomes: dict[object, Outcome] = {}
    deadline = clock() + LONGEST_SECONDS

    def take(outcome: "Outcome | None") -> bool:
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
