"""`oomguard postmortem`: which process the OOM killer killed and why, or would kill under another policy."""

import argparse
import json
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

from oomguard.cli.verb import MisuseError, Verb, add, count, joined_times, policy_path

if TYPE_CHECKING:
    from oomguard.diagnose.postmortem import Examiner
    from oomguard.oom.report import Report

_TASKS = 10
_LISTED = 50

_DETAIL = """\
Reads the kernel's reports from the journal, from files or from standard input:
the output of dmesg and journalctl, syslog, or logs of container runtimes, with
any prefix, of any kernel since 2.6.18. Shows which process was killed and why,
which one was next, and, with --policy, which one would have been killed
instead. See docs/postmortem.md.

examples:
  oomguard postmortem
  oomguard postmortem --since yesterday --all
  oomguard postmortem /var/log/kern.log.1.gz
  oomguard postmortem --policy ./new.yaml   would it have saved the database?
  ssh db1 dmesg | oomguard postmortem -
  oomguard postmortem --html report.html    for a ticket

exit codes: 0 shown, 1 a log, a part of it or a report cannot be read, or lines
            that name a kill are in no report, 78 the policy is not valid
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="a kernel log, also .gz, .xz or .bz2; - is standard input"
    )
    parser.add_argument(
        "--policy",
        metavar="FILE",
        type=policy_path,
        help="also show what would have been killed under this policy",
    )
    parser.add_argument("--kmsg", action="store_true", help="read /dev/kmsg instead of the journal")
    parser.add_argument("--since", metavar="TIME", help="read the journal since this time, as in journalctl")
    parser.add_argument("--until", metavar="TIME", help="read the journal until this time")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--report", metavar="N", type=count, help="explain the Nth report")
    shown.add_argument("--all", action="store_true", help="explain all reports, not only the last")
    parser.add_argument(
        "--tasks",
        metavar="N",
        type=count,
        help="processes to show, 0 for all (default: 10; all with --json, 200 with --html)",
    )
    add(parser, "--state-dir")
    form = parser.add_mutually_exclusive_group()
    add(form, "--json", "--html")


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.kernel_logs import KernelLog
    from oomguard.diagnose.postmortem import Examiner

    _require_one_log(options)
    policy, policy_file = None, ""
    if options.policy is not None:
        from oomguard.diagnose.this_host import ThisHost
        from oomguard.policy.source import name_of

        policy, policy_file = ThisHost(options.state_dir).load(options.policy), name_of(options.policy)
    source = KernelLog(options.files, kmsg=options.kmsg, since=options.since, until=options.until)
    raw_limit = 0
    if options.html is not None:
        from oomguard.report.postmortem_page import RAW_LIMIT as raw_limit  # noqa: N811
    examiner = Examiner(source, policy, policy_file, options.state_dir, raw_limit=raw_limit)
    if options.json:
        _print_json(examiner, options)
    elif options.html is not None:
        _write_html(examiner, options)
    else:
        _print(examiner, options)
    if source.damage is not None:
        raise source.damage
    return 1 if examiner.log.unread.count else 0


def _require_one_log(options: argparse.Namespace) -> None:
    """Raise MisuseError if more than one log is asked for."""
    asked = {
        "FILE": options.files,
        "--kmsg": options.kmsg,
        "--since": options.since,
        "--until": options.until,
    }
    given = [name for name, value in asked.items() if value]
    if len(given) > 1 and given != ["--since", "--until"]:
        raise MisuseError(f"{given[1]} cannot be combined with {given[0]}; see oomguard postmortem --help")


def _print(examiner: "Examiner", options: argparse.Namespace) -> None:
    from oomguard.core.text import counted
    from oomguard.report.postmortem_table import ListRow, list_row, print_incident, print_left_out, print_list
    from oomguard.report.tables import console

    out = console()
    out.width, out.height = out.size  # asked once, not for each report
    limit = _TASKS if options.tasks is None else options.tasks
    listed: deque[ListRow | tuple[int, Report]] = deque(maxlen=_LISTED)
    last: tuple[int, Report] | None = None
    found = 0
    reports = examiner.reports(options.report)
    if options.all:
        for found, incident in enumerate(examiner.examine_wholly(reports), 1):
            if found > 1:
                print()
            print_incident(incident, limit=limit, out=out, is_brief=True)
    else:
        for last in reports:
            found += 1
            # One with a table is too large to keep fifty. Of those without, there may be millions.
            listed.append(list_row(examiner.examine(*last)) if last[1].is_large else last)
    if not found and examiner.source.damage is None:
        print(f"No report of the OOM killer in {examiner.source.name}.")
    elif last is not None:
        if found > 1:
            rows = [one if isinstance(one, ListRow) else list_row(examiner.examine(*one)) for one in listed]
            print_list(rows, has_policy=options.policy is not None)
            hidden = found - len(rows)
            more = f"and {counted(hidden, 'earlier report')}. " if hidden else ""
            print(f"\n{more}--report N explains one of them, --all explains all. The last:\n")
        for incident in examiner.examine_wholly([last]):
            print_incident(incident, limit=limit, out=out)
    print_left_out(examiner.log)


def _print_json(examiner: "Examiner", options: argparse.Namespace) -> None:
    """Print one document, report by report: there may be thousands."""
    from oomguard.report.postmortem_document import FORMAT, incident_json, unread_document

    incidents = examiner.examine_wholly(examiner.reports(options.report))
    first = next(incidents, None)  # errors come before any output
    if first is None and examiner.source.damage is not None:
        return
    print(f'{{\n  "format": {FORMAT},\n  "reports": [', end="")
    between = "\n"
    for incident in chain([] if first is None else [first], incidents):
        print(f"{between}    {incident_json(incident, limit=options.tasks or 0)}", end="")
        between = ",\n"
    log = examiner.log
    unread = json.dumps([unread_document(line) for line in log.unread.lines])
    print(f'\n  ],\n  "unread_lines": {log.unread.count},\n  "unread": {unread},')
    print(f'  "refused_allocations": {log.refusals},\n  "skipped_lines": {log.skipped}\n}}')


def _write_html(examiner: "Examiner", options: argparse.Namespace) -> None:
    """Write a page with the last report, one, or the last of all."""
    from oomguard.core.text import counted
    from oomguard.report.output_file import write_page
    from oomguard.report.postmortem import left_out
    from oomguard.report.postmortem_page import TASKS, postmortem_page

    log, found = examiner.log, 0
    kept: deque[tuple[int, Report]] = deque(maxlen=_LISTED if options.all else 1)
    for found, one in enumerate(examiner.reports(options.report), 1):  # noqa: B007
        kept.append(one)
    damage = examiner.source.damage
    if not kept and damage is not None:
        return
    notes = [] if damage is None else [f"A part of the log could not be read: {damage.message}."]
    if hidden := found - len(kept):
        notes.append(f"The log has {counted(hidden, 'earlier report')}.")
    if log.unread.count:
        notes.append(f"{counted(log.unread.count, 'line')} about a kill could not be read: see --json.")
    notes += left_out(log)
    limit = TASKS if options.tasks is None else options.tasks
    incidents = [*examiner.examine_wholly(kept)]
    write_page(options.html, postmortem_page(incidents, limit=limit, where=examiner.source.name, notes=notes))


VERB = Verb(
    "postmortem",
    "explain what the OOM killer killed and why, or would kill under another policy",
    _DETAIL,
    _arguments,
    _run,
    joined_times,
)
