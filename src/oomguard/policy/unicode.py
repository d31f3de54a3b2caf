"""The bytes of a policy file as text that YAML allows."""

import codecs
import re

from oomguard.policy.fault import Fault

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode(file: str, content: bytes) -> str | Fault:
    """Return the text of a file without its byte order mark, or the fault."""
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        return _fault(
            file,
            before,
            "not-utf-8",
            f"byte 0x{error.object[error.start]:02x} is not valid UTF-8",
            "save the file as UTF-8",
        )
    bad = _FORBIDDEN.search(text)
    if bad is None:
        return text
    return _fault(
        file,
        text[: bad.start()],
        "control-character",
        f"control character U+{ord(bad[0]):04X} is not allowed in YAML",
        'remove it, or write it as an escape such as "\\x1b" in double quotes',
    )


def has_surrogate(text: str) -> bool:
    """Return whether an escape produced half a character, which cannot be encoded."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def _fault(file: str, before: str, code: str, message: str, hint: str) -> Fault:
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Fault(file, line, column, "", message, hint, code=code)
