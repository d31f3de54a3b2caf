"""`oomguard explain`: every rule tried on a process, and which condition failed on which value."""

import argparse
from contextlib import closing

from oomguard.cli.verb import Verb, add

_DETAIL = """\
oomguard tries the rules in order, and the first one that matches decides.
A name stands for every process with that name, and cron[812] for one.

examples:
  oomguard explain 812
  oomguard explain postgres
  oomguard explain 812 --policy ./new.yaml     under a new policy

exit codes: 0 explained, 1 there is no such process, 78 the policy is not valid
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--policy", "--state-dir", "--proc", "--json")
    parser.add_argument("process", metavar="PID|NAME", nargs="+", help="a pid, or a process name")


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.explain import explain, renamed
    from oomguard.diagnose.this_host import ThisHost, warn_if_hidden
    from oomguard.report.change_document import print_json
    from oomguard.report.explanation import alike, explanation_document
    from oomguard.report.streams import complain

    host = ThisHost(options.state_dir, options.proc)
    with closing(host.open_preview(host.load(options.policy))) as preview:
        warn_if_hidden(preview.planner.procfs)
        explanations, errors = explain(preview, options.process)
    for note in renamed(explanations, options.process):
        complain(f"oomguard: {note}")
    if explanations and options.json:
        print_json([explanation_document(one) for one in explanations])
    elif explanations:
        from oomguard.report.explanation_table import print_explanation

        for number, group in enumerate(alike(explanations)):
            print(end="\n" if number else "")
            print_explanation(group)
    if errors:
        *others, last = errors
        for error in others:
            complain(error.for_stderr)
        raise last
    return 0


VERB = Verb(
    "explain", "show which rules match a process, and which condition failed", _DETAIL, _arguments, _run
)
