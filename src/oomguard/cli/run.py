"""`oomguard run`: the daemon, in the foreground."""

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from oomguard.kernel.own import python_command

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> NoReturn:
    """Become the daemon: same pid, but without the command line's modules in memory."""
    sys.stdout.flush()
    # Ctrl-C waits until the daemon can take it: a mask outlasts exec, a handler of ours would not.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    command = python_command("oomguard.daemon", options.policy, options.state_dir, options.proc)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell wanted
