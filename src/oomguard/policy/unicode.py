"""The bytes of a policy file as text that YAML allows."""

import codecs
import re

from oomguard.policy.fault import Fault, Words

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode(file: str, content: bytes) -> str | Fault:
    """Return the text of a file without its byte order mark, or the fault."""
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
        bad = _FORBIDDEN.search(text)
        if bad is None:
            return text
        before = text[: bad.start()]
        words = Words(
            "control-character",
            f"control character U+{ord(bad[0]):04X} is not allowed in YAML",
            'remove it, or write it as an escape such as "\\x1b" in double quotes',
        )
    except UnicodeDecodeError as error:
        before, byte = error.object[: error.start].decode(), error.object[error.start]
        words = Words("not-utf-8", f"byte 0x{byte:02x} is not valid UTF-8", "save the file as UTF-8")
    return words.at(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def has_surrogate(text: str) -> bool:
    """Return whether an escape produced half a character, which cannot be encoded."""
    return not text.isascii() and _SURROGATE.search(text) is not None
