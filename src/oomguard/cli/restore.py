"""`oomguard restore`: restore the original values."""

import argparse

from oomguard.cli.apply import reconcile, report
from oomguard.cli.verb import Verb, add

_DETAIL = """\
Prints each value it restores, and each it leaves alone because something else
has changed it since, with the value that oomguard had set. To see this in
advance, run `oomguard plan --restore`. Stop the daemon first: restore is
refused while it runs. Processes that start during the restore are included; if
new ones keep starting for 10 s, restore stops with exit code 1.

examples:
  systemctl stop oomguard && oomguard restore
  oomguard restore --state-dir "$XDG_RUNTIME_DIR/oomguard"

exit codes: 0 no value that oomguard set is in force any more,
            1 a value could not be restored, or there is no such state folder
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--state-dir", "--proc", "--json")


def unseen(count: int, verb: str, therefore: str) -> str:
    """Return the warning that /proc hides processes whose original values are known, and what to do."""
    from oomguard.core.text import counted

    return (
        f"oomguard: /proc hides {counted(count, 'process', 'es')} from this user (hidepid=): {therefore}\n"
        f"  run oomguard {verb} in the group of the mount's gid=, or with CAP_SYS_PTRACE"
    )


def _run(options: argparse.Namespace) -> int:
    """Reconcile with an empty policy, which restores every value in the ledger."""
    from oomguard.core.change import SetOomScoreAdj
    from oomguard.core.policy import Policy
    from oomguard.core.text import printable
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.report.streams import complain

    host = ThisHost(options.state_dir, options.proc)
    done, option = reconcile(host, Policy(), "restore"), host.options
    code = report(done, as_json=options.json, nothing="Nothing to restore.", applied="restored")
    if not done.is_complete:
        last = done.outcomes[-1].change if done.outcomes else None
        example = f", such as {printable(last.comm)}" if isinstance(last, SetOomScoreAdj) else ""
        complain(
            f"oomguard: processes{example} start faster than oomguard can check them: "
            "some may still have an inherited value\n"
            f"  stop the program that starts them, then run oomguard restore{option} again"
        )
    if done.hidden:
        complain(unseen(done.hidden, f"restore{option}", "their values stay in force"))
    is_partial = done.lost_lines or done.hidden or done.unreadable or not done.is_complete
    return 1 if is_partial else code


VERB = Verb(
    "restore",
    "restore original values, except those changed by something else since",
    _DETAIL,
    _arguments,
    _run,
)
