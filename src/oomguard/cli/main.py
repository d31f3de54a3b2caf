"""The command line: which verbs there are, what they take, and which function each calls."""

import argparse
import importlib
from typing import TYPE_CHECKING, NoReturn, get_args

from oomguard import __version__

if TYPE_CHECKING:
    from oomguard.exporter.address import Address
from oomguard.cli import usage
from oomguard.core.diff import Cause
from oomguard.reconcile.state_folder import RUN_FOLDER
from oomguard.report.events import EVENTS

DEFAULT_POLICY = "/etc/oomguard.yaml"
IMPORTERS = ("earlyoom", "nohang", "ananicy", "systemd")
DEFAULT_LISTEN = "127.0.0.1:19177"
DEFAULT_RULES = 100

_DESCRIPTION = """\
Apply a Linux memory policy from one YAML file: how much memory the kernel may
promise, what happens when it runs out, and which processes are killed first.
oomguard itself never kills anything. Without a verb, it shows this host.
"""

_EPILOG = """\
examples:
  oomguard check                     is /etc/oomguard.yaml valid?
  oomguard plan                      what would change on this host, and why?
  oomguard apply                     change it once
  oomguard run                       keep it applied
  oomguard explain sshd              which rule matches sshd, and why?
  oomguard restore                   restore the original values

exit codes: 0 done, 1 a change failed or was refused, 2 bad usage,
            3 plan found something to change, 78 the policy is not valid
"""

_CHECK = """\
Reports every error in every file, with line, column and a fix. Changes nothing.
Without --host, it reads nothing but the files, so it runs anywhere.

examples:
  oomguard check
  oomguard check --policy ./new.yaml --host
  oomguard check --policy ./new.yaml --strict --json   in a build
  oomguard check --strict site.yaml drop-in.yaml       each file alone

exit codes: 0 valid, 78 not valid (or, with --strict, a warning)
"""

_PLAN = """\
Shows what `apply` would do, and `run` when it starts. Writes nothing, and can
run while the daemon does. With --restore, it shows what `restore` would do, and
what it would leave alone.

examples:
  oomguard plan
  oomguard plan --policy ./new.yaml
  oomguard plan --restore

exit codes: 0 nothing would change, 3 something would,
            78 the policy is not valid
"""

_APPLY = """\
Makes one pass, prints each change and exits; processes that start later are not
changed. Refused while a daemon runs. To undo it, run `oomguard restore`.

examples:
  oomguard apply
  oomguard plan --policy ./new.yaml; oomguard apply --policy ./new.yaml

exit codes: 0 done, 1 a change failed or was refused, 78 the policy is not valid
"""

_RUN = """\
Runs in the foreground until SIGTERM or Ctrl-C. When the policy is edited, or on
SIGHUP, it loads the policy again; if that is not valid, it reports the errors
and keeps the previous policy. Values stay in force after it stops; to restore
them, run `oomguard restore`.

examples:
  oomguard run
  oomguard run --policy ./my.yaml --state-dir "$XDG_RUNTIME_DIR/oomguard"
                        without root: can only raise your own processes

exit codes: 0 stopped, 1 it cannot start, 78 the policy is not valid
"""

_RESTORE = """\
Prints each value it restores, and each it leaves alone because something else
has changed it since, with the value that oomguard had set. To see this in
advance, run `oomguard plan --restore`. Stop the daemon first: restore is
refused while it runs. Processes that start during the restore are included; if
new ones keep starting for 10 s, restore stops with exit code 1.

examples:
  systemctl stop oomguard && oomguard restore
  oomguard restore --state-dir "$XDG_RUNTIME_DIR/oomguard"

exit codes: 0 no value that oomguard set is in force any more,
            1 a value could not be restored
"""

_STATUS = """\
Reads the status file of the daemon; needs no root. If no daemon runs, it shows
how many values set by oomguard are still in force, and the sysctls that differ
from the policy.

examples:
  oomguard status
  oomguard status --json
  oomguard status --exit-code >/dev/null || echo "check oomguard on $(hostname)"

exit codes: 0 shown; 1 the status file cannot be read, or with --exit-code:
            no daemon runs, its policy is not valid, or a value differs from it
"""

