"""Errors for wrong command lines, with the probable correction."""

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from oomguard.core.text import any_of, printable

if TYPE_CHECKING:
    from oomguard.cli.verb import Parser

_OTHER_WORDS = {
    "version": "use: oomguard --version",
    "validate": "use: oomguard check",
    "lint": "use: oomguard check",
    "diff": "use: oomguard plan",
    "simulate": "use: oomguard plan",
    "show": "use: oomguard status, or oomguard cat for the policy",
    "reload": "the daemon loads an edited policy by itself; see oomguard status",
    "start": "use: systemctl start oomguard",
    "stop": "use: systemctl stop oomguard",
    "restart": "use: systemctl restart oomguard",
    "undo": "use: oomguard restore",
    "reset": "use: oomguard restore",
    "top": "use: oomguard rank --watch",
}
"""What people call verbs in other tools."""

_POLICY_ELSEWHERE = ("-f", "-c", "-p", "--file", "--config")
"""What other tools call the option for the file to read."""

_NEGATIVE = re.compile(r"-(?:[0-9]+|[0-9]*\.[0-9]+)\Z")


def before_verb(arguments: Sequence[str], own: Iterable[str], verbs: "Mapping[str, Parser]") -> str:
    """Return the error in the start of a command line, "" if there is none.

    `own` are the options of the program itself, which come before a verb.
    """
    first = arguments[0]
    if first in verbs or (len(first) > 2 and any(option.startswith(first) for option in own)) or first in own:
        return ""
    if not first.startswith("-"):
        fix = _OTHER_WORDS.get(first) or _fix(_nearest(first, verbs), "oomguard")
        return f"no verb {printable(first) or repr(first)}; {fix}"
    at = _verb_at(arguments, verbs)
    if at is None:
        fix = "use: oomguard --version" if first.casefold() == "-v" else "see oomguard --help"
        return f"no option {printable(first.partition('=')[0])} without a verb; {fix}"
    verb, others = arguments[at], [*arguments[:at], *arguments[at + 1 :]]
    name, equals, value = first.partition("=")
    near = _nearest(name, verbs[verb].options)
    moved = shlex.join(["oomguard", verb, near + equals + value, *others[1:]]) if near else ""
    if near == name:
        return f"{name} goes after the verb: {moved}"
    return f"no option {printable(name)}" + (
        f"; did you mean: {moved}" if moved else f"; see oomguard {verb} --help"
    )


def misused(words: Sequence[str], verb: "Parser") -> str:
    """Return the error for a verb's words: a value is missing or too many, or options exclude each other."""
    given: list[argparse.Action] = []
    for at, word in enumerate(words):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if len(meant := _meant(name, verb.options)) > 1:
            return f"no option {name}; did you mean {any_of(meant)}?"
        action = verb.options[meant[0]] if meant else None
        if action is None:
            continue
        name = max(action.option_strings, key=len)
        if equals and action.nargs == 0:
            return f"{name} takes no value; see {verb.prog} --help"
        if action.nargs is None and not (value if equals else _is_value(*words[at + 1 : at + 2])):
            return f"{name} needs a value: {name} {action.metavar}"
        for other in given:
            if other is not action and any(other in group and action in group for group in verb.alternatives):
                return f"{name} cannot be combined with {other.option_strings[0]}; see {verb.prog} --help"
        given.append(action)
    return f"an argument is empty; see {verb.prog} --help" if "" in words else ""


def _meant(name: str, options: Mapping[str, argparse.Action]) -> list[str]:
    """Return the options that a word can be, also abbreviated."""
    if name in options:
        return [name]
    return [one for one in options if name.startswith("--") and one.startswith(name)]


def _is_value(word: str = "") -> bool:
    """Return whether the next word, if there is one, is one that argparse takes as a value."""
    return word == "-" or word[:1] not in ("", "-") or " " in word or _NEGATIVE.match(word) is not None


def no_choice(what: str, text: str, choices: Sequence[str]) -> str:
    """Return the error for a word that is none of the choices."""
    near = _nearest(text, choices)
    fix = f"did you mean {near}?" if near else f"use one of {', '.join(choices)}"
    return f"no {what} {printable(text)}; {fix}"


def not_taken(words: Sequence[str], verb: "Parser") -> str:
    """Return the error for words that a verb does not take."""
    options = verb.options
    words = [word for word in words if word != "--"] or words
    option = next((word for word in words if word.startswith("-") and word != "-"), None)
    if option is not None:
        name = option.partition("=")[0]
        if name in ("--dry-run", "-n") and verb.prog.endswith((" apply", " run", " restore")):
            restore = " --restore" if verb.prog.endswith(" restore") else ""
            return f"no option {name}; use: oomguard plan{restore}"
        if name in _POLICY_ELSEWHERE and "--policy" in options:
            near = "--policy"
        else:
            near = "--limit" if name == "-n" and "--limit" in options else _nearest(name, options)
        return f"no option {printable(name)}; {_fix(near, verb.prog)}"
    word = words[0]
    is_file = word == "-" or "/" in word or word.endswith((".yaml", ".yml")) or os.path.exists(word)
    if is_file and "--policy" in options and not (word == "-" and verb.prog.endswith(" run")):
        return f"takes no file name; did you mean --policy {shlex.quote(printable(word))}?"
    return f"takes no argument {printable(word)}; see {verb.prog} --help"


def _verb_at(arguments: Sequence[str], verbs: "Mapping[str, Parser]") -> int | None:
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


def _fix(near: str, program: str) -> str:
    return f"did you mean {near}?" if near else f"see {program} --help"


def _nearest(word: str, words: Iterable[str]) -> str:
    """Return the most similar word, "" if none is similar. Leading dashes do not count."""
    bare = {one.lstrip("-"): one for one in words}
    found = difflib.get_close_matches(word[:80].lstrip("-"), bare, n=1, cutoff=0.65)
    return bare[found[0]] if found else ""
