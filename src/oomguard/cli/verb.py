"""What a verb is, and the parser that reports errors in one line."""

import argparse
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from oomguard.cli import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    @property
    def options(self) -> "Mapping[str, argparse.Action]":
        """The options it takes, by name; argparse has no public way to ask."""
        return self._option_string_actions

    @property
    def arguments(self) -> "list[argparse.Action]":
        """The arguments that are no options."""
        return self._get_positional_actions()

    def error(self, message: str) -> NoReturn:
        """Print an error of argparse, and the fix or where help is; exit with 2."""
        self.refuse(usage.plain(message, self))

    def refuse(self, message: str) -> NoReturn:
        """Print an error; exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def _unchanged(words: list[str]) -> list[str]:
    return words


class Verb(NamedTuple):
    """One verb: `summary` in one line, `detail` with examples and exit codes.

    `run` returns the exit code. It imports what it needs: the other verbs must not wait for that. `prepare`
    changes the words of the command line before they are parsed.
    """

    name: str
    summary: str
    detail: str
    add_arguments: "Callable[[argparse.ArgumentParser], None]"
    run: "Callable[[argparse.Namespace], int]"
    prepare: "Callable[[list[str]], list[str]]" = _unchanged

    @property
    def description(self) -> str:
        """The summary as a sentence."""
        return f"{self.summary[0].upper()}{self.summary[1:]}."