_EXPLAIN = """\
oomguard tries the rules in order, and the first one that matches decides.
A name stands for every process with that name.

examples:
  oomguard explain 812
  oomguard explain postgres
  oomguard explain 812 --policy ./new.yaml     under a new policy

exit codes: 0 explained, 1 there is no such process, 78 the policy is not valid
"""

_RANK = """\
Uses the kernel's own formula: memory in RAM, swap and page tables, plus
oom_score_adj. SCORE is /proc/PID/oom_score. Without a policy file, it shows
only the kernel's order. See docs/rank.md.

examples:
  oomguard rank
  oomguard rank --policy ./new.yaml              the order under a new policy
  oomguard rank --cgroup /system.slice/app.service   when it reaches its limit
  oomguard rank --watch

keys of --watch: k kill order, p order under the policy, m memory, v value,
                 n name, / filter, Esc no filter, q quit,
                 arrows and Page Up/Down scroll

exit codes: 0 shown, 1 cannot be calculated, 78 the policy is not valid
"""

_LOG = """\
Reads systemd's journal through journalctl. Only root's entries and your own
count: anybody can write to the journal under any name. Without --event, only
entries about values are shown, not kills, starts or reloads.

examples:
  oomguard log
  oomguard log --since today --cause drift     what did other programs change?
  oomguard log --rule sshd --event refused --event denied
  oomguard log --event killed                  what did the kernel kill?
  oomguard log --follow

exit codes: 0 shown, 1 the host has no journal, or it cannot be read
"""

_POSTMORTEM = """\
Reads the kernel's reports from the journal, from files or from standard input:
the output of dmesg and journalctl, syslog, /dev/kmsg, logs of container
runtimes, from any kernel since 2.6.18. Shows which process was killed and why,
which one was next, and, with --policy, which one would have been killed
instead. See docs/postmortem.md.

examples:
  oomguard postmortem
  oomguard postmortem --since yesterday --all
  oomguard postmortem /var/log/kern.log.1.gz
  oomguard postmortem --policy ./new.yaml   would it have saved the database?
  ssh db1 dmesg | oomguard postmortem -

exit codes: 0 shown, 1 a log or a report cannot be found or read,
            78 the policy is not valid
"""

_IMPORT = """\
Prints a policy to review. Each rule names its source. What has no equivalent is
listed at the end, by file and line. Without SOURCE, it reads the usual places:
/etc/default/earlyoom, /etc/nohang/nohang.conf, /etc/ananicy.d, and systemd's
folders of system units.

examples:
  oomguard import earlyoom
  oomguard import earlyoom -- --avoid '^(cron|Xorg)$' --prefer '^chrome$'
  oomguard import systemd /etc/systemd/system > units.yaml
  oomguard import ananicy ./rules
  oomguard import nohang --json                  for programs: docs/import.md

exit codes: 0 done, 2 the source cannot be read
"""

_EXPORTER = """\
Reads only the daemon's status file and /proc; needs no root. If no daemon runs,
oomguard_up is 0 and only the host's metrics remain. For people, there is a page
at /. See docs/metrics.md.

examples:
  oomguard exporter                              http://127.0.0.1:19177/metrics
  oomguard exporter --listen [::1]:9100
  oomguard exporter --textfile /var/lib/prometheus/node-exporter/oomguard.prom
  oomguard exporter --textfile -                 print the metrics once

exit codes: 0 stopped or written, 1 it cannot listen or write, 2 bad usage
"""

_ADVISE = """\
Reads RAM, swap, huge pages, promised memory and its peak, and which running
programs are known to need an overcommit mode. Each line states its reason. If
facts are missing, or two programs need different modes, it suggests nothing and
explains why. Changes nothing.

examples:
  oomguard advise
  oomguard advise > candidate.yaml; oomguard plan --policy candidate.yaml

exit codes: 0 done, 1 this host's memory use cannot be read
"""

_SCHEMA = """\
For completion and checks while you type. Editors with yaml-language-server find
it through the first line of the shipped policy.

example:
  oomguard schema > ~/oomguard.schema.json
"""


class Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error, and where help is if it names no fix; exit with 2."""
        hint = (
            ""
            if message.endswith(("?", "--help")) or ": oomguard " in message
            else f"; see {self.prog} --help"
        )
        self.exit(2, f"{self.prog}: {message}{hint}\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; completions and the manual are made from it."""
    parser = Parser(
        prog="oomguard",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"oomguard {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    policy = Parser(add_help=False)
    policy.add_argument(
        "--policy",
        metavar="FILE",
        default=DEFAULT_POLICY,
        help="policy file, - for standard input; drop-ins are *.yaml in the .d folder beside it "
        "(default: %(default)s)",
    )
    state = Parser(add_help=False)
    state.add_argument(
        "--state-dir",
        metavar="DIR",
        default=RUN_FOLDER,
        help="folder for ledger, lock and status file (default: %(default)s)",
    )
    proc = Parser(add_help=False)
    proc.add_argument(
        "--proc", metavar="DIR", default="/proc", help="where proc is mounted (default: %(default)s)"
    )
    as_json = Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON for programs")

    def verb(name: str, summary: str, *parents: Parser, detail: str = "") -> Parser:
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
        "validate the policy and its drop-ins",
        policy,
        state,
        as_json,
        proc,
        detail=_CHECK,
    )
    check.add_argument(
        "--host", action="store_true", help="also check it against this host: users, sysctls, limits"
    )
    check.add_argument("--strict", action="store_true", help="fail on warnings, too")
    check.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="check each of these files alone; - is standard input",
    )
    plan = verb(
        "plan",
        "show what would change, and by which rule",
        policy,
        state,
        proc,
        as_json,
        detail=_PLAN,
    )
    plan.add_argument("--restore", action="store_true", help="show what `oomguard restore` would do")
    verb(
        "apply",
        "apply the policy once",
        policy,
        state,
        proc,
        as_json,
        detail=_APPLY,
    )
    verb(
        "run",
        "keep the policy applied: the daemon, in the foreground",
        policy,
        state,
        proc,
        detail=_RUN,
    )
    verb(
        "restore",
        "restore original values, except those changed by something else since",
        state,
        proc,
        as_json,
        detail=_RESTORE,
    )
    status = verb(
        "status",
        "show whether the daemon runs, what it manages, and its problems",
        policy,
        state,
        proc,
        as_json,
        detail=_STATUS,
    )
    status.add_argument(
        "--exit-code",
        action="store_true",
        help="for monitoring: exit with 1 if anything differs from the policy",
    )
    explain = verb(
        "explain",
        "show which rules match a process, and which condition failed",
        policy,
        state,
        proc,
        as_json,
        detail=_EXPLAIN,
    )
    explain.add_argument("process", metavar="PID|NAME", nargs="+", help="a pid, or a process name")
    rank = verb(
        "rank",
        "show which process the kernel would kill first, now and under the policy",
        policy,
        state,
        proc,
        detail=_RANK,
    )
    rank.add_argument(
        "--cgroup", metavar="PATH", help="rank the processes of a memory cgroup, against its limit"
    )
    rank.add_argument(
        "--limit",
        metavar="N",
        type=_count,
        help="processes to show, 0 for all (default: 20, and all with --json)",
    )
    shown = rank.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON for programs")
    shown.add_argument("--watch", action="store_true", help="update until q is pressed")
    rank.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=2.0, help="interval of --watch (default: 2)"
    )
    log = verb("log", "show oomguard's journal entries: changes, refusals and kills", as_json, detail=_LOG)
    log.add_argument(
        "--since", metavar="TIME", help="since this time, as in journalctl: today, -1h, 2026-01-31"
    )
    log.add_argument("--until", metavar="TIME", help="until this time")
    log.add_argument("--rule", metavar="TEXT", help="for a rule: a part of its label or file:line, or a glob")
    log.add_argument("--pid", metavar="PID", type=_count, help="about this process")
    causes, events = get_args(Cause), [*(event.name for event in EVENTS), "all"]
    log.add_argument(
        "--cause", metavar="CAUSE", choices=causes, help=f"why a value changed: {', '.join(causes)}"
    )
    log.add_argument(
        "--event",
        metavar="EVENT",
        action="append",
        choices=events,
        help=f"what happened; can be given more than once: {', '.join(events)}",
    )
    log.add_argument("-n", "--lines", metavar="N", type=_count, help="only the last N")
    log.add_argument(
        "-f", "--follow", action="store_true", help="print new entries as they come, one per line"
    )
    postmortem = verb(
        "postmortem",
        "explain what the OOM killer killed and why, or would kill under another policy",
        detail=_POSTMORTEM,
    )
    postmortem.add_argument(
        "files", metavar="FILE", nargs="*", help="a kernel log, also .gz, .xz or .bz2; - is standard input"
    )
    postmortem.add_argument(
        "--policy", metavar="FILE", help="also show what would have been killed under this policy"
    )
    postmortem.add_argument("--kmsg", action="store_true", help="read /dev/kmsg instead of the journal")
    postmortem.add_argument(
        "--since", metavar="TIME", help="read the journal since this time, as in journalctl"
    )
    postmortem.add_argument("--until", metavar="TIME", help="read the journal until this time")
    told = postmortem.add_mutually_exclusive_group()
    told.add_argument("--report", metavar="N", type=_count, help="explain the Nth report")
    told.add_argument("--all", action="store_true", help="explain all reports, not only the last")
    postmortem.add_argument(
        "--tasks",
        metavar="N",
        type=_count,
        help="processes to show, 0 for all (default: 10, all with --json)",
    )
    postmortem.add_argument("--json", action="store_true", help="print JSON for programs")
    imported = verb("import", "convert another tool's settings to a policy", as_json, detail=_IMPORT)
    imported.add_argument("tool", metavar="TOOL", choices=IMPORTERS, help=f"one of {', '.join(IMPORTERS)}")
    imported.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*",
        default=[],  # else argparse calls it required
        help="files or folders of the tool; for earlyoom, also its arguments after --",
    )
    exporter = verb(
        "exporter", "serve metrics of the daemon and this host to Prometheus", state, proc, detail=_EXPORTER
    )
    exporter.add_argument(
        "--rules",
        metavar="N",
        type=_count,
        default=DEFAULT_RULES,
        help="serve a series for the first N rules that match a process (default: %(default)s)",
    )
    where = exporter.add_mutually_exclusive_group()
    where.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        type=_address,
        default=DEFAULT_LISTEN,
        help="address to serve them on (default: %(default)s)",
    )
    where.add_argument(
        "--textfile",
        metavar="FILE",
        type=_textfile,
        help="write them once, for node_exporter's textfile collector; - is standard output",
    )
    verb(
        "advise",
        "suggest a policy from this host's memory use and running programs",
        state,
        proc,
        as_json,
        detail=_ADVISE,
    )
    verb("schema", "print the JSON Schema of the policy, for editors", detail=_SCHEMA)
    return parser


