"""systemd's units and their drop-ins in several folders, with systemd's precedence (systemd.unit(5))."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from oomguard.foreign.text_file import Read, SourcedValue, in_order, lines_or_none, names_in

SYSTEM_FOLDERS = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)
"""Folders of system units, most important first."""

KINDS = ("service", "socket", "mount", "swap", "slice", "scope")
"""Units that processes run in, or that start them."""


class Assignment(NamedTuple):
    """A key and its value, the section ("" before the first), and the first line."""

    section: str
    key: str
    value: str
    line: int


class Units:
    """Units, by name; a template is `db@.service`, and a prefix that only drop-ins have `batch-.service`."""

    def __init__(self, files: Iterable[str]) -> None:
        """Index units and drop-ins; of equal names, those that come first count."""
        ranks: dict[str, int] = {}
        first: dict[str, str] = {}
        self._drop_ins: dict[str, list[tuple[int, str, str]]] = {}
        """By the name of their folder without `.d`: rank of the folder, name and path of each."""
        for file in files:
            folder, name = os.path.split(file)
            above, own = os.path.split(folder)
            if name.endswith(".conf") and own.endswith(tuple(f"{kind}.d" for kind in KINDS)):
                rank = ranks.setdefault(above, len(ranks))
                self._drop_ins.setdefault(own.removesuffix(".d"), []).append((rank, name, file))
            elif name.endswith(tuple(f".{kind}" for kind in KINDS)):
                ranks.setdefault(folder, len(ranks))
                first.setdefault(name, file)
        self._files: dict[str, str] = {}
        self._aliases: dict[str, list[str]] = {}
        for name, file in first.items():
            target = os.path.basename(os.path.realpath(file)) if os.path.islink(file) else name
            if target != name and target in first:
                self._aliases.setdefault(target, []).append(name)
            else:
                self._files[name] = file

    def names(self) -> set[str]:
        """Return all units, templates and prefixes, and `service` if there are drop-ins for all services."""
        aliases = {alias for aliases in self._aliases.values() for alias in aliases}
        return (self._files.keys() | self._drop_ins.keys()) - aliases

    def has_file(self, unit: str) -> bool:
        """Return whether there is a file for the unit or for its template."""
        return self._file(unit) is not None

    def is_masked(self, unit: str) -> bool:
        """Return whether an administrator turned the unit off."""
        file = self._file(unit)
        return file is not None and os.path.realpath(file) == "/dev/null"

    def files(self, unit: str) -> list[str]:
        """Return the unit's file and its drop-ins, in the order in which systemd reads them."""
        best: dict[str, tuple[tuple[int, int, int], str]] = {}
        for group, names in enumerate(self._named(unit)):
            for distance, name in enumerate(names):
                for rank, drop_in, file in self._drop_ins.get(name, ()):
                    place = (group, rank, distance), file
                    best[drop_in] = min(best.get(drop_in, place), place)
        main = self._file(unit)
        return [*([] if main is None else [main]), *(best[name][1] for name in sorted(best))]

    def settings(self, unit: str, key: str, read: Read = lines_or_none) -> list[SourcedValue]:
        """Return each line that gives a setting, in its section, the one that counts last."""
        section = unit.rpartition(".")[2].title()
        return [
            SourcedValue(one.value, file, one.line)
            for file in self.files(unit)
            for one in assignments(read(file))
            if one.key == key and one.section == section
        ]

    def setting(self, unit: str, key: str) -> SourcedValue | None:
        """Return the line of a setting that counts, None if there is none."""
        return next(reversed(self.settings(unit, key)), None)

    def _file(self, unit: str) -> str | None:
        return self._files.get(unit) or self._files.get(template(unit))

    def _named(self, unit: str) -> Iterator[list[str]]:
        """Yield the names whose drop-ins a unit has: by its own name, by each alias, by its type."""
        for name in (unit, *self._aliases.get(unit, ()), *self._aliases.get(template(unit), ())):
            yield variants(name)
        yield [unit.rpartition(".")[2]]


def assignments(lines: Iterable[str]) -> Iterator[Assignment]:
    """Yield the assignments in a file (systemd.syntax(7)); continued lines are joined."""
    section, pending, begun = "", "", 0
    for number, line in enumerate((*lines, ""), 1):  # the end ends a continued line
        text = line.lstrip()
        if text.startswith(("#", ";")) or (not text and not pending):
            continue  # a comment does not end a continued line
        begun = begun or number
        if (len(text) - len(text.rstrip("\\"))) % 2:  # two are one that is meant; none counts before a space
            pending += text[:-1] + " "
            continue
        text, pending = (pending + text).rstrip(), ""
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1]
        elif "=" in text:
            key, _, value = text.partition("=")
            yield Assignment(section, key.strip(), value.strip(), begun)
        begun = 0


def host_units(root: str) -> Units:
    """Return the system units of a host."""
    files = []
    for folder in (os.path.join(root, one) for one in SYSTEM_FOLDERS):
        for path in (os.path.join(folder, name) for name in names_in(folder)):
            if path.endswith(".d"):
                files += [os.path.join(path, one) for one in names_in(path)]
            elif os.path.exists(path):
                files.append(path)
    return Units(files)


def manager_setting(root: str, manager: str, key: str) -> str:
    """Return a setting of system.conf or user.conf (systemd-system.conf(5)), "" if none gives it."""
    tops = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
    folders = [os.path.join(root, top, "systemd") for top in tops]
    mains = (os.path.join(folder, f"{manager}.conf") for folder in folders)
    drop_ins = in_order(
        os.path.join(folder, name)
        for folder in (f"{one}/{manager}.conf.d" for one in folders)
        for name in names_in(folder)
    )
    value = ""
    for file in [*[file for file in mains if os.path.exists(file)][:1], *drop_ins]:
        for one in assignments(lines_or_none(file)):
            if (one.section, one.key) == ("Manager", key):
                value = one.value
    return value


def template(unit: str) -> str:
    """Return `db@.service` for `db@7.service`, and any other unit as it is."""
    before, at, after = unit.partition("@")
    return f"{before}@.{after.rpartition('.')[2]}" if at else unit


def variants(unit: str) -> list[str]:
    """Return the names whose drop-ins a unit has, the most specific first (systemd's dropin.c).

    Those of `a-b@1.service` are itself, `a-b@.service`, `a-.service`, `a-@1.service` and `a-@.service`.
    """
    stem, _, kind = unit.rpartition(".")
    prefix, _, instance = stem.partition("@")
    found = [unit]
    if instance:
        found += variants(f"{prefix}@.{kind}")
    dash = prefix.removesuffix("-").rfind("-")
    if dash > 0:
        found += variants(f"{prefix[: dash + 1]}{'@' * bool(instance)}{instance}.{kind}")
    return [*dict.fromkeys(found)]
