"""`oomguard plan`: what would change, and by which rule."""

from typing import TYPE_CHECKING

from oomguard.cli.host import load_policy, open_planner
from oomguard.report.document import change_document, print_json

if TYPE_CHECKING:
    import argparse

    from oomguard.core.plan import Change

WOULD_CHANGE = 3


def run(options: "argparse.Namespace") -> int:
    """Show the pipe's changes without applying them."""
    policy = load_policy(options)
    planner = open_planner(options, policy)
    changes: list[Change] = [*planner.sysctl_changes("policy")]
    changes += [change for change, _ in planner.process_changes("policy")]
    if options.json:
        print_json([change_document(change) for change in changes])
    else:
        from oomguard.report.tables import print_plan

        print_plan(changes, held=len(planner.rule_of))
    return WOULD_CHANGE if changes else 0
