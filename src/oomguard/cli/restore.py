"""`oomguard restore`: everything as it was."""

from typing import TYPE_CHECKING

from oomguard.cli.apply import report
from oomguard.cli.host import reconcile_once
from oomguard.core.policy import Policy

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> int:
    """Reconcile with a policy that asks for nothing: what the ledger knows goes back."""
    return report(reconcile_once(options, Policy(), "restore"), as_json=options.json)
