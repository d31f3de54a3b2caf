"""`oomguard test`: what a policy does with made-up processes and hosts, compared with what it should do."""

import argparse
import sys
from typing import TYPE_CHECKING

from oomguard.cli.verb import Verb, add, policy_path
from oomguard.report.streams import fitted

if TYPE_CHECKING:
    from oomguard.policy.fault import Fault

_DIFFERS, _BAD_FILE = 1, 78

_DETAIL = """\
A case file has processes and hosts, and the value, rule or refusal that each
should get. The daemon's code decides. Of this host, only the files are read.
oomguard.yaml(5) describes the format.

examples:
  oomguard test tests
  oomguard test --policy ./new.yaml tests/sshd.yaml   another policy
  oomguard test --json tests                          in a build

exit codes: 0 all as expected, 1 a case differs, 78 a file is missing or wrong
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        metavar="FILE",
        type=policy_path,
        help="test this policy, - for standard input, instead of those that the case files name",
    )
    add(parser, "--json")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a case file, - for standard input, or a folder: all *.yaml below it",
    )


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.case_runner import run_case
    from oomguard.policy.cases.case_file import case_files, load_cases
    from oomguard.policy.fault import PolicyError, render_text
    from oomguard.policy.source import name_of
    from oomguard.report.case_results import file_document, result_lines, summary
    from oomguard.report.change_document import print_json

    code, documents = 0, []
    found: dict[str, tuple[Fault, ...]] = {}
    for path in options.files:
        try:
            found |= dict.fromkeys(case_files(path), ())
        except PolicyError as error:
            found[path] = error.faults
    for path, unlisted in found.items():
        file = name_of(path)
        results, faults = [], unlisted
        try:
            results = [] if unlisted else [run_case(file, case) for case in load_cases(path, options.policy)]
        except PolicyError as error:
            faults = error.faults
        if faults:
            code = _BAD_FILE
        elif not all(result.passed for result in results):
            code = code or _DIFFERS
        documents.append(file_document(file, results, [fault._asdict() for fault in faults]))
        if not options.json:
            lines = [render_text(faults)] if faults else [*result_lines(results), summary(file, results)]
            print(fitted("\n".join(lines), sys.stdout))
    if options.json:
        print_json(documents)
    return code


VERB = Verb("test", "test the policy with made-up processes and hosts", _DETAIL, _arguments, _run)
