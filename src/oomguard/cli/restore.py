"""`oomguard restore`: everything as it was."""

from typing import TYPE_CHECKING

from oomguard.cli.apply import report
from oomguard.cli.host import reconcile_once
from oomguard.core.policy import Policy

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> int:
    """Reconcile with a policy that asks for nothing: what the ledger knows goes back."""
    done = reconcile_once(options, Policy(), "restore")
    code = report(done.outcomes, as_json=options.json, nothing="nothing to restore")
    return 1 if done.is_damaged else code
