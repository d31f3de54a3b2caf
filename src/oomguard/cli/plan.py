"""`oomguard plan`: what would change, and by which rule, or what a restore would do."""

import argparse
from contextlib import closing

from oomguard.cli.restore import unseen
from oomguard.cli.verb import Verb, add
from oomguard.core.choices import Cause
from oomguard.core.policy import DEFAULT_PATH

WOULD_CHANGE = 3

_DETAIL = """\
Shows what `apply` would do, and `run` when it starts. Writes nothing, and can
run while the daemon does. With --restore, it shows what `restore` would do, and
what it would leave alone.

examples:
  oomguard plan
  oomguard plan --policy ./new.yaml
  oomguard plan --restore

exit codes: 0 nothing would change, 1 /proc or the state folder cannot be read,
            3 something would change, is refused, or is hidden (hidepid=),
            78 the policy is not valid
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    whose = parser.add_mutually_exclusive_group()
    add(whose, "--policy")
    add(parser, "--state-dir", "--proc", "--json")
    whose.add_argument("--restore", action="store_true", help="show what `oomguard restore` would do")


def _run(options: argparse.Namespace) -> int:
    """Show the changes without applying them. Returns 3 if there are any, refused ones included."""
    from oomguard.core.change import Planned
    from oomguard.core.policy import Policy, policy_option
    from oomguard.core.tally import Tally
    from oomguard.core.text import counted, printable
    from oomguard.diagnose.this_host import ThisHost, warn_if_hidden
    from oomguard.policy.source import name_of
    from oomguard.report.change_document import outcome_document, planned_document, print_json
    from oomguard.report.status_file import UNREADABLE
    from oomguard.report.streams import complain

    host = ThisHost(options.state_dir, options.proc)
    policy = Policy() if options.restore else host.load(options.policy)
    host.warn_of_missing(policy)
    cause: Cause = "restore" if options.restore else "policy"
    tally = Tally()
    with closing(host.open_preview(policy, needs_ledger=options.restore)) as preview:
        left = preview.planner.left_alone() if options.restore else []
        planned = [Planned(change, None) for change in preview.sysctl_changes(cause)]
        for handle, decision in preview.processes():
            preview.count(handle, decision, tally)
            change = None if decision is None else decision.change(cause)
            if decision is not None and change is not None:
                planned.append(Planned(change, decision.rule))
        hidden = preview.hidden if options.restore else 0
        is_hidden = not options.restore and warn_if_hidden(preview.planner.procfs)
    for reason in preview.unreadable:
        complain(f"oomguard: {UNREADABLE}: {reason}")
    code = WOULD_CHANGE if planned or hidden or is_hidden else 0
    if hidden:
        verb = f"plan --restore{host.options}"
        complain(unseen(hidden, verb, "what a restore would do to them is not shown"))
    if options.json:
        print_json([*map(planned_document, planned), *map(outcome_document, left)])
        return code
    from oomguard.report.plan_table import print_matched, print_plan

    managed = counted(tally.matched.total(), "managed process", "es")
    nothing = "Nothing to restore." if options.restore else f"Nothing to change ({managed})."
    print_plan(planned, nothing=nothing, is_restore=options.restore, left=left)
    if not options.restore:
        print_matched(policy.rules, tally, options=policy_option(policy.path) + host.options)
        for file in policy.left_out:
            print(file)
        drops = any(one.change.cause == "restore" for one in planned)
        if drops and options.policy != DEFAULT_PATH == preview.policy_in_use:
            named = printable(name_of(options.policy))
            print(f"{named} would replace the running policy; to add it instead, copy it to /etc/oomguard.d.")
    return code


VERB = Verb("plan", "show what would change, and by which rule", _DETAIL, _arguments, _run)
