"""Settings in sysctl.d, systemd units and TuneD profiles, read as those programs read them."""

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.unit_file import assignments

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSCTL_FOLDERS = (
    "etc/sysctl.d",
    "run/sysctl.d",
    "usr/local/lib/sysctl.d",
    "usr/lib/sysctl.d",
    "lib/sysctl.d",
)
"""Most important first: a file hides those of the same name in later folders (sysctl.d(5))."""

UNIT_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)

TUNED_FOLDERS = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned")

_SIZE_LIMIT = 1 << 20


class Said(NamedTuple):
    """A value, and the file and line that set it."""

    value: str
    file: str
    line: int

    @property
    def source(self) -> str:
        """Where it is set, as `file:line`."""
        return f"{self.file}:{self.line}"


def sysctl_files(root: str = "/") -> list[str]:
    """Return the files of sysctl.d in the order in which they are applied; /etc/sysctl.conf is last.

    systemd-sysctl reads the latter only through a link in sysctl.d, procps' sysctl --system by itself.
    """
    found: dict[str, str] = {}
    for folder in SYSCTL_FOLDERS:
        for name in _names(os.path.join(root, folder)):
            if name.endswith(".conf"):
                found.setdefault(name, os.path.join(root, folder, name))
    conf = os.path.join(root, "etc/sysctl.conf")
    files = [found[name] for name in sorted(found)]
    if os.path.isfile(conf) and not any(os.path.realpath(file) == os.path.realpath(conf) for file in files):
        files.append(conf)
    return files


def sysctls_said(root: str = "/") -> dict[str, Said]:
    """Return the sysctls in sysctl.d, by dotted names; the last line for a name counts."""
    said: dict[str, Said] = {}
    for file in sysctl_files(root):
        for number, line in enumerate(_lines(file), 1):
            key, equals, value = line.partition("=")
            name = key.strip().removeprefix("-").strip()
            if equals and not line.startswith((";", "#")):
                said[name.replace("/", ".")] = Said(value.strip(), file, number)
    return said


def tuned_profile(root: str = "/") -> str:
    """Return the active TuneD profile, "" if there is none."""
    active = os.path.join(root, "etc/tuned/active_profile")
    return next((line for line in _lines(active) if line), "")


def tuned_sysctls(profile: str, root: str = "/", seen: set[str] | None = None) -> dict[str, Said]:
    """Return the sysctls of a TuneD profile, those of the profiles it includes first.

    `seen` are the profiles already read, so that a loop of includes ends.
    """
    said: dict[str, Said] = {}
    seen = set() if seen is None else seen
    for name in profile.split():
        if name in seen:
            continue
        seen.add(name)
        folders = (os.path.join(root, folder, os.path.basename(name)) for folder in TUNED_FOLDERS)
        file = next((f"{one}/tuned.conf" for one in folders if os.path.isfile(f"{one}/tuned.conf")), "")
        own: dict[str, Said] = {}
        for section, key, found in _assignments(file) if file else ():
            if section == "main" and key == "include":
                said |= tuned_sysctls(found.value.replace(",", " "), root, seen)
            elif section == "sysctl":
                own[key.removeprefix("-").strip()] = found
        said |= own
    return said


def unit_setting(unit: str, key: str, root: str = "/") -> Said | None:
    """Return the effective value of a setting in a unit and its drop-ins, None if it is not set."""
    says = unit_settings(unit, key, root)
    return says[-1] if says else None


def unit_settings(unit: str, key: str, root: str = "/") -> list[Said]:
    """Return each line of a unit and then of its drop-ins that gives a setting (systemd.unit(5))."""
    template = re.sub(r"@.*\.", "@.", unit)
    names = (unit, template) if template != unit else (unit,)
    folders = [os.path.join(root, folder) for folder in UNIT_FOLDERS]
    main = next((file for name in names for one in folders if os.path.isfile(file := f"{one}/{name}")), None)
    drop_ins: dict[str, str] = {}
    for folder in folders:
        for name in names:
            for one in _names(f"{folder}/{name}.d"):
                if one.endswith(".conf"):
                    drop_ins.setdefault(one, f"{folder}/{name}.d/{one}")
    files = [main] if main is not None else []
    files += [drop_ins[name] for name in sorted(drop_ins)]
    return [found for file in files for section, name, found in _assignments(file) if name == key and section]


def _assignments(file: str) -> "Iterator[tuple[str, str, Said]]":
    for one in assignments(_lines(file)):
        yield one.section, one.key, Said(one.value, file, one.line)


def _lines(file: str) -> list[str]:
    """Return the stripped lines of a file; none if it cannot be read."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a FIFO would block
    except OSError:
        return []
    try:
        text = os.read(fd, _SIZE_LIMIT).decode("utf-8", "replace")
    except OSError:
        return []
    finally:
        os.close(fd)
    return [line.strip() for line in text.split("\n")]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
