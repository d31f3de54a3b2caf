"""`oomguard notify`: notify the desktop, or a command, when memory runs out or the kernel kills."""

import argparse

from oomguard.cli.verb import Verb, add

_DETAIL = """\
Shows a notification (by notify-send, else gdbus) when memory runs out, and when
the kernel kills a program of yours; or runs a command instead. Reads only the
daemon's status file; needs no root. Runs until it is stopped:

  systemctl --user enable --now oomguard-notify

sh runs the command with these variables in its environment:
OOMGUARD_EVENT (memory-short or killed), OOMGUARD_TITLE and OOMGUARD_TEXT;
for memory-short, OOMGUARD_AVAILABLE_KIB and OOMGUARD_NEXT;
for killed, OOMGUARD_COUNT, and OOMGUARD_COMM, OOMGUARD_PID, OOMGUARD_UID and
OOMGUARD_RSS_KIB of the largest process killed, of the last three of each user.
Quote them: anybody can choose the name of a program.

A command that runs for more than 10 s is killed. After a notification, what is
killed in the next 5 s is reported together. Without a daemon, it waits for one.

examples:
  oomguard notify
  oomguard notify --all --command 'wall "$OOMGUARD_TEXT"'

exit codes: 1 /proc cannot be read, 2 bad usage; otherwise a signal ends it
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--state-dir", "--proc")
    parser.add_argument("--all", action="store_true", help="also report kills of other users' programs")
    parser.add_argument("--command", metavar="COMMAND", help="run this instead of showing a notification")


def _run(options: argparse.Namespace) -> int:
    import os

    from oomguard.exporter.notices import Notifier, watch_status
    from oomguard.kernel.procfs import Procfs

    uid = None if options.all else os.getuid()
    watch_status(options.state_dir, Procfs(options.proc), Notifier(options.command), uid=uid)
    return 0


VERB = Verb(
    "notify", "notify the desktop when memory runs out or the kernel kills", _DETAIL, _arguments, _run
)
