"""`oomguard run`: the daemon, in the foreground."""

import argparse
from typing import NoReturn

from oomguard.cli.verb import SHARED, Verb, add

_DETAIL = """\
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


def _arguments(parser: argparse.ArgumentParser) -> None:
    policy = SHARED["--policy"]
    text = policy["help"].replace(", - for standard input", "")  # the daemon could not read it again
    parser.add_argument("--policy", **policy | {"help": text})
    add(parser, "--state-dir", "--proc")


def _run(options: argparse.Namespace) -> NoReturn:
    """Become the daemon: same pid, but without the command line's modules in memory.

    UsageError: not root and no state folder of the user's own, or a policy that cannot be read again.
    """
    import os
    import signal
    import sys

    from oomguard.core.errors import OomguardError, UsageError
    from oomguard.core.policy import policy_option
    from oomguard.core.text import printable
    from oomguard.kernel.own import python_command
    from oomguard.reconcile.state_folder import RUN_FOLDER

    if options.policy == "-":
        raise UsageError(
            "run cannot read the policy from standard input: the daemon reads it again",
            hint="write it to a file, then: oomguard run --policy FILE",
        )
    if os.geteuid() != 0 and options.state_dir == RUN_FOLDER and not os.access(RUN_FOLDER, os.W_OK):
        raise UsageError(
            "run needs root to manage other users' processes; for your own:",
            hint=f'oomguard run{policy_option(options.policy)} --state-dir "$XDG_RUNTIME_DIR/oomguard"',
        )
    sys.stdout.flush()
    # Block Ctrl-C and reloads until the daemon handles them: a mask survives exec, a handler does not.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    # Absolute, because the working folder may be removed.
    places = map(os.path.abspath, (options.policy, options.state_dir, options.proc))
    command = python_command("oomguard.daemon", *places)
    try:
        os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell wanted
    except OSError as error:
        raise OomguardError(
            f"{printable(command[0])} cannot be started: {error.strerror}",
            hint="this user must be able to enter all folders above it",
        ) from error


VERB = Verb("run", "run the daemon: apply the policy until it is stopped", _DETAIL, _arguments, _run)
