"""Converts regular expressions on names and paths to globs, where globs can express them."""

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from oomguard.core.name_regex import is_regex, text_of
from oomguard.core.rule import Rule

NO_GLOB = "no glob is equivalent to this regular expression, or it needs too many"

_SPECIAL = set(".^$*+?{}[]\\|()")
_ATOM = r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|."
_ANCHOR = "(^|/)"
"""A file name contains no slash."""
_TOKEN = re.compile(rf"{re.escape(_ANCHOR)}|\(\?:|{_ATOM}", re.DOTALL)
_REPEATED = re.compile(rf"({_ATOM})([*+?{{]?)", re.DOTALL)
"""A character, escape or set, and how its repetition begins."""
_FLAGS = re.compile(r"\(\?[a-zA-Z-]+[:)]")
"""Flags change what other alternatives match."""
_SHOWN_LIMIT = 512
"""Alternatives at most: more than anybody writes."""
_LENGTH_LIMIT = 4096
_EXPANDED_LIMIT = 2048
"""Characters of a regular expression, and of all its alternatives together. A process name has 15."""


def glob_names(rule: Rule) -> Sequence[bytes]:
    """Return the names of a rule, with equivalent globs in place of a regular expression if there are any."""
    if not any(map(is_regex, rule.names)):
        return rule.names
    names: list[bytes] = []
    for name in rule.names:
        said = globs(text_of(name)) if is_regex(name) else None
        names += [glob.encode("utf-8", "surrogateescape") for glob in said] if said else (name,)
    return names


def said_names(rule: Rule) -> list[str]:
    """Return the same as text, without regular expressions."""
    return [name.decode("utf-8", "surrogateescape") for name in glob_names(rule) if not is_regex(name)]


class Alternatives(NamedTuple):
    """The globs for the alternatives of a regular expression, and the alternatives without any."""

    globs: list[str]
    unsaid: list[str]


def globs(regex: str) -> list[str] | None:
    """Return globs that together match what a searched regular expression does; None if none can."""
    found = alternatives(regex)
    return None if found.unsaid else found.globs


def alternatives(regex: str) -> Alternatives:
    """Convert a searched regular expression, as far as globs can express it.

    Understood are anchors, alternatives, groups of alternatives, `.`, `.*`, `[...]`, and characters. `(^|/)`
    at the start is an anchor, too, because a file name contains no slash.
    """
    nothing = Alternatives([], [regex])
    if len(regex) > _LENGTH_LIMIT or _FLAGS.search(regex):
        return nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(regex)
    except (re.error, RecursionError, OverflowError):
        return nothing
    limit = max(_EXPANDED_LIMIT, 4 * len(regex))
    tokens = ["^" if token == _ANCHOR else token for token in _TOKEN.findall(regex)]
    found = _alternatives(tokens, limit)
    if found is None:
        return nothing
    said = {one: _glob(one) for one in found}
    return Alternatives(
        [*dict.fromkeys(glob for glob in said.values() if glob)],
        [one for one, glob in said.items() if not glob],
    )


def _alternatives(tokens: list[str], limit: int) -> list[str] | None:
    """Return the regex without groups, one for each alternative; None for too many.

    A group that is repeated, or is more than a group, stays as it is. `done` are the alternatives that have
    ended, `begun` those that go on.
    """
    done, begun = list[str](), [""]
    at = 0
    while at < len(tokens):
        choices: list[str] | None = [tokens[at]]
        if tokens[at] == "|":
            done, begun, choices = done + begun, [""], [""]
        elif tokens[at] in ("(", "(?:"):
            end = _end_of_group(tokens, at)
            is_kept = tokens[at + 1] == "?" or tokens[end + 1 : end + 2] in (["*"], ["+"], ["?"], ["{"])
            inside = tokens[at + 1 : end]
            choices = ["".join(tokens[at : end + 1])] if is_kept else _alternatives(inside, limit)
            at = end
        if choices is None or len(done) + len(begun) * len(choices) > _SHOWN_LIMIT:
            return None
        begun = [one + choice for one in begun for choice in choices]
        if sum(map(len, begun)) > limit:
            return None
        at += 1
    found = done + begun
    return found if sum(map(len, found)) <= limit else None


def _end_of_group(tokens: list[str], at: int) -> int:
    depth = 0
    for end in range(at, len(tokens)):
        depth += (tokens[end] in ("(", "(?:")) - (tokens[end] == ")")
        if not depth:
            return end
    return len(tokens) - 1  # a comment has another (


def _glob(regex: str) -> str | None:
    """Return one alternative, without groups, as a glob; None if that is not possible."""
    is_begun = regex.startswith("^")
    is_ended = regex.endswith("$") and not regex.endswith("\\$")
    said = "" if is_begun else "*"
    for atom, repetition in _REPEATED.findall(regex[is_begun : len(regex) - is_ended]):
        if repetition and (atom != "." or repetition not in "*+"):
            return None
        if atom == ".":
            said += {"*": "*", "+": "?*"}.get(repetition, "?")
        elif atom in _SPECIAL:
            return None
        elif atom[0] == "\\":
            if atom[1].isalnum():
                return None
            said += literal(atom[1])
        elif len(atom) > 1:
            inner = atom[1:-1]
            if "\\" in inner or "[" in inner or inner.startswith("!"):  # which excludes in a glob
                return None
            said += f"[!{inner[1:]}]" if inner.startswith("^") else atom
        else:
            said += literal(atom)
    return re.sub(r"\*\*+", "*", said if is_ended else f"{said}*")


def literal(text: str) -> str:
    """Return a text as a glob that matches it and nothing else."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
