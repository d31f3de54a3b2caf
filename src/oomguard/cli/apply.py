"""`oomguard apply`: one pass."""

from typing import TYPE_CHECKING

from oomguard.cli.host import load_policy, reconcile_once
from oomguard.report.document import outcome_document, print_json
from oomguard.report.text import sentence

if TYPE_CHECKING:
    import argparse

    from oomguard.core.diff import Outcome


def run(options: "argparse.Namespace") -> int:
    """Apply the policy once, and print the result of each change."""
    done = reconcile_once(options, load_policy(options), "policy")
    return report(done.outcomes, as_json=options.json, nothing="nothing to change")


def report(outcomes: "list[Outcome]", *, as_json: bool, nothing: str) -> int:
    """Print outcomes, or that there was `nothing`; return 1 if one was denied or refused."""
    if as_json:
        print_json([outcome_document(outcome) for outcome in outcomes])
    else:
        hints: dict[str, None] = {}  # each once, in order
        for outcome in outcomes:
            print(sentence(outcome))
            if outcome.hint:
                hints[outcome.hint] = None
        for hint in hints:
            print(f"  {hint}")
        if not outcomes:
            print(nothing)
    return 1 if any(outcome.result in ("denied", "refused") for outcome in outcomes) else 0
