"""The files of other tools, read within bounds and with clear errors."""

import os

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable

_SIZE_LIMIT = 1 << 20
"""Ten times the largest file of Ananicy."""
_FILES_LIMIT = 20_000
_NAME_IT = "name the tool's files: oomguard import TOOL FILE"


class ForeignError(OomguardError):
    """Something that cannot be imported. Exit code 2, because the command line named it."""

    exit_code = 2


def read_lines(path: str) -> list[str]:
    """Return the lines of a text file."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        hint = _NAME_IT if isinstance(error, FileNotFoundError) else ""
        raise ForeignError(f"{printable(path)}: cannot be read: {error.strerror}", hint=hint) from error
    if len(raw) > _SIZE_LIMIT:
        raise ForeignError(
            f"{printable(path)}: is larger than {_SIZE_LIMIT >> 20} MiB, so it is not a configuration"
        )
    if b"\0" in raw:
        raise ForeignError(f"{printable(path)}: is not text")
    return raw.decode("utf-8", "replace").splitlines()


def files_below(path: str, endings: tuple[str, ...]) -> list[str]:
    """Return a file itself, or those below a folder with these endings, sorted."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise ForeignError(f"{printable(path)}: no such file or folder", hint=_NAME_IT)
        return [path]
    found: list[str] = []
    for folder, _, names in os.walk(path):
        found += [os.path.join(folder, name) for name in names if name.endswith(endings)]
        if len(found) > _FILES_LIMIT:
            raise ForeignError(
                f"{printable(path)}: has more than {_FILES_LIMIT:,} files; give a folder below"
            )
    return sorted(found)
