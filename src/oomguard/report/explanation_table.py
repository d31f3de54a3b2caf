"""What `oomguard explain` prints."""

from collections.abc import Sequence

from rich.table import Table

from oomguard.core.cgroup import system_unit
from oomguard.core.rule import CONDITIONS
from oomguard.core.text import counted, legible, printable
from oomguard.report.explanation import Explanation, Tried
from oomguard.report.plan_table import place
from oomguard.report.tables import console, grid, print_text

_SHOWN = 30
"""Rules for other names that are shown; a policy may have thousands."""

_KEYS = {row.key for row in CONDITIONS}
_PIDS = 8
"""Pids shown of processes that differ in nothing else."""


def print_explanation(alike: Sequence[Explanation]) -> None:
    """Print the explanation of one process, or of several that differ only in their pid."""
    explanation = alike[0]
    process = explanation.process
    out = console()
    unit = legible(system_unit(process.cgroup))
    pids = [str(pid) for pid in sorted(one.process.identity.pid for one in alike)]
    if len(pids) > _PIDS:
        pids[_PIDS:] = [f"and {len(pids) - _PIDS} more"]
    user = f"{explanation.user} (uid {process.uid})" if explanation.user else f"uid {process.uid}"
    out.print(
        f"{printable(process.comm)}[{', '.join(pids)}]  {user}"
        f"{f', {unit}' if unit else ''}, oom_score_adj {process.oom_score_adj}",
        style="bold",
    )
    others = [t for t in explanation.tried if t.unmet == "name"]
    shown = explanation.tried
    if len(others) > _SHOWN:
        shown = [t for t in shown if t.unmet != "name"]
        out.print(f"  {counted(len(others), 'rule')} for other names, not shown")
    if shown:
        out.print(_tried_table(shown))
    print_text(out, f"→ {explanation.verdict}")
    decision = explanation.decision
    if decision.obstacle is not None and decision.obstacle.hint:
        print_text(out, decision.obstacle.hint, indent=2)
    if explanation.paste:
        what = "to match it, add this under `rules:`, with the value you want:"
        what = what if decision.rule is None else "for this user's processes, add this above that rule:"
        print_text(out, what, indent=2)
        out.print(f"  {explanation.paste}", soft_wrap=True)


def _tried_table(shown: Sequence[Tried]) -> Table:
    """Return the rules, and the condition of each that failed."""
    made = grid()
    for tried in shown:
        answer, style = ("no", "") if tried.unmet else ("yes", "green")
        answer = "?" if tried.unmet == "unknown" else answer
        verb = " is" if tried.unmet in _KEYS else ":"
        what = f"{tried.unmet}{verb} {tried.found}" if tried.unmet else f"wants {tried.rule.terms.value}"
        made.add_row("", f"{tried.rule.label} ({place(tried.rule)})", answer, what, style=style)
    return made
