"""`oomguard restore`: restore the original values."""

import sys
from typing import TYPE_CHECKING

from oomguard.cli.apply import report
from oomguard.cli.host import reconcile_once
from oomguard.core.diff import SetOomScoreAdj
from oomguard.core.policy import Policy
from oomguard.core.text import printable

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> int:
    """Reconcile with an empty policy, which restores every value in the ledger."""
    done = reconcile_once(options, Policy(), "restore")
    code = report(done.outcomes, as_json=options.json, nothing="nothing to restore")
    if not done.is_settled:
        last = done.outcomes[-1].change if done.outcomes else None
        example = f", such as {printable(last.comm)}" if isinstance(last, SetOomScoreAdj) else ""
        print(
            f"oomguard: processes{example} start faster than oomguard can check them: "
            "some may still have an inherited value\n"
            "  stop the program that starts them, then run oomguard restore again",
            file=sys.stderr,
        )
    return 1 if done.is_damaged or not done.is_settled else code
