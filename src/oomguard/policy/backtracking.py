"""Regular expressions that take very long on some command lines, which a process may choose.

Python's `re` backtracks, so a pattern such as `(a+)+$` takes twice as long with each character. The pattern
shows where it repeats; whether that is slow is measured, on texts made of what it repeats.
"""

import re
from re import _constants, _parser  # type: ignore[attr-defined]  # what re itself knows of a pattern
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRIAL_LENGTH = 400
"""Characters of a trial text. Enough to find exponential time; quadratic and cubic time, as of every pattern
with two or three `.*`, passes."""


class NoTimeError(Exception):
    """There is no time left to test a pattern."""


_SAMPLES = 4
_TEXTS = 64
_ENDINGS = ("\n!", "", "\0")
_OPCODES = _constants
_CATEGORIES = {
    _OPCODES.CATEGORY_DIGIT: "0",
    _OPCODES.CATEGORY_SPACE: " ",
    _OPCODES.CATEGORY_WORD: "a",
    _OPCODES.CATEGORY_NOT_DIGIT: "a",
    _OPCODES.CATEGORY_NOT_SPACE: "a",
    _OPCODES.CATEGORY_NOT_WORD: "-",
}
_REPEATS = {_OPCODES.MAX_REPEAT, _OPCODES.MIN_REPEAT}


def slow_text(pattern: str, is_slow: "Callable[[re.Pattern[str], str], bool]") -> str | None:
    """Return a text of up to TRIAL_LENGTH characters on which `is_slow(pattern, text)`, or None.

    `is_slow` raises NoTimeError when it has taken all the time that there is.
    """
    compiled = re.compile(pattern)
    for number, text in enumerate(trial_texts(pattern)):
        if number >= _TEXTS:
            break
        if is_slow(compiled, text):
            return text
    return None


def trial_texts(pattern: str) -> "Iterator[str]":
    """Yield texts that repeat what the pattern repeats, and then do not match."""
    seen = set()
    for before, pump in _pumps(_parser.parse(pattern), ""):
        times = (TRIAL_LENGTH - len(before)) // len(pump)
        for ending in _ENDINGS:
            text = before[:TRIAL_LENGTH] + pump * max(times, 0) + ending
            if text not in seen:
                seen.add(text)
                yield text


def _pumps(tree: Any, before: str) -> "Iterator[tuple[str, str]]":
    """Yield what each repetition repeats, with a text for what stands in front of it."""
    for node in tree:
        operation, argument = node
        for inner in _inner(operation, argument):
            yield from _pumps(inner, before)
        if operation in _REPEATS and argument[1] > 1:
            for sample in _samples(argument[2]):
                if sample:
                    yield before, sample
        before += next(iter(_samples([node])), "")


def _inner(operation: Any, argument: Any) -> list[Any]:
    """Return the parts of a node that are sequences themselves."""
    if operation in _REPEATS or operation is _OPCODES.POSSESSIVE_REPEAT:
        return [argument[2]]
    if operation is _OPCODES.SUBPATTERN:
        return [argument[3]]
    if operation is _OPCODES.BRANCH:
        return list(argument[1])
    if operation in (_OPCODES.ASSERT, _OPCODES.ASSERT_NOT):
        return [argument[1]]
    return [argument] if operation is _OPCODES.ATOMIC_GROUP else []


def _samples(tree: Any) -> list[str]:
    """Return a few texts that a sequence matches; those of its parts are put together in turn."""
    found = [""]
    for operation, argument in tree:
        found = [start + end for start in found for end in _of_node(operation, argument)][:_SAMPLES]
    return found


def _of_node(operation: Any, argument: Any) -> list[str]:
    if operation is _OPCODES.LITERAL:
        return [chr(argument)]
    if operation is _OPCODES.NOT_LITERAL:
        return ["b" if argument == ord("a") else "a"]
    if operation is _OPCODES.ANY:
        return ["a"]
    if operation is _OPCODES.IN:
        return _of_set(argument)
    if operation in _REPEATS or operation is _OPCODES.POSSESSIVE_REPEAT:
        least, most, body = argument
        return [sample * max(1, min(least, 64)) for sample in _samples(body)] if most else [""]
    if operation in (_OPCODES.ASSERT, _OPCODES.ASSERT_NOT):
        return [""]  # it takes up no room
    if operation is _OPCODES.BRANCH:
        return [sample for branch in argument[1] for sample in _samples(branch)][:_SAMPLES]
    inner = _inner(operation, argument)
    return _samples(inner[0]) if inner else [""]


def _of_set(items: Any) -> list[str]:
    """Return characters of a set: the first of each of its items, or one that a negated set lacks."""
    if items and items[0][0] is _OPCODES.NEGATE:
        members = {character for item in items[1:] for character in _members(item)}
        return [next((one for one in "ab0 -/x" if one not in members), "\u00e9")]
    return [character for item in items for character in _members(item)[:1]][:_SAMPLES] or [""]


def _members(item: Any) -> list[str]:
    operation, argument = item
    if operation is _OPCODES.LITERAL:
        return [chr(argument)]
    if operation is _OPCODES.RANGE:
        low, high = argument
        return [chr(code) for code in range(low, min(high, low + 255) + 1)]
    return [_CATEGORIES.get(argument, "a")] if operation is _OPCODES.CATEGORY else []
