"""Messages in quotes, as loggers and languages print them: `msg="…"`, `"msg"=>"…"`, `b'…'`."""

import re

from oomguard.oom.log_line import is_decoration

MESSAGE_KEYS = frozenset(
    {"message", "msg", "log", "line", "text", "textPayload", "short_message", "full_message", "@message"}
    | {"body", "event", "data", "content", "payload", "_raw", "logmsg", "original", "note"}
    | {"SyslogMessage", "stringValue", "stdout", "stdout_lines", "output", "Output"}
)
"""What loggers call a message. Users choose much of other fields: a name, a path, the name of a browser."""
_IS_LITERAL = re.compile(
    r"[\s*-]{0,40}+(?:\[|[\w.-]{1,40}+: )?+b?[\"']|\{\"[@\w]{1,40}\" ?=>|\[\d{1,9}\] [\w.*-]{1,80}: \["
)
"""How lines begin that are nothing but strings, a hash of Ruby, or a record as Fluent Bit prints it."""
_OPENINGS = {"": re.compile("[\"']"), "'": re.compile('"'), '"': re.compile("'")}
"""The quotes that may begin a string, by which of them the rest of a line has no end for."""
_STRINGS = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*+){quote}") for quote in "\"'"}
_KEY = re.compile(r"(?:(?<![\w.-])|[\"'])([@\w]{1,20})[\"']?\s?(?:=>|[:=])\s?b?\Z")
_KEY_LENGTH = 30
_BEFORE = ("=", ":", ">", " ", "b")
_STRINGS_LIMIT = 1024
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))")
LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of characters, which only escapes can have; the rest of them are bytes that are not UTF-8."""
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def is_literal(line: str) -> bool:
    """Return whether nothing but strings is in a line, even if one of them has a mark of the kernel's."""
    return _IS_LITERAL.match(line) is not None


def quoted_messages(line: str) -> tuple[list[str], int]:
    """Return the messages in quotes in a line, and how many strings it has.

    A message is behind the key of one, has nothing in front, or follows another one in a list. Quotes are
    read from the left, so a string within a string is none. Each character is read twice at most, and only
    the first strings count.
    """
    messages, count, at, last, unclosed, is_list = [], 0, 0, 0, "", False
    while count < _STRINGS_LIMIT and (opening := _OPENINGS.get(unclosed)) is not None:
        if (quote := opening.search(line, at)) is None:
            break
        start, at = quote.start(), quote.end()
        if (string := _STRINGS[quote[0]].match(line, start)) is None:
            unclosed += quote[0]
            continue
        is_list = is_list and not line[last:start].strip(", b")
        last = at = string.end()
        key = None
        if line[start - 1 : start] in _BEFORE:
            key = _KEY.search(line, max(start - _KEY_LENGTH, 0), start)
        if key is None:
            is_message = is_list = is_list or (not count and is_decoration(line[:start].rstrip("b[")))
        else:
            is_message = key[1] in MESSAGE_KEYS
        if is_message:
            messages.append(_ESCAPE.sub(_unescaped, string[1]))
        count += 1
    return messages, count


def _unescaped(found: re.Match[str]) -> str:
    number = found[1] or found[2]
    return LONE.sub("\ufffd", chr(int(number, 16))) if number else _ESCAPED.get(found[3], found[3])
