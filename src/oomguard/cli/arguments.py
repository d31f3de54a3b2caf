"""Arguments that several verbs take."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from oomguard.cli import misuse
from oomguard.cli.verb import MisuseError
from oomguard.core.policy import DEFAULT_PATH
from oomguard.reconcile.state_folder import RUN_FOLDER

SHARED: dict[str, dict[str, Any]] = {
    "--policy": {
        "metavar": "FILE",
        "default": DEFAULT_PATH,
        "help": "policy file, - for standard input; *.yaml in the .d folder beside it override it "
        "(default: %(default)s and its layers)",
    },
    "--state-dir": {
        "metavar": "DIR",
        "default": RUN_FOLDER,
        "help": "folder for ledger, lock and status file (default: %(default)s)",
    },
    "--proc": {
        "metavar": "DIR",
        "default": "/proc",
        "help": "where proc is mounted (default: %(default)s)",
    },
    "--json": {"action": "store_true", "help": "print JSON for programs"},
    "--html": {"metavar": "FILE", "help": "write a self-contained HTML page; - is standard output"},
}


def add(parser: "argparse.ArgumentParser | argparse._MutuallyExclusiveGroup", *names: str) -> None:
    """Add options that several verbs take."""
    for name in names:
        parser.add_argument(name, **SHARED[name])


_DIGITS = 9
"""More rows than any table has; larger numbers could not be counted to."""


def count(text: str) -> int:
    """Return a number of rows. ArgumentTypeError: it is not one."""
    if not text.isdecimal() or len(text) > _DIGITS:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {'9' * _DIGITS}, got {text[:80]!r}")
    return int(text)


def one_of(what: str, choices: Sequence[str]) -> Callable[[str], str]:
    """Return a check for a word that must be one of the choices. MisuseError: it is not."""

    def check(text: str) -> str:
        if text not in choices:
            raise MisuseError(misuse.no_choice(what, text, choices))
        return text

    return check


def joined_times(words: list[str]) -> list[str]:
    """Return `--since -1h` as `--since=-1h`: argparse takes `-1h` for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--since", "--until") and word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
