"""The files of other tools, and what in them cannot be read."""

import os
from collections.abc import Iterator, Sequence

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable
from oomguard.foreign.text_file import UnreadableError, read_lines, why_missing
from oomguard.policy.scalars import has_surrogate
from oomguard.propose.policy_draft import Note, Origin

SHOWN_LIMIT = 60
"""Characters of a line or value that a note shows."""

_FILES_LIMIT = 20_000
_LINKS = (".wants", ".requires", ".upholds")
"""Folders of links to units that are found where they are."""


class ForeignError(OomguardError):
    """Nothing of a tool's files can be imported."""


class Files:
    """The files of a tool. What cannot be read is a note, an error only if nothing can."""

    def __init__(self, paths: Sequence[str], endings: tuple[str, ...] = ()) -> None:
        """Find files: `paths` themselves, and in folders those with the endings. Without endings, no folders.

        Raises ForeignError if there are none.
        """
        self.notes: list[Note] = []
        self._named = frozenset(paths)
        self._unread: set[str] = set()
        self.all = [file for path in paths for file in self._found(path, endings)]
        if not self.all:
            nothing = f"{', '.join(map(printable, paths))}: has no {' and no '.join(endings)} files"
            raise ForeignError(printable(str(self.notes[0])) if self.notes else nothing)

    def lines(self, file: str) -> list[str]:
        """Return the lines of a file, an empty one in place of each that is not UTF-8 text."""
        try:
            found = read_lines(file, wait=file in self._named)
        except UnreadableError as error:
            self._unreadable(file, str(error))
            return []
        for number, line in enumerate(found, 1):
            if "\0" in line or has_surrogate(line):
                found[number - 1] = ""
                if not line.lstrip().startswith(("#", ";")):
                    self.notes.append(Note("", "is not UTF-8 text", Origin(file, number)))
        return found

    def numbered(self, file: str) -> Iterator[tuple[Origin, str]]:
        """Yield the lines of a file with their places."""
        for number, line in enumerate(self.lines(file), 1):
            yield Origin(file, number), line

    def finish(self) -> list[Note]:
        """Return the notes. Raises ForeignError if no file could be read."""
        if self._unread.issuperset(self.all):
            raise ForeignError(printable(str(self.notes[0])))
        return [*dict.fromkeys(self.notes)]  # a file can be read twice

    def _found(self, path: str, endings: tuple[str, ...]) -> list[str]:
        try:
            os.stat(path)
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            why = "no such file or folder" if is_missing else f"cannot be read: {error.strerror}"
            self._unreadable(path, why_missing(path) or why)
            return []
        if not endings or not os.path.isdir(path):
            return [path]
        found: list[str] = []
        seen: set[str] = set()
        for folder, folders, names in os.walk(path, onerror=self._unlisted, followlinks=True):
            seen.add(os.path.realpath(folder))
            folders[:] = [
                name
                for name in folders
                if not name.endswith(_LINKS) and os.path.realpath(f"{folder}/{name}") not in seen
            ]
            meant = [name for name in (*names, *folders) if name.endswith(endings) and name[0] != "."]
            found += [os.path.join(folder, name) for name in meant]
            if len(found) > _FILES_LIMIT:
                self._unreadable(path, f"has more than {_FILES_LIMIT:,} files; give a folder below")
                return []
        for file in found:
            why = why_missing(file)
            if why:
                self._unreadable(file, why)
        return sorted(set(found) - self._unread)

    def _unlisted(self, error: OSError) -> None:
        self._unreadable(os.fsdecode(error.filename), f"cannot be read: {error.strerror}")

    def _unreadable(self, file: str, why: str) -> None:
        if file not in self._unread:
            self._unread.add(file)
            self.notes.append(Note("", why, Origin(file)))
