"""Converts regular expressions on names and paths to globs, where globs can express them."""

import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.name_regex import is_regex, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.core.rule import Rule

NO_GLOB = "no glob is equivalent to this regular expression, or it needs too many"

_SPECIAL = set(".^$*+?{}[]\\|()")
_QUANTIFIERS = ("*", "+", "?", "{")
_FLAGS = re.compile(r"\(\?[a-zA-Z-]+[:)]")
"""Flags change what other alternatives match."""
_SHOWN_LIMIT = 512
"""Alternatives at most: more than anybody writes."""
_LENGTH_LIMIT = 4096
_EXPANDED_LIMIT = 2048
"""Characters of a regular expression, and of all its alternatives together. A process name has 15."""


def said_names(rule: "Rule") -> list[str]:
    """Return the names of a rule, with equivalent globs in place of a regular expression."""
    found: list[str] = []
    for name in rule.names:
        found += globs(text_of(name)) or () if is_regex(name) else (name.decode("utf-8", "surrogateescape"),)
    return found


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
    found = _alternatives(regex.replace("(^|/)", "^"))
    if found is None:
        return nothing
    said = {one: _glob(one) for one in found}
    return Alternatives(
        [*dict.fromkeys(glob for glob in said.values() if glob)],
        [one for one, glob in said.items() if not glob],
    )


def _alternatives(regex: str) -> list[str] | None:
    """Return the regex without groups, one for each alternative; None for too many.

    A group that is repeated, or is more than a group, stays as it is. `done` are the alternatives that have
    ended in the group that is being read, `begun` those that go on, and `outer` is both of each group around
    it.
    """
    limit = max(_EXPANDED_LIMIT, 4 * len(regex))
    kept = _kept_groups(regex)
    outer: list[tuple[list[str], list[str]]] = []
    done: list[str] = []
    begun = [""]
    begin = 0
    until = -1
    for at, character in _marks(regex):
        if at <= until or character not in "(|)":
            continue
        if at in kept:
            until = kept[at]
            continue
        begun = [one + regex[begin:at] for one in begun]
        begin = at + 1
        if character == "(":
            begin += 2 if regex.startswith("?:", begin) else 0
            outer.append((done, begun))
            done, begun = [], [""]
        elif character == "|":
            done += begun
            begun = [""]
        else:
            choices = done + begun
            done, before = outer.pop()
            if len(before) * len(choices) > _SHOWN_LIMIT:
                return None
            begun = [one + choice for one in before for choice in choices]
        if len(done) + len(begun) > _SHOWN_LIMIT or sum(map(len, begun)) > limit:
            return None
    found = done + [one + regex[begin:] for one in begun]
    return found if sum(map(len, found)) <= limit else None


def _kept_groups(regex: str) -> dict[int, int]:
    """Return, by where they begin, the ends of the groups that are more than a list of alternatives."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for at, character in _marks(regex):
        if character == "(":
            opened.append(at)
        elif character == ")":
            begin = opened.pop()
            is_plain = not regex.startswith("?", begin + 1) or regex.startswith("?:", begin + 1)
            if not is_plain or regex.startswith(_QUANTIFIERS, at + 1):
                found[begin] = at
    return found


def _marks(regex: str) -> "Iterator[tuple[int, str]]":
    """Yield each character that may mean something, with its place: none that is escaped or in a set."""
    at = 0
    while at < len(regex):
        if regex[at] == "\\":
            at += 1
        elif regex[at] == "[":
            at = _set_end(regex, at)
        else:
            yield at, regex[at]
        at += 1


def _set_end(regex: str, start: int) -> int:
    at = start + 1
    if regex[at : at + 1] == "^":
        at += 1
    if regex[at : at + 1] == "]":
        at += 1  # that comes first, it stands for itself
    while regex[at : at + 1] != "]":
        at += 2 if regex[at] == "\\" else 1
    return at


def _glob(regex: str) -> str | None:
    """Return one alternative, without groups, as a glob; None if that is not possible."""
    is_begun = regex.startswith("^")
    is_ended = regex.endswith("$") and not regex.endswith("\\$")
    body = regex[1 if is_begun else 0 : len(regex) - 1 if is_ended else len(regex)]
    said = "" if is_begun else "*"
    at = 0
    while at < len(body):
        character, following = body[at], body[at + 1 : at + 2]
        step = 1
        if character == "\\":
            if following.isalnum() or not following:
                return None
            piece, step = literal(following), 2
        elif character == "[":
            end = _set_end(body, at)
            inner = body[at + 1 : end]
            if "\\" in inner or "[" in inner:
                return None
            piece, step = f"[{'!' + inner[1:] if inner.startswith('^') else inner}]", end + 1 - at
        elif character == ".":
            piece = "?"
        elif character in _SPECIAL:
            return None
        else:
            piece = literal(character)
        quantifier = body[at + step : at + step + 1]
        if quantifier in ("*", "+") and piece == "?":
            piece, step = ("*" if quantifier == "*" else "?*"), step + 1
        elif quantifier and quantifier in "*+?{":
            return None
        said += piece
        at += step
    said += "" if is_ended else "*"
    return re.sub(r"\*\*+", "*", said)


def literal(text: str) -> str:
    """Return a text as a glob that matches it and nothing else."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
