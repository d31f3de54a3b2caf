"""The command line: which verbs there are, what they take, and which function each calls."""

import argparse
import importlib

from oomguard import __version__

DEFAULT_POLICY = "/etc/oomguard.yaml"
DEFAULT_STATE_DIR = "/run/oomguard"

_DESCRIPTION = "Declares, enforces and explains Linux memory policy: overcommit, panic_on_oom, oom_score_adj."

_EPILOG = """\
examples:
  oomguard check                     is /etc/oomguard.yaml valid?
  oomguard plan                      what would change on this host, and why?
  oomguard apply                     change it, once
  oomguard run                       change it, and keep it so
  oomguard explain sshd              which rule holds sshd, and why not another?
  oomguard restore                   put everything back as it was

exit codes: 0 done, 1 a change failed or was refused, 2 bad usage,
            3 plan found something to change, 78 the policy is not valid
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; completions and the manual are made from it."""
    parser = argparse.ArgumentParser(
        prog="oomguard",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"oomguard {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    policy = argparse.ArgumentParser(add_help=False)
    policy.add_argument(
        "--policy",
        metavar="FILE",
        default=DEFAULT_POLICY,
        help="the policy; drop-ins are *.yaml in the .d folder beside it (default: %(default)s)",
    )
    state = argparse.ArgumentParser(add_help=False)
    state.add_argument(
        "--state-dir",
        metavar="DIR",
        default=DEFAULT_STATE_DIR,
        help="folder of ledger, lock and status (default: %(default)s)",
    )
    proc = argparse.ArgumentParser(add_help=False)
    proc.add_argument(
        "--proc", metavar="DIR", default="/proc", help="where proc is mounted (default: %(default)s)"
    )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON for programs")

    def verb(
        name: str, summary: str, *parents: argparse.ArgumentParser, detail: str = ""
    ) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=detail or None,
            parents=list(parents),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    check = verb(
        "check",
        "validate the policy and every drop-in",
        policy,
        as_json,
        proc,
        detail="example:\n  oomguard check --policy ./new.yaml --host\n\n"
        "exit: 0 valid, 78 not (or, with --strict, a warning)",
    )
    check.add_argument(
        "--host", action="store_true", help="also hold it against this machine: users, knobs, limits"
    )
    check.add_argument("--strict", action="store_true", help="let a warning fail, too")
    verb(
        "plan",
        "show what would change, and by which rule",
        policy,
        state,
        proc,
        as_json,
        detail="example:\n  oomguard plan --policy ./new.yaml\n\n"
        "exit: 0 nothing would change, 3 something would, 78 bad policy",
    )
    verb(
        "apply",
        "bring this host to the policy, once",
        policy,
        state,
        proc,
        as_json,
        detail="exit: 0 all done, 1 a change failed or was refused, 78 bad policy",
    )
    verb(
        "run",
        "bring this host to the policy and keep it there: the daemon, in the foreground",
        policy,
        state,
        proc,
        detail="SIGHUP or an edit of the policy reloads it; a policy that is not valid changes nothing.\n"
        "SIGTERM stops; values stay until `oomguard restore`.\n\n"
        "example, without root:\n"
        '  oomguard run --policy ./my.yaml --state-dir "$XDG_RUNTIME_DIR/oomguard"',
    )
    verb(
        "restore",
        "put back every value that oomguard changed and that still is as it left it",
        state,
        proc,
        as_json,
        detail="Stop the daemon first: beside a running one it is refused.",
    )
    verb("status", "show what is kept, what drifted and what was refused", policy, state, proc, as_json)
    explain = verb(
        "explain",
        "show every rule tried on a process, and which condition failed",
        policy,
        proc,
        as_json,
        detail="examples:\n  oomguard explain 812\n  oomguard explain postgres",
    )
    explain.add_argument("process", metavar="PID|NAME", help="a pid, or a process name")
    verb("schema", "print the JSON Schema of the policy, for editors")
    return parser


def run_verb(arguments: list[str]) -> int:
    """Parse the command line, run its verb and return the exit code."""
    options = build_parser().parse_args(arguments)
    # Each verb imports what it needs: `check` no tables, `plan` no daemon.
    module = importlib.import_module(f"oomguard.cli.{options.verb}")
    code: int = module.run(options)
    return code
