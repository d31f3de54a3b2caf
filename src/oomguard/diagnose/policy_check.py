"""Everything found in one policy: by itself, on this host, and compared with a running daemon."""

import re
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.errors import OomguardError
from oomguard.core.policy import Policy, policy_option
from oomguard.core.text import counted, printable
from oomguard.diagnose.this_host import ThisHost, warn_if_hidden
from oomguard.kernel.timeout import TooLongError, within
from oomguard.policy.fault import Fault, PolicyError
from oomguard.policy.load import load
from oomguard.policy.source import STANDARD_INPUT, name_of
from oomguard.reconcile.matching import MATCH_SECONDS

if TYPE_CHECKING:
    from oomguard.diagnose.host_check import Fit

_FAR_TOO_LONG = 5
"""A margin, so that the result is the same on slower and on busy hosts: on a text of 400 characters, one more
`.*` in a pattern makes it take eighty times as long."""


def is_slow(pattern: re.Pattern[str], text: str) -> bool:
    """Return whether a search takes much more CPU time than the daemon allows."""
    try:
        within(_FAR_TOO_LONG * MATCH_SECONDS, lambda: pattern.search(text))
    except TooLongError:
        return True
    return False


class Checked(NamedTuple):
    """What was found in one policy. `policy` is None if it is not valid, `fit` if it was not compared.

    `options` are those that other verbs need for this policy and daemon.
    """

    name: str
    faults: tuple[Fault, ...]
    policy: Policy | None = None
    fit: "Fit | None" = None
    options: str = ""

    def passes(self, *, strict: bool) -> bool:
        """Return whether it is valid; with `strict`, without warnings too."""
        return all(fault.severity == "warning" and not strict for fault in self.faults)


def check_policy(path: str, host: ThisHost, *, alone: bool, with_host: bool) -> Checked:
    """Check a policy; `alone` leaves out its drop-ins, `with_host` compares it with the host."""
    name = name_of(path)
    try:
        facts = host.facts() if with_host else None
        policy, warnings = load(path, alone=alone, host=facts, trial=is_slow)
        if policy.left_out and path != STANDARD_INPUT:
            load(path, alone=alone, lints=False)  # what `when:` leaves out here must be right, too
    except PolicyError as error:
        return Checked(name, host.with_policy_in_use(error, path).faults)
    found: Fit | None = None
    options = policy_option(path) + host.options
    if with_host:
        from oomguard.diagnose.host_check import fit  # imported late: most calls do not need it

        with closing(host.open_preview(policy)) as preview:
            warn_if_hidden(preview.planner.procfs)
            found = fit(preview, name, options=options)
    faults = (*(found.faults if found else ()), *_with_losses(warnings, host))
    return Checked(name, faults, policy, found, options)


def _with_losses(warnings: tuple[Fault, ...], host: ThisHost) -> tuple[Fault, ...]:
    """Add to the warning about an empty file what a running daemon still enforces from it."""
    if all(fault.code != "empty-file" for fault in warnings):
        return warnings
    try:
        status = host.read_status()
    except OomguardError:
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
