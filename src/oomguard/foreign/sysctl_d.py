"""sysctl.d and /etc/sysctl.conf: which lines count, with their globs (sysctl.d(5), systemd's sysctl.c)."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from oomguard.core.match import is_glob
from oomguard.core.sysctl import SYSCTLS
from oomguard.foreign.text_file import Read, SourcedValue, in_order, lines_or_none, names_in, parse_number

FOLDERS = (
    "etc/sysctl.d",
    "run/sysctl.d",
    "usr/local/lib/sysctl.d",
    "usr/lib/sysctl.d",
    "lib/sysctl.d",
)
"""Most important first: a file hides those of the same name in later folders."""

_NAMES = {row.name.replace(".", "/"): row.name for row in SYSCTLS.values()}
"""The sysctls that oomguard knows, by path."""

ZERO_CHANGES_NOTHING = ("vm.dirty_ratio", "vm.dirty_bytes", "vm.dirty_background_bytes")
"""A 0 leaves the partner of these alone: the kernel denies 0 bytes, and that ratio is 0 already."""


class Line(NamedTuple):
    """A line: its sysctl as a path, which may be a glob, and its value. None keeps globs off that sysctl."""

    path: str
    value: str | None
    file: str
    line: int


def sysctl_files(root: str = "/") -> list[str]:
    """Return the files of sysctl.d in the order in which they are applied.

    /etc/sysctl.conf is the last, but not under systemd: that reads it only by a link in sysctl.d, which many
    distributions lack (Debian 13, Arch).
    """
    files = in_order(
        os.path.join(folder, name)
        for folder in (os.path.join(root, one) for one in FOLDERS)
        for name in names_in(folder)
    )
    conf = os.path.join(root, "etc/sysctl.conf")
    is_linked = any(os.path.realpath(file) == os.path.realpath(conf) for file in files)
    if os.path.isfile(conf) and not is_linked and not os.path.isdir(os.path.join(root, "run/systemd/system")):
        files.append(conf)
    return files


def lines_that_count(
    files: Iterable[str],
    read: Read = lines_or_none,
    wrong: Callable[[str, int, str], None] = lambda _file, _line, _text: None,
) -> dict[str, Line]:
    """Return the line that counts for each sysctl or glob, in the order in which they are applied.

    The last one does; but one that repeats a value changes nothing, not even the order. `wrong` gets each
    line that is not valid.
    """
    found: dict[str, Line] = {}
    for file in files:
        for number, text in enumerate(read(file), 1):
            line = text.strip()
            if not line or line.startswith(("#", ";")):
                continue
            name, equals, value = line.partition("=")
            path = _path(name.removeprefix("-").strip())
            if not path or not (equals or name.startswith("-")):
                wrong(file, number, line)
                continue
            said = value.strip() if equals else None
            if path in found and found[path].value == said:
                continue
            found.pop(path, None)
            found[path] = Line(path, said, file, number)
    return found


def settings(lines: Mapping[str, Line]) -> dict[str, SourcedValue]:
    """Return the values of the sysctls that oomguard knows, by dotted names, in the order of their writes.

    Of `10 # why`, the kernel reads only the 10.
    """
    values: dict[str, SourcedValue] = {}
    for one in lines.values():
        if one.value is None:
            continue
        number = re.split("[ \t]", one.value, maxsplit=1)[0]
        paths = [one.path] if one.path in _NAMES else []
        if not paths and is_glob(one.path):
            paths = [path for path in _NAMES if path not in lines and _is_meant(one.path, path)]
        for path in paths:
            write(values, _NAMES[path], SourcedValue(number, one.file, one.line))
    return values


def sysctls_said(root: str) -> dict[str, SourcedValue]:
    """Return the values that sysctl.d sets on a host, by dotted names."""
    return settings(lines_that_count(sysctl_files(root)))


def write(values: dict[str, SourcedValue], name: str, value: SourcedValue) -> None:
    """Set a sysctl in `values`, which removes its partner, unless the write changes nothing."""
    partner = SYSCTLS[name].partner if name in SYSCTLS else ""
    if partner in values and value.value == "0" and name in ZERO_CHANGES_NOTHING:
        return
    if (name in values or partner in values) and parse_number(value.value) is None:
        return  # the kernel denies it
    values.pop(partner, None)
    values.pop(name, None)
    values[name] = value


def _is_meant(glob: str, path: str) -> bool:
    return glob.count("/") == path.count("/") and all(map(fnmatchcase, path.split("/"), glob.split("/")))


def _path(name: str) -> str:
    """Return a name as a path. If the first separator is a dot, dots and slashes change places."""
    first = next((character for character in name if character in "./"), "")
    path = name.translate(str.maketrans("./", "/.")) if first == "." else name
    return "/".join(filter(None, path.split("/")))
