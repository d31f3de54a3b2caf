"""The line that indented lines continue.

journalctl and dmesg print the prefix of a message once, and indent its further lines by its width. Any
user can write such messages, so a further line is no message, whatever is in it.
"""

from oomguard.oom.log_entry import is_field, split_line
from oomguard.oom.log_line import is_others

PREFIX_LIMIT = 400
"""Characters in which a prefix ends."""


class Head:
    """The last line that is not indented. `at` is where it begins; negative if that precedes the text."""

    def __init__(self) -> None:
        self.at = -1
        self._known = 0
        """All lines from the head to there are indented."""
        self._text = ""
        self._width = self._fields_indent = 0
        """Those of its prefix, if it is the kernel's, and of the fields below, if it begins an entry."""

    def is_further(self, text: str, start: int) -> bool:
        """Return whether the line at `start` continues a message or a field by its indentation.

        If it is indented, its head is then known. No line is passed twice.
        """
        if not text.startswith(" ", start):
            return False
        self._find(text, start)
        own = text[start : start + PREFIX_LIMIT]
        indent = len(own) - len(own.lstrip(" "))
        if self._width:
            return self._width <= indent
        return 0 < self._fields_indent < indent or is_others(self._text[:indent])

    def end_piece(self, text: str, end: int, dropped: int) -> None:
        """Keep what lines behind `end` may continue. The next text lacks that many characters of this one."""
        if end > self._known:
            self._find(text, self._before(text, end))
            self._known = end
        self._known -= dropped
        self.at -= dropped

    def _find(self, text: str, start: int) -> None:
        at = start
        while at > self._known and text.startswith(" ", at):
            at = self._before(text, at)
        self._known = max(self._known, start)
        if text.startswith(" ", at):
            return  # the head is known already
        self.at = at
        self._text, _, below = text[at : at + 2 * PREFIX_LIMIT].partition("\n")
        line = split_line(self._text)
        self._width = line.indent if line is not None and line.is_marked else 0
        is_entry = is_field(below) and below.lstrip()[0] != '"'  # JSON escapes line breaks
        self._fields_indent = len(below) - len(below.lstrip()) if is_entry else 0

    def _before(self, text: str, at: int) -> int:
        """Return where the line before begins."""
        return text.rfind("\n", self._known, at - 1) + 1 or self._known
