"""What a word without quotes means, and how text is written to mean itself.

YAML 1.1, which most tools still speak, reads `on` as true, `0100` as 64 and `12:30` as 750. Here
such a word becomes a `Surprise`, which no key takes, and the fault explains how YAML 1.1 reads it.
Canonical decimal integers, `true` and `false` mean themselves; the rest is text.
"""

import re
from typing import NamedTuple

from oomguard.policy.nodes import Mapping, Node, Scalar, Sequence


class Surprise(NamedTuple):
    """A plain scalar that YAML does not read as it looks.

    `meaning` is how YAML reads it; `instead` is how to write that unambiguously, "" where no key
    takes it.
    """

    text: str
    meaning: str
    instead: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether it is an empty value."""
        return self.text in _NOTHING


Data = str | int | bool | Surprise | list["Data"] | dict[str, "Data"]

_DIGITS_LIMIT = 30
_DECIMAL = re.compile(r"(?:0|-?[1-9][0-9]{0,29})\Z")
_WORD = re.compile(r"[^-+.0-9~]")
_INTEGERS = tuple(
    (re.compile(rf"[-+]?{digits}\Z"), base, reading)
    for digits, base, reading in (
        ("0x[0-9a-fA-F_]+", 16, "YAML 1.1 reads as {} (hexadecimal)"),
        ("0b[01_]+", 2, "YAML 1.1 reads as {} (binary)"),
        ("0o[0-7]+", 8, "YAML 1.1 reads as text and YAML 1.2 as {} (octal)"),
        ("0[0-7_]+", 8, "YAML 1.1 reads as {} (octal)"),
        ("0[0-9_]+", 10, "YAML 1.1 reads as text and YAML 1.2 as {}"),
        ("[0-9][0-9_]*", 10, "YAML 1.1 reads as {}"),
    )
)
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF|nan|NaN|NAN))\Z"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:.*)?\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNQUOTED = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+-]*[A-Za-z0-9_])?")
_KEPT = re.compile(r"[\w./@+%<>=^~-][\w ./@+%*?<>=^~-]*")
"""Words without quotes that need none in a list, either."""
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_WORDS = {
    spelling: meaning
    for words, meaning in (("yes on y", "true"), ("no off n", "false"), ("null", "nothing"))
    for word in words.split()
    for spelling in (word, word.title(), word.upper())
} | {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def data(node: Node) -> Data:
    """Return a tree as plain values, with a `Surprise` for each ambiguous scalar."""
    if isinstance(node, Scalar):
        return scalar(node)
    if isinstance(node, Sequence):
        return [data(item) for item in node.items]
    assert isinstance(node, Mapping)
    return {key: data(entry.value) for key, entry in node.entries.items()}


def scalar(node: Scalar) -> Data:
    """Return what one scalar means."""
    text = node.text
    if not node.plain:
        return text
    if text and _WORD.match(text):  # begins with a letter: by far the most
        if (meaning := _WORDS.get(text)) is not None:
            instead = "" if meaning == "nothing" else meaning
            return Surprise(text, f"which YAML 1.1 reads as {meaning}", instead)
        return text == "true" if text in {"true", "false"} else text
    if _DECIMAL.match(text):
        return int(text)
    return _surprise(text) or text


def is_nothing(node: Scalar) -> bool:
    """Return whether a scalar is an empty value."""
    return node.plain and node.text in _NOTHING


def _surprise(text: str) -> Surprise | None:
    """Return how YAML reads a plain scalar that starts with a digit or a sign, None if as text."""
    if text in _NOTHING:
        return Surprise(text, "which YAML reads as nothing")
    for pattern, base, reading in _INTEGERS:
        if pattern.match(text):
            return _integer(text, base, reading)
    if _SIXTIES.match(text):
        return Surprise(text, f"which YAML 1.1 reads as {_sixties(text)} (base 60, as in hours and minutes)")
    if _DATE.match(text):
        return Surprise(text, "which YAML 1.1 reads as a date")
    if _FLOAT.match(text):
        return Surprise(text, "which YAML reads as a number with a fraction or exponent")
    return None


def _integer(text: str, base: int, reading: str) -> Surprise:
    digits = text.replace("_", "")
    if len(digits) > _DIGITS_LIMIT:
        return Surprise(text, "a number with too many digits")
    try:
        number = str(int(digits, base))
    except ValueError:  # `0x_` has no digit
        return Surprise(text, "which is not a number")
    return Surprise(text, f"which {reading.format(number)}", number)


def _sixties(text: str) -> str:
    total = 0
    for part in text.lstrip("-+").partition(".")[0].replace("_", "").split(":")[:8]:
        total = total * 60 + int(part[:_DIGITS_LIMIT] or "0")
    return f"-{total}" if text.startswith("-") else str(total)


def text_of(node: Node) -> str:
    """Return a value as YAML on one line."""
    if isinstance(node, Scalar):
        return node.text if node.plain and _KEPT.fullmatch(node.text) else quoted(node.text)
    if isinstance(node, Sequence):
        return f"[{', '.join(map(text_of, node.items))}]"
    return "{" + ", ".join(f"{key}: {text_of(entry.value)}" for key, entry in node.entries.items()) + "}"


def quoted(text: str) -> str:
    """Return text that YAML reads back unchanged, in double quotes if necessary."""
    if _UNQUOTED.fullmatch(text) and text.lower() not in {"true", "false", *_WORDS}:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def has_surrogate(text: str) -> bool:
    """Return whether an escape produced half a character, which cannot be encoded."""
    return not text.isascii() and _SURROGATE.search(text) is not None
