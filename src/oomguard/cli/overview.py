"""`oomguard` without a verb: an overview of this host."""

from oomguard.core.policy import DEFAULT_PATH
from oomguard.reconcile.state_folder import RUN_FOLDER


def run(policy: str = DEFAULT_PATH, state_dir: str = RUN_FOLDER, proc: str = "/proc") -> int:
    """Print it."""
    from oomguard.diagnose.overview import observe_overview
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.report.tables import console, grid, print_text

    seen = observe_overview(policy, ThisHost(state_dir, proc))
    rows = grid()
    for row in seen.rows:
        rows.add_row(*row)
    for text in seen.problems:
        rows.add_row("Problem", text, style="yellow")
    out = console()
    print_text(out, seen.headline, style="bold")
    out.print()
    out.print(rows)
    out.print()
    verbs = grid()
    for verb, what in (
        seen.verb,
        ("explain NAME", "why"),
        ("rank", "the kill order"),
        ("--help", "everything"),
    ):
        verbs.add_row(f"oomguard {verb}", what)
    out.print(verbs)
    if seen.option:
        out.print(f"For the policy of the daemon, add{seen.option}", soft_wrap=True)
    return 0
