"""`oomguard plan`: what would change, and by which rule, or what a restore would do."""

from typing import TYPE_CHECKING

from oomguard.cli.host import load_policy, open_planner
from oomguard.core.policy import Policy, counted
from oomguard.report.document import change_document, outcome_document, print_json
from oomguard.report.text import sentence

if TYPE_CHECKING:
    import argparse

    from oomguard.core.plan import Cause, Change

WOULD_CHANGE = 3


def run(options: "argparse.Namespace") -> int:
    """Show the pipe's changes without applying them."""
    cause: Cause = "restore" if options.restore else "policy"
    policy = Policy() if options.restore else load_policy(options)
    planner = open_planner(options, policy, needs_ledger=options.restore)
    left = planner.left_alone() if options.restore else []
    changes: list[Change] = [*planner.sysctl_changes(cause)]
    changes += [change for change, _ in planner.process_changes(cause)]
    if options.json:
        print_json([*map(change_document, changes), *map(outcome_document, left)])
    else:
        from oomguard.report.tables import print_plan

        nothing = (
            "Nothing to restore."
            if options.restore
            else "Nothing to change: the host is as the policy asks "
            f"({counted(len(planner.rule_of), 'process', 'es')} held)."
        )
        print_plan(changes, nothing=nothing)
        for outcome in left:
            print(sentence(outcome))
    return WOULD_CHANGE if changes else 0
