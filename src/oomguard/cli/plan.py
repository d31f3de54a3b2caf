"""`oomguard plan`: what would change, and by which rule, or what a restore would do."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from oomguard.cli.host import load_policy, open_preview
from oomguard.core.diff import Planned, SetSysctl
from oomguard.core.policy import Policy, counted
from oomguard.report.document import change_document, outcome_document, print_json, rule_document
from oomguard.report.text import sentence

if TYPE_CHECKING:
    import argparse

    from oomguard.core.diff import Cause, Change
    from oomguard.core.policy import Rule

WOULD_CHANGE = 3


def run(options: "argparse.Namespace") -> int:
    """Show the changes without applying them. Returns 3 if there are any."""
    cause: Cause = "restore" if options.restore else "policy"
    policy = Policy() if options.restore else load_policy(options)
    preview = open_preview(options, policy, needs_ledger=options.restore)
    left = preview.planner.left_alone() if options.restore else []
    planned = [Planned(change, None) for change in preview.sysctl_changes(cause)]
    matched: Counter[int] = Counter()
    unmatched: Counter[bytes] = Counter()
    for handle, judged in preview.processes():
        rule = None if judged is None else judged.decision.rule
        if rule is None:
            unmatched[handle.comm] += 1
        else:
            matched[rule.number] += 1
        change = None if judged is None else judged.change(cause)
        if change is not None:
            planned.append(Planned(change, rule))
    if options.json:
        print_json([*(_document(*one) for one in planned), *map(outcome_document, left)])
    else:
        from oomguard.report.plan_table import print_plan

        print_plan(planned, nothing=_nothing(options, matched.total()), is_restore=options.restore)
        for outcome in left:
            print(sentence(outcome))
        if not options.restore:
            from oomguard.report.plan_table import print_matched

            print_matched(policy.rules, matched, unmatched)
    return WOULD_CHANGE if planned else 0


def _document(change: "Change", rule: "Rule | None") -> dict[str, Any]:
    return change_document(change) | ({} if isinstance(change, SetSysctl) else rule_document(rule))


def _nothing(options: "argparse.Namespace", managed: int) -> str:
    if options.restore:
        return "Nothing to restore."
    return f"Nothing to change ({counted(managed, 'managed process', 'es')})."
