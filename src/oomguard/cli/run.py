"""`oomguard run`: the daemon, in the foreground."""

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from oomguard.core.errors import UsageError
from oomguard.kernel.own import python_command
from oomguard.reconcile.state_folder import RUN_FOLDER

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> NoReturn:
    """Become the daemon: same pid, but without the command line's modules in memory.

    UsageError: not root and no state folder of the user's own, or a policy that cannot be read again.
    """
    if options.policy == "-":
        raise UsageError(
            "run cannot read the policy from standard input: the daemon reads it again",
            hint="write it to a file, then: oomguard run --policy FILE",
        )
    if os.geteuid() != 0 and options.state_dir == RUN_FOLDER and not os.access(RUN_FOLDER, os.W_OK):
        raise UsageError(
            "run needs root to manage other users' processes; for your own:",
            hint='oomguard run --state-dir "$XDG_RUNTIME_DIR/oomguard"',
        )
    sys.stdout.flush()
    # Block Ctrl-C until the daemon handles it: a mask survives exec, a handler does not.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    command = python_command("oomguard.daemon", options.policy, options.state_dir, options.proc)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell wanted
