"""`oomguard status`: whether the daemon runs, what it manages, and its problems."""

import argparse
import os
import shlex

from oomguard.cli.verb import Verb, add
from oomguard.core.policy import DEFAULT_PATH

NOT_AS_WANTED = 1

_DETAIL = """\
Reads the status file of the daemon; needs no root. If no daemon runs, it shows
how many values set by oomguard are still in force, and the policy's sysctls.

examples:
  oomguard status
  oomguard status --json
  oomguard status --exit-code >/dev/null || echo "check oomguard on $(hostname)"

exit codes: 0 shown; 1 the status file cannot be read, or with --exit-code:
            no daemon runs, or it hangs, its policy is not valid, or a value
            differs from it
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--policy", "--state-dir", "--proc", "--json")
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="for monitoring: exit with 1 if anything differs from the policy",
    )


def _run(options: argparse.Namespace) -> int:
    import time

    from oomguard.diagnose.host_status import observe_status, values_in_force
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.report.change_document import print_json
    from oomguard.report.status_file import as_document
    from oomguard.report.streams import complain

    host = ThisHost(options.state_dir, options.proc)
    seen = observe_status(options.policy, host)
    if options.policy != DEFAULT_PATH and (daemon := seen.daemon) is not None:
        _say_ignored(options.policy, daemon.policy.path)
    if options.json:
        print_json(
            {
                "running": seen.daemon is not None,
                "sysctls": [as_document(row) | {"actual": actual} for row, actual in seen.sysctls],
                "memory": None if seen.memory is None else seen.memory._asdict(),
                "peak": None if seen.peak is None else seen.peak._asdict(),
                "policy_error": None if seen.policy_error is None else seen.policy_error.message,
                "lock_holder": seen.lock_holder,
                "daemon": None if seen.status is None else as_document(seen.status),
            }
        )
    else:
        from oomguard.report.status_table import print_status, print_stopped

        option = host.options
        if seen.daemon is not None:
            print_status(seen, seen.daemon, option)
        else:
            in_force = values_in_force(host)
            print_stopped(seen, in_force, option)
    if seen.damage:
        complain(seen.damage)
        return 1
    return NOT_AS_WANTED if options.exit_code and not seen.is_as_wanted(time.monotonic()) else 0


def _say_ignored(given: str, used: str) -> None:
    """Print that --policy has no effect, if it is not the policy that the daemon uses."""
    from oomguard.core.text import printable
    from oomguard.report.streams import complain

    if printable(os.path.abspath(given)) != used:
        complain(
            f"oomguard: --policy {printable(given)} is ignored: the daemon uses {used}\n"
            f"  to compare them, run oomguard plan --policy {shlex.quote(printable(given))}"
        )


VERB = Verb(
    "status", "show whether the daemon runs, what it manages, and its problems", _DETAIL, _arguments, _run
)
