"""`oomguard check`: whether the policy is valid, and wise."""

import time
from typing import TYPE_CHECKING

from oomguard.cli.host import find_itself, open_procfs
from oomguard.kernel.alarm import TooLongError, within
from oomguard.policy.backtracking import NoTimeError
from oomguard.policy.fault import Fault, PolicyError, render_json, render_text
from oomguard.policy.load import load
from oomguard.reconcile.planner import MATCH_SECONDS

if TYPE_CHECKING:
    import argparse
    import re

    from oomguard.core.policy import Policy

BAD_POLICY = 78

_FAR_TOO_LONG = 5
"""So that what is slow on one host and not on another is no warning on either."""

_TRIAL_SECONDS = 2
"""CPU time for trying patterns, those of the whole policy."""


def run(options: "argparse.Namespace") -> int:
    """Report every fault and warning of every file at once."""
    killable = ""
    try:
        loaded = load(options.policy, host=options.host, trial=Trial())
    except PolicyError as error:
        faults: tuple[Fault, ...] = error.faults
        valid = False
    else:
        misfits: list[Fault] = []
        if options.host:
            misfits, killable = _held_against_host(loaded.policy, options)
        faults = (*misfits, *loaded.warnings)
        valid = all(fault.severity == "warning" for fault in faults) and not (options.strict and faults)
    if options.json:
        print(render_json(faults))
    elif faults:
        print(render_text(faults))
    if valid and not options.json:
        policy = loaded.policy
        print(f"{options.policy}: valid, {policy.origin}")
        if killable:
            print(killable)
    return 0 if valid else BAD_POLICY


def _held_against_host(policy: "Policy", options: "argparse.Namespace") -> tuple[list[Fault], str]:
    from oomguard.cli.fit import misfits

    procfs = open_procfs(options)
    try:
        return misfits(policy, procfs, options.policy, find_itself(options.state_dir, procfs))
    finally:
        procfs.close()


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
