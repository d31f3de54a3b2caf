"""`oomguard log`: what oomguard changed, from the journal."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from oomguard.cli.verb import Verb, add, count, joined_times, one_of

if TYPE_CHECKING:
    from oomguard.report.log_entries import LoggedEntry

_DETAIL = """\
Reads systemd's journal through journalctl. Only root's entries and your own
count: anybody can write to the journal under any name. Without --event, only
entries about values are shown, not kills, starts or reloads.

examples:
  oomguard log
  oomguard log --since today --cause drift     what did other programs change?
  oomguard log --rule sshd --event refused --event denied
  oomguard log --event killed                  what did the kernel kill?
  oomguard log --follow

exit codes: 0 shown, also if Ctrl-C ended --follow,
            1 the host has no journal, or it cannot be read
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    from oomguard.core.choices import Cause
    from oomguard.report.events import EVENTS

    add(parser, "--json")
    parser.add_argument(
        "--since", metavar="TIME", help="since this time, as in journalctl: today, -1h, 2026-01-31"
    )
    parser.add_argument("--until", metavar="TIME", help="until this time")
    parser.add_argument(
        "--rule", metavar="TEXT", help="for a rule: a part of its label or file:line, or a glob"
    )
    parser.add_argument("--pid", metavar="PID", type=count, help="about this process")
    causes, events = get_args(Cause), [*(event.name for event in EVENTS), "all"]
    parser.add_argument(
        "--cause",
        metavar="CAUSE",
        type=one_of("cause", causes),
        choices=causes,
        help=f"why a value changed: {', '.join(causes)}",
    )
    parser.add_argument(
        "--event",
        metavar="EVENT",
        action="append",
        type=one_of("event", events),
        choices=events,
        help=f"what happened; can be given more than once: {', '.join(events)}",
    )
    parser.add_argument("-n", "--lines", metavar="N", type=count, help="only the last N")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="print new entries as they come, one per line"
    )


def _run(options: argparse.Namespace) -> int:
    """Print the journal's entries as a table, or one per line."""
    from collections import deque

    from oomguard.diagnose.journalctl import unreadable
    from oomguard.diagnose.own_log import EntryFilter, follow_history, read_history, require_journal
    from oomguard.report.change_document import print_json
    from oomguard.report.events import EVENTS, VALUE_EVENTS
    from oomguard.report.log_entries import entry_document
    from oomguard.report.streams import complain

    trouble = unreadable()
    wanted = EntryFilter(
        options.since, options.until, options.rule, options.pid, options.cause, options.event or ()
    )
    if options.follow:
        require_journal()  # journalctl would wait for one
        if trouble is not None:
            complain(trouble.for_stderr)
        last = 10 if options.lines is None else options.lines
        names = [event.name for event in EVENTS] if "all" in wanted.events else wanted.events or VALUE_EVENTS
        entries = follow_history(wanted, last)
        return _follow(entries, as_json=options.json, width=max(map(len, names)))
    kept = deque(read_history(wanted), maxlen=options.lines)
    if not kept:
        require_journal()
    if options.json:
        print_json([entry_document(entry) for entry in kept])
    elif kept:
        from oomguard.report.log_table import history_table
        from oomguard.report.tables import console

        out = console()
        out.print(history_table(kept, width=out.width))
    elif options.lines != 0 and trouble is None:
        print("No matching journal entries.")
    if trouble is not None:
        raise trouble
    return 0


def _follow(entries: "Iterator[LoggedEntry]", *, as_json: bool, width: int) -> int:
    import json
    from contextlib import suppress

    from oomguard.report.log_entries import entry_document

    with suppress(KeyboardInterrupt):  # Ctrl-C is how to end it
        for entry in entries:
            if as_json:
                line = json.dumps(entry_document(entry))
            else:
                line = f"{entry.time.strftime('%m-%d %H:%M:%S')}  {entry.event:<{width}}  {entry.message}"
            print(line, flush=True)
    return 0


VERB = Verb(
    "log",
    "show oomguard's journal entries: changes, refusals and kills",
    _DETAIL,
    _arguments,
    _run,
    joined_times,
)
