"""Typographic and invisible characters, which word processors and web pages write in place of ASCII."""

import re
import unicodedata

QUOTES = frozenset("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a")
DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")


def is_unusual(character: str) -> bool:
    """Return whether a character is typographic or invisible."""
    if character.isascii():
        return False
    is_invisible = unicodedata.category(character) in {"Cf", "Zs", "Zl", "Zp"}
    return is_invisible or character in QUOTES or character in DASHES


def usual(character: str) -> str:
    """Return what was probably meant, "" for a quote or what has no width."""
    if not is_unusual(character):
        return character
    return "-" if character in DASHES else " " if unicodedata.category(character) == "Zs" else ""


def in_ascii(text: str) -> str:
    """Return an integer whose digits or sign are typographic, or that has a mark around it; else ""."""
    number = unicodedata.normalize("NFKC", "".join(map(usual, text))).strip(" ,;")
    return number if number != text and re.fullmatch("-?(?:0|[1-9][0-9]*)", number) else ""


def described(character: str) -> str:
    """Return a character as `U+2013, en dash`."""
    return f"U+{ord(character):04X}, {unicodedata.name(character, 'unnamed').lower()}"
