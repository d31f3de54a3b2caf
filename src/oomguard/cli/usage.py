"""Errors for wrong command lines, with the probable correction."""

import difflib
import os
import re
import shlex
from typing import TYPE_CHECKING

from oomguard.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from oomguard.cli.verb import Parser


def before_verb(arguments: "Sequence[str]", own: "Iterable[str]", verbs: "Mapping[str, Parser]") -> str:
    """Return the error in the start of a command line, "" if there is none.

    `own` are the options of the program itself, which come before a verb.
    """
    first = arguments[0]
    if first in verbs or (len(first) > 2 and any(option.startswith(first) for option in own)) or first in own:
        return ""
    if not first.startswith("-"):
        return f"no verb {printable(first)}{_meant(first, verbs)}"
    at = _verb_at(arguments, verbs)
    if at is None:
        return f"no option {printable(first.partition('=')[0])} without a verb; see oomguard --help"
    verb, others = arguments[at], [*arguments[:at], *arguments[at + 1 :]]
    name, equals, value = first.partition("=")
    near = _nearest(name, verbs[verb].options)
    moved = shlex.join(["oomguard", verb, near + equals + value, *others[1:]]) if near else ""
    if near == name:
        return f"{name} goes after the verb: {moved}"
    return f"no option {printable(name)}" + (
        f"; did you mean: {moved}" if moved else f"; see oomguard {verb} --help"
    )


def plain(message: str, verb: "Parser") -> str:
    """Return an error of argparse in plain words, with the fix if it is known, else with where help is."""
    names, _, problem = message.removeprefix("argument ").partition(": ")
    help_is = f"; see {verb.prog} --help"
    if names == "the following arguments are required":
        (action,) = (one for one in verb.arguments if one.metavar == problem.partition(", ")[0])
        return f"{action.metavar} is missing: {action.help}"
    name = names.rpartition("/")[2]
    found = verb.options.get(name) or next((one for one in verb.arguments if one.metavar == name), None)
    if found is None:
        return message + help_is
    if problem == "expected one argument":
        return f"{name} needs a value: {name} {found.metavar}"
    given = re.match(r"""invalid choice: (['"])(.*)\1 \(""", problem)
    if given is not None and found.choices is not None:
        near = _nearest(given[2], found.choices)
        fix = f"did you mean {near}?" if near else f"use one of {', '.join(found.choices)}"
        return f"no {str(found.metavar).lower()} {printable(given[2])}; {fix}"
    if problem.startswith("not allowed with argument "):
        return f"{name} cannot be combined with {problem.rpartition(' ')[2]}{help_is}"
    if problem.startswith("ignored explicit argument "):
        return f"{name} takes no value{help_is}"
    return f"{name} {problem}{help_is}"


def not_taken(words: "Sequence[str]", verb: "Parser") -> str:
    """Return the error for words that a verb does not take."""
    options = verb.options
    option = next((word for word in words if word.startswith("-") and word != "-"), None)
    if option is not None:
        name = option.partition("=")[0]
        if name in ("--dry-run", "-n") and "--state-dir" in options:
            restore = " --restore" if verb.prog.endswith(" restore") else ""
            return f"no option {name}; use: oomguard plan{restore}"
        near = _nearest(name, options)
        return (
            f"no option {printable(name)}; {f'did you mean {near}?' if near else f'see {verb.prog} --help'}"
        )
    word = words[0]
    if "--policy" in options and _looks_like_file(word):
        return f"takes no file name; did you mean --policy {shlex.quote(word)}?"
    return f"takes no argument {printable(word)}; see {verb.prog} --help"


def _verb_at(arguments: "Sequence[str]", verbs: "Mapping[str, Parser]") -> int | None:
    """Return the index of the verb, which is not the value of an option; None if there is none."""
    with_value = {
        name for verb in verbs.values() for name, action in verb.options.items() if action.nargs != 0
    }
    previous = ""
    for at, word in enumerate(arguments):
        if word in verbs and previous not in with_value:
            return at
        previous = word
    return None


def _looks_like_file(word: str) -> bool:
    return word == "-" or "/" in word or word.endswith((".yaml", ".yml")) or os.path.exists(word)


def _meant(word: str, words: "Iterable[str]") -> str:
    near = _nearest(word, words)
    return f"; did you mean {near}?" if near else "; see oomguard --help"


def _nearest(word: str, words: "Iterable[str]") -> str:
    """Return the most similar word, "" if none is similar. Leading dashes do not count."""
    bare = {one.lstrip("-"): one for one in words}
    found = difflib.get_close_matches(word[:80].lstrip("-"), bare, n=1, cutoff=0.65)
    return bare[found[0]] if found else ""
