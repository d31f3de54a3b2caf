"""`oomguard apply`: one pass."""

import argparse
import sys
from typing import TYPE_CHECKING

from oomguard.cli.verb import Verb, add
from oomguard.core.choices import Cause

if TYPE_CHECKING:
    from oomguard.core.policy import Policy
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.reconcile.once import Pass

_DETAIL = """\
Makes one pass, prints each change and exits; processes that start later are not
changed. Refused while a daemon runs. To undo it, run `oomguard restore`.

examples:
  oomguard apply
  oomguard plan --policy ./new.yaml; oomguard apply --policy ./new.yaml

exit codes: 0 done, 78 the policy is not valid,
            1 a change failed or was refused, or a process could not be read
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--policy", "--state-dir", "--proc", "--json")


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.this_host import ThisHost

    host = ThisHost(options.state_dir, options.proc)
    policy = host.load(options.policy)
    host.warn_of_missing(policy)
    done = reconcile(host, policy, "policy")
    code = report(done, as_json=options.json, nothing="Nothing to change.", applied="changed")
    return 1 if done.unreadable else code


def reconcile(host: "ThisHost", policy: "Policy", cause: Cause) -> "Pass":
    """Apply a policy; warn if original values are lost."""
    from oomguard.core.text import counted, printable
    from oomguard.reconcile.once import reconcile_once
    from oomguard.report.status_file import UNREADABLE
    from oomguard.report.streams import complain

    done = reconcile_once(policy, cause, host.open_procfs(), host.state_dir, promised_peak=host.peak_source())
    if done.lost_lines:
        complain(
            f"oomguard: {counted(done.lost_lines, 'line')} of {printable(host.state_dir)}/ledger cannot be "
            "read, so some values cannot be restored; the file is kept as ledger.damaged"
        )
    for reason in done.unreadable:
        complain(f"oomguard: {UNREADABLE}: {reason}")
    return done


def report(done: "Pass", *, as_json: bool, nothing: str, applied: str) -> int:
    """Print outcomes (`applied`: what success is called), or `nothing`; return 1 if one was not made."""
    from oomguard.report.change_document import outcome_document, print_json
    from oomguard.report.outcome_list import outcome_lines
    from oomguard.report.streams import fitted

    if as_json:
        print_json([outcome_document(outcome) for outcome in done.outcomes])
    else:
        lines = outcome_lines(done.outcomes, applied=applied) if done.outcomes else [nothing]
        print(fitted("\n".join(lines), sys.stdout))
    return 1 if any(outcome.result in ("denied", "refused") for outcome in done.outcomes) else 0


VERB = Verb("apply", "apply the policy once", _DETAIL, _arguments, _run)