def _count(text: str) -> int:
    """Return a number of rows. ArgumentTypeError: it is not one."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text!r}")
    return int(text)


def _address(text: str) -> "Address":
    """Return the address. ArgumentTypeError: it is not valid."""
    from oomguard.exporter.address import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _textfile(text: str) -> str:
    """Return the file's name. ArgumentTypeError: node_exporter would ignore it."""
    if text != "-" and not text.endswith(".prom"):
        raise argparse.ArgumentTypeError(f"must end in .prom, or node_exporter ignores it; got {text!r}")
    return text


def _seconds(text: str) -> float:
    """Return an interval of at least 0.1 s. ArgumentTypeError: it is not one."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be seconds from 0.1 to 86400, got {text!r}")
    return seconds


def _joined(arguments: list[str]) -> list[str]:
    """Return `--since -1h` as `--since=-1h`: argparse takes `-1h` for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("--since", "--until") and word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _option_first(arguments: list[str]) -> list[str]:
    """Return `import TOOL --json SOURCE` with the option first: some versions of argparse need that."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if arguments[:1] != ["import"] or "--json" not in arguments[:end]:
        return arguments
    return ["import", "--json", *(word for word in arguments[1:end] if word != "--json"), *arguments[end:]]


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def run_verb(arguments: list[str]) -> int:
    """Parse the command line, run its verb and return the exit code; without a verb, show this host."""
    if not arguments:
        from oomguard.cli import overview

        return overview.run(DEFAULT_POLICY, RUN_FOLDER, "/proc")
    parser = build_parser()
    verbs = _verbs(parser)
    wrong = usage.before_verb(arguments, parser._option_string_actions, verbs)
    if wrong:
        parser.error(wrong)
    options, others = parser.parse_known_args(_option_first(_joined(arguments)))
    if others:
        verbs[options.verb].error(usage.not_taken(others, verbs[options.verb]))
    # Import only what the verb needs.
    name = "import_" if options.verb == "import" else options.verb  # a keyword of Python
    module = importlib.import_module(f"oomguard.cli.{name}")
    code: int = module.run(options)
    return code
