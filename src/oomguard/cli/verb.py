"""What a verb is, and the parser that reports errors in one line."""

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from oomguard.cli import misuse
from oomguard.report.streams import fitted


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

    @property
    def description(self) -> str:
        """The summary as a sentence."""
        return f"{self.summary[0].upper()}{self.summary[1:]}."
