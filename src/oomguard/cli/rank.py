"""`oomguard rank`: which process the kernel would kill first, now and under the policy."""

import argparse
from contextlib import closing

from oomguard.cli.verb import MisuseError, Verb, add, count
from oomguard.core.policy import DEFAULT_PATH

_LIMIT = 20
_INTERVAL = 2

_DETAIL = """\
Uses the kernel's own formula: memory in RAM, swap and page tables, plus
oom_score_adj. SCORE is that sum, in percent of the memory that runs out.
Without a policy file, it shows only the kernel's order. See docs/rank.md.

examples:
  oomguard rank
  oomguard rank --policy ./new.yaml              the order under a new policy
  oomguard rank --cgroup /system.slice/app.service   when it reaches its limit
  oomguard rank --watch

keys of --watch: k kill order, p order under the policy, m memory, + growth,
                 v value, n name, / filter, Esc no filter, q quit,
                 arrows, Page Up/Down, Home and End scroll

exit codes: 0 shown, 1 cannot be calculated, 78 the policy is not valid
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--policy", "--state-dir", "--proc")
    parser.add_argument(
        "--cgroup", metavar="PATH", help="rank the processes of a memory cgroup, against its limit"
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=count,
        help="processes to show, 0 for all (default: 20, and all with --json)",
    )
    shown = parser.add_mutually_exclusive_group()
    add(shown, "--json")
    shown.add_argument("--watch", action="store_true", help="update until q is pressed")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, help=f"interval of --watch (default: {_INTERVAL})"
    )


def _seconds(text: str) -> float:
    """Return an interval of at least 0.1 s. ArgumentTypeError: it is not one."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be seconds from 0.1 to 86400, got {text!r}")
    return seconds


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.ranker import open_ranker
    from oomguard.diagnose.this_host import ThisHost, has_policy
    from oomguard.report.change_document import print_json
    from oomguard.report.rank_view import rank_document

    if options.interval is not None and not options.watch:
        raise MisuseError("--interval needs --watch; see oomguard rank --help")
    if options.limit is not None and options.watch:
        raise MisuseError("--limit cannot be combined with --watch, which scrolls; see oomguard rank --help")
    if options.watch:
        from oomguard.cli.watch import refuse_no_terminal, watch

        refuse_no_terminal()
    host, policy = ThisHost(options.state_dir, options.proc), None
    if options.policy != DEFAULT_PATH or has_policy(options.policy):
        policy = host.load(options.policy)
    with closing(open_ranker(policy, host, cgroup=options.cgroup)) as ranker:
        if options.watch:
            return watch(ranker.look, interval_seconds=options.interval or _INTERVAL)
        view = ranker.look()
    if options.json:
        print_json(rank_document(view, limit=options.limit or 0))
    else:
        from oomguard.report.rank_table import print_ranking

        print_ranking(view, limit=_LIMIT if options.limit is None else options.limit)
    return 0


VERB = Verb(
    "rank",
    "show which process the kernel would kill first, now and under the policy",
    _DETAIL,
    _arguments,
    _run,
)
