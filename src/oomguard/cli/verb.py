"""What a verb is, the parser that reports errors in one line, and the arguments that several verbs take."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from oomguard.cli import misuse
from oomguard.core.policy import DEFAULT_PATH
from oomguard.reconcile.state_folder import RUN_FOLDER
from oomguard.report.streams import fitted

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class MisuseError(Exception):
    """An argument that cannot be: the whole sentence, with the fix."""


class Parser(argparse.ArgumentParser):
    """Reports errors in one line. argparse has no public way to ask a parser what it takes."""

    @property
    def options(self) -> Mapping[str, argparse.Action]:
        """The options it takes, by name."""
        return self._option_string_actions

    @property
    def alternatives(self) -> "list[list[argparse.Action]]":
        """The options of which only one can be given."""
        return [group._group_actions for group in self._mutually_exclusive_groups]

    def parse(self, words: list[str]) -> argparse.Namespace:
        """Return the arguments; if the words cannot be parsed, print why and exit with 2."""
        wrong = misuse.misused(words, self)
        if wrong:
            self.refuse(wrong)
        try:
            options, others = self.parse_known_args(words)
        except MisuseError as error:
            self.refuse(str(error))
        except argparse.ArgumentError as error:  # of a `type`
            if error.argument_name is None:
                self.error(error.message)
            name = error.argument_name.rpartition("/")[2]
            self.refuse(f"{name} {error.message}; see {self.prog} --help")
        if others:
            self.refuse(misuse.not_taken(others, self))
        return options

    def error(self, _message: str) -> NoReturn:
        """Report a required argument that is missing: argparse raises its other errors (`exit_on_error`)."""
        missing = next(one for one in self._get_positional_actions() if one.required)
        self.refuse(f"{missing.metavar} is missing: {missing.help}")

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """Print; argparse ignores that help cannot be written, and its exit code would say that it was."""
        if file is None or file is sys.stderr:
            super()._print_message(message, file)
        else:
            file.write(message)

    def refuse(self, message: str) -> NoReturn:
        """Print an error; exit with 2."""
        self.exit(2, fitted(f"{self.prog}: {message}\n", sys.stderr))


class Verb(NamedTuple):
    """One verb: `summary` in one line, `detail` with examples and exit codes.

    `run` returns the exit code, or raises MisuseError. It imports what it needs: the other verbs must not
    wait for that. `prepare` changes the words of the command line before they are parsed.
    """

    name: str
    summary: str
    detail: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    prepare: Callable[[list[str]], list[str]] = list


def path_or(default: str) -> Callable[[str], str]:
    """Return the type of an option for a path, which is `default` however that is written.

    The default means more than its file or folder: the host's policy has more layers, and what is in the
    host's state folder has a part that survives a reboot.
    """

    def path(text: str) -> str:
        return default if os.path.abspath(text) == default else text

    return path


policy_path = path_or(DEFAULT_PATH)


SHARED: dict[str, dict[str, Any]] = {
    "--policy": {
        "metavar": "FILE",
        "type": policy_path,
        "default": DEFAULT_PATH,
        "help": "policy file, - for standard input; *.yaml in the .d folder beside it override it "
        f"(default: {DEFAULT_PATH} and its layers)",
    },
    "--state-dir": {
        "metavar": "DIR",
        "type": path_or(RUN_FOLDER),
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
    """Return `--since -1h` as `--since=-1h`: argparse takes `-1h` for an option. `--json` is one."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--since", "--until") and re.match(r"-[\d.]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
