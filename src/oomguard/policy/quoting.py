"""Text that YAML reads back unchanged."""

import re

_PLAIN = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+-]*[A-Za-z0-9_])?")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def quoted(text: str) -> str:
    """Return text that YAML reads back unchanged, in double quotes if necessary."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
