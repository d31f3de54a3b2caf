"""`oomguard check`: whether the policy is valid, and wise."""

import time
from typing import TYPE_CHECKING

from oomguard.cli.host import open_preview, read_status
from oomguard.core.policy import counted
from oomguard.core.text import printable
from oomguard.kernel.alarm import TooLongError, within
from oomguard.policy.backtracking import NoTimeError
from oomguard.policy.fault import Fault, PolicyError, render_json, render_text
from oomguard.policy.load import load
from oomguard.reconcile.planner import MATCH_SECONDS
from oomguard.report.status_document import StatusError

if TYPE_CHECKING:
    import argparse
    import re

    from oomguard.cli.fit import Fit

BAD_POLICY = 78

_FAR_TOO_LONG = 5
"""So that what is slow on one host and not on another is no warning on either."""

_TRIAL_SECONDS = 2
"""CPU time for trying patterns, those of the whole policy."""


def run(options: "argparse.Namespace") -> int:
    """Report every fault and warning of every file at once."""
    found: Fit | None = None
    try:
        loaded = load(options.policy, host=options.host, trial=Trial())
    except PolicyError as error:
        faults: tuple[Fault, ...] = error.faults
        valid = False
    else:
        loaded = loaded._replace(warnings=_with_losses(loaded.warnings, options.state_dir))
        if options.host:
            from oomguard.cli.fit import fit

            found = fit(open_preview(options, loaded.policy), options.policy)
        faults = (*(found.faults if found else ()), *loaded.warnings)
        valid = all(fault.severity == "warning" for fault in faults) and not (options.strict and faults)
    if options.json:
        print(render_json(faults))
    elif faults:
        print(render_text(faults))
    if valid and not options.json:
        policy = loaded.policy
        print(f"{options.policy}: valid, {policy.origin}")
        if found is not None:
            from oomguard.report.plan_table import print_matched

            print_matched(policy.rules, found.matched, found.unmatched)
            if found.killable:
                print(found.killable)
    return 0 if valid else BAD_POLICY


def _with_losses(warnings: "tuple[Fault, ...]", state_dir: str) -> "tuple[Fault, ...]":
    """Say of each empty file what a daemon that has not read it yet still enforces from it."""
    if all(fault.code != "empty-file" for fault in warnings):
        return warnings
    try:
        document = read_status(state_dir)
    except (StatusError, PermissionError):
        document = None
    rules = [] if document is None else document["rules"]

    def with_loss(fault: Fault) -> Fault:
        lost = [rule for rule in rules if rule["source"].rpartition(":")[0] == printable(fault.file)]
        if fault.code != "empty-file" or not lost:
            return fault
        held = sum(rule["processes"] for rule in lost)
        return fault._replace(
            message=f"{fault.message}; {counted(len(lost), 'rule')} from it still match "
            f"{counted(held, 'process', 'es')}, which lose their value when it is loaded"
        )

    return tuple(with_loss(fault) for fault in warnings)


class Trial:
    """Tells whether a search takes far longer than the daemon waits."""

    def __init__(self) -> None:
        self._until = time.process_time() + _TRIAL_SECONDS

    def __call__(self, pattern: "re.Pattern[str]", text: str) -> bool:
        """Search the text; raise NoTimeError when all searches together have taken too long."""
        if time.process_time() > self._until:
            raise NoTimeError
        try:
            within(_FAR_TOO_LONG * MATCH_SECONDS, lambda: pattern.search(text))
        except TooLongError:
            return True
        return False
