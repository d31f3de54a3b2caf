"""`oomguard check`: validate the policy, and warn of mistakes."""

import time
from typing import TYPE_CHECKING, NamedTuple

from oomguard.cli.host import open_preview, read_status
from oomguard.cli.main import DEFAULT_POLICY
from oomguard.core.policy import counted
from oomguard.core.text import printable
from oomguard.kernel.timeout import TooLongError, within
from oomguard.policy.backtracking import NoTimeError
from oomguard.policy.fault import Fault, PolicyError, render_json, render_text
from oomguard.policy.load import load
from oomguard.policy.source import STANDARD_INPUT
from oomguard.reconcile.matching import MATCH_SECONDS
from oomguard.report.status_file import StatusError

if TYPE_CHECKING:
    import argparse
    import re

    from oomguard.core.policy import Policy
    from oomguard.diagnose.host_check import Fit

BAD_POLICY = 78

_FAR_TOO_LONG = 5
"""A margin, so that hosts of different speed give the same warnings."""

_TRIAL_SECONDS = 2
"""CPU time for trying all patterns of the policy."""


class _Checked(NamedTuple):
    """What was found in one policy. `policy` is None if it is not valid, `fit` if it was not compared."""

    name: str
    faults: "tuple[Fault, ...]"
    policy: "Policy | None" = None
    fit: "Fit | None" = None


def run(options: "argparse.Namespace") -> int:
    """Report every fault and warning of every file at once."""
    trial = Trial()
    checked = [_check(file, options, trial, alone=True) for file in options.files]
    if options.policy != DEFAULT_POLICY or not checked:
        checked.insert(0, _check(options.policy, options, trial, alone=False))
    faults = tuple(fault for one in checked for fault in one.faults)
    if options.json:
        print(render_json(faults))
    elif faults:
        print(render_text(faults))
    if not options.json:
        for one in checked:
            if one.policy is not None and _passes(one.faults, options):
                _print_valid(one.name, one.policy, one.fit)
    return 0 if _passes(faults, options) else BAD_POLICY


def _check(path: str, options: "argparse.Namespace", trial: "Trial", *, alone: bool) -> _Checked:
    try:
        policy, warnings = load(path, alone=alone, host=options.host, trial=trial)
    except PolicyError as error:
        return _Checked(path, error.faults)
    found: Fit | None = None
    if options.host:
        from oomguard.diagnose.host_check import fit

        found = fit(open_preview(options, policy), path)
    faults = (*(found.faults if found else ()), *_with_losses(warnings, options.state_dir))
    return _Checked(policy.files[0] if path == STANDARD_INPUT else path, faults, policy, found)


def _passes(faults: "tuple[Fault, ...]", options: "argparse.Namespace") -> bool:
    return not faults if options.strict else all(fault.severity == "warning" for fault in faults)


def _print_valid(name: str, policy: "Policy", found: "Fit | None") -> None:
    print(f"{name}: valid, {policy.origin}")
    if found is not None:
        from oomguard.report.plan_table import print_matched

        print_matched(policy.rules, found.matched, found.unmatched)
        if found.killable:
            print(found.killable)


def _with_losses(warnings: "tuple[Fault, ...]", state_dir: str) -> "tuple[Fault, ...]":
    """Add to the warning about an empty file what a running daemon still enforces from it."""
    if all(fault.code != "empty-file" for fault in warnings):
        return warnings
    try:
        status = read_status(state_dir)
    except (StatusError, PermissionError):
        status = None
    rules = () if status is None else status.rules

    def with_loss(fault: Fault) -> Fault:
        lost = [rule for rule in rules if rule.source.rpartition(":")[0] == printable(fault.file)]
        if fault.code != "empty-file" or not lost:
            return fault
        held = sum(rule.processes for rule in lost)
        return fault._replace(
            message=f"{fault.message}; {counted(len(lost), 'rule')} from it still match "
            f"{counted(held, 'process', 'es')}, which lose their value when it is loaded"
        )

    return tuple(with_loss(fault) for fault in warnings)


class Trial:
    """Finds patterns that take much longer than the daemon waits."""

    def __init__(self) -> None:
        self._until = time.process_time() + _TRIAL_SECONDS

    def __call__(self, pattern: "re.Pattern[str]", text: str) -> bool:
        """Search the text. NoTimeError: all searches together took too long."""
        if time.process_time() > self._until:
            raise NoTimeError
        try:
            within(_FAR_TOO_LONG * MATCH_SECONDS, lambda: pattern.search(text))
        except TooLongError:
            return True
        return False
