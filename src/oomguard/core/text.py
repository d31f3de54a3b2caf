"""Makes untrusted names printable, and writes times and sizes for people.

A process chooses its own name and arguments. Control characters in them must not reach a terminal, a log
line or a table cell.
"""

from collections.abc import Iterable, Sequence

_ESCAPES = frozenset("\\nrtuUx")
"""Characters that follow a backslash in an escape."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(raw: bytes | str) -> str:
    r"""Return `raw` with control characters and invalid UTF-8 escaped: `a\x1b[31m\nb\xff`.

    A backslash is doubled where it would look like the start of an escape: two names never look alike.
    """
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text, [*text[1:], ""]))


def legible(raw: bytes | str) -> str:
    r"""Return text as it is if all of it can be printed, else escaped.

    For patterns and systemd's names (`dev-disk-by\x2dlabel.swap`), where backslashes are common and must be
    copied as they are: unlike with `printable`, two texts may look alike.
    """
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    return text if text.isprintable() else printable(text)


def span(seconds: float) -> str:
    """Return a time in the largest unit that gives at least 2: `3 days`, `90 seconds`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return counted(round(max(seconds, 0)), "second")


def kib(amount: int) -> str:
    """Return an amount of KiB in its largest unit: `8.0 GiB`."""
    if -1024 < amount < 1024:
        return f"{amount} KiB"
    size = amount / 1024
    for unit in ("MiB", "GiB"):
        if abs(round(size, 1)) < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def wrapped(line: str, width: int, more: str = "  ") -> list[str]:
    """Return a line broken between words, never within one, and indented by `more` where it goes on."""
    from textwrap import wrap  # imported late: the daemon does not need it

    text = line.lstrip(" ")
    left = line[: len(line) - len(text)]
    broken = wrap(
        text,
        width,
        initial_indent=left,
        subsequent_indent=left + more,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return broken if len(line) > width else [line]


def _escape(character: str, following: str) -> str:
    if character == "\\":
        return "\\\\" if following in _ESCAPES or not following.isprintable() else "\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, from surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def counted(number: int, noun: str, plural: str = "s") -> str:
    """Return `1 rule` or `2 rules`."""
    return f"{number} {noun}{plural if number != 1 else ''}"


def some_of(texts: Sequence[str], limit: int, more: str = "more") -> str:
    """Return the first texts and how many follow: `a, b and 3 more`."""
    rest = f" and {len(texts) - limit} {more}" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + rest


def any_of(words: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
