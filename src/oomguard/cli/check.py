"""`oomguard check`: validate the policy, and warn of mistakes."""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from oomguard.cli.verb import Verb, add
from oomguard.core.policy import DEFAULT_PATH
from oomguard.core.text import printable
from oomguard.report.streams import fitted

if TYPE_CHECKING:
    from oomguard.diagnose.policy_check import Checked

_DETAIL = """\
Reports every error in every file, with line, column and a fix. Changes nothing.
Without --host, it reads only the files, so it runs anywhere. docs/lint.md lists
the codes in brackets.

examples:
  oomguard check
  oomguard check --policy ./new.yaml --host
  oomguard check --policy ./new.yaml --strict --json   in a build
  oomguard check --strict site.yaml drop-in.yaml       each file alone

exit codes: 0 valid, 1 the host cannot be read (with --host),
            78 not valid (or, with --strict, a warning)
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--policy", "--state-dir", "--json", "--proc")
    parser.set_defaults(policy=None)
    parser.add_argument(
        "--host", action="store_true", help="also check it against this host: users, sysctls, limits"
    )
    parser.add_argument("--strict", action="store_true", help="fail on warnings, too")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="check each of these files alone; - is standard input",
    )


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.policy_check import check_policy
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.policy.fault import PolicyError, render_text
    from oomguard.report.change_document import print_json

    check = partial(check_policy, host=ThisHost(options.state_dir, options.proc), with_host=options.host)
    found = [check(file, alone=True) for file in options.files]
    if options.policy is not None or not found:
        found.insert(0, check(options.policy or DEFAULT_PATH, alone=False))
    faults = tuple(fault for one in found for fault in one.faults)
    if options.json:
        print_json([fault._asdict() for fault in faults])
    else:
        if faults:
            print(fitted(render_text(faults), sys.stdout))
        for one in found:
            if one.passes(strict=options.strict):
                _print_valid(one)
    return 0 if all(one.passes(strict=options.strict) for one in found) else PolicyError.exit_code


def _print_valid(one: "Checked") -> None:
    assert one.policy is not None
    print(fitted(f"{printable(one.name)}: valid, {one.policy.origin}", sys.stdout))
    if one.fit is not None:
        for setting in (setting for setting in one.policy.sysctls if setting.said):
            print(fitted(setting.meaning, sys.stdout))
        from oomguard.report.plan_table import print_matched

        print_matched(one.policy.rules, one.fit.tally, options=one.options)
        if one.fit.memory:
            print(fitted(one.fit.memory, sys.stdout))


VERB = Verb("check", "validate the policy with all its layers", _DETAIL, _arguments, _run)
