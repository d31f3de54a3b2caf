"""sysctl.d and TuneD profiles: the sysctls that oomguard knows, each by the line that counts."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cache

from oomguard.core.match import is_glob
from oomguard.core.sysctl import SYSCTLS, TRIGGERS
from oomguard.core.text import counted
from oomguard.foreign import tuned
from oomguard.foreign.sysctl_d import Line, lines_that_count, settings, sysctl_files, write
from oomguard.foreign.text_file import SourcedValue, in_order, lines_or_none, names_in, parse_number
from oomguard.propose.importers.files import SHOWN_LIMIT, Files
from oomguard.propose.policy_draft import Draft, DraftSetting, Note, Origin

_Named = tuple[str, Line | SourcedValue]

_TUNED_MAIN = "/etc/tuned/tuned-main.conf"
_VENDOR = re.compile(r"/lib/sysctl\.d/")
_RELEVANT = ("vm.", "kernel.panic")
_OTHERS = "oomguard sets only sysctls about memory and panics"
_OTHERS_LIMIT = 20
"""Maximum number of notes about sysctls that are not about memory: a host may set a hundred."""
_TITLE = (
    "From sysctl.d and TuneD: of each sysctl the value that counts. oomguard also corrects it when something "
    "changes it. Keep both the same, or remove it there."
)


def import_files(paths: Sequence[str]) -> Draft:
    """Read files and folders of sysctl.d, and TuneD profiles; without any, those of this host."""
    folders = [os.path.join("/", folder) for folder in tuned.FOLDERS]
    profiles = [file for path in paths if (file := _profile(path))]
    active = [] if paths else tuned.active_profiles().split()
    found = [file for name in active if (file := tuned.profile_file(name, folders))]
    sources = [*_sysctl_files([path for path in paths if not _profile(path)])] if paths else sysctl_files()
    files = Files([*sources, *profiles, *found] or ["/etc/sysctl.d"], (".conf",))

    def wrong(file: str, line: int, text: str) -> None:
        files.notes.append(Note(text[:SHOWN_LIMIT], "is not an assignment", Origin(file, line)))

    read = cache(files.lines)
    lines = lines_that_count(sources, read, wrong)
    beside = [os.path.join(os.path.dirname(file), "..") for file in profiles]
    of_tuned = tuned.load([*profiles, *active], [*beside, *folders], files.lines)
    main = {} if paths else {one.key: one.value for one in tuned.assignments(lines_or_none(_TUNED_MAIN))}
    is_reapplied = main.get("reapply_sysctl", "1") in tuned.TRUE
    own = [one for one in sources if is_reapplied and not _VENDOR.search(one)]
    again = {path: line for path, line in lines_that_count(own, read).items() if not is_glob(path)}
    merged = _merged(settings(lines), of_tuned.values, settings(again))
    named: list[_Named] = [(one.path.replace("/", "."), one) for one in lines.values()]
    named += of_tuned.values.items()
    notes = [
        *(Note(one.what, one.why, Origin(one.at.file, one.at.line)) for one in of_tuned.problems),
        *_overridden(named, merged),
        *_others(named, {(one.file, one.line) for one in merged.values()}),
    ]
    drafted = tuple(_drafted(merged, notes))
    return Draft(_TITLE, drafted, (), (*files.finish(), *notes))


def _profile(path: str) -> str:
    """Return the file of a profile, from its folder or the file itself, "" for anything else."""
    if os.path.basename(path) == tuned.FILE:
        return os.path.join(os.path.dirname(path) or ".", tuned.FILE)
    file = os.path.join(path, tuned.FILE)
    return file if os.path.isfile(file) else ""


def _sysctl_files(paths: Iterable[str]) -> Iterator[str]:
    """Yield files in the order in which they are applied: those of folders, then those that were named."""
    in_folders: list[str] = []
    named: list[str] = []
    for path in paths:
        below = [os.path.join(path, name) for name in names_in(path) if name.endswith(".conf")]
        in_folders += below
        named += [] if below else [path]
    yield from in_order(in_folders)
    yield from named


def _merged(
    of_files: Mapping[str, SourcedValue],
    of_tuned: Mapping[str, SourcedValue],
    again: Mapping[str, SourcedValue],
) -> dict[str, SourcedValue]:
    """Return what counts. TuneD overrides sysctl.d, and then applies `again` what is not the vendor's."""
    merged = dict(of_files)
    for name, one in (*of_tuned.items(), *again.items()):
        write(merged, name, one)
    return merged


def _drafted(merged: Mapping[str, SourcedValue], notes: list[Note]) -> Iterator[DraftSetting]:
    for name, one in merged.items():
        place = Origin(one.file, one.line)
        if name not in SYSCTLS:
            continue
        if (value := parse_number(one.value)) is not None:
            yield DraftSetting(name, value, "", origin=place)
        else:
            notes.append(Note(f"{name}={one.value[:SHOWN_LIMIT]}", "must be a number", place))


def _overridden(named: Sequence[_Named], merged: Mapping[str, SourcedValue]) -> Iterator[Note]:
    """Yield the settings that do not count, with the one that does."""
    for name, one in named:
        if name not in SYSCTLS or one.value is None:
            continue
        partner = SYSCTLS[name].partner
        other = merged.get(name) or merged.get(partner)
        if other is not None and (other.file, other.line) != (one.file, one.line):
            why = f"{'' if name in merged else f'{partner}, '}{other.source} counts instead"
            yield Note(f"{name}={one.value}", why, Origin(one.file, one.line))


def _others(named: Sequence[_Named], used: Set[tuple[str, int]]) -> Iterator[Note]:
    """Yield sysctls that oomguard does not set: relevant ones, then some of the others and their number."""
    others: list[Note] = []
    for name, one in named:
        if name in SYSCTLS or one.value is None or (one.file, one.line) in used:
            continue
        what, place = f"{name}={one.value[:SHOWN_LIMIT]}", Origin(one.file, one.line)
        if name.startswith(_RELEVANT) and not any(wildcard in name for wildcard in "*?["):
            yield Note(what, TRIGGERS.get(name, "oomguard does not set this sysctl"), place)
        else:
            others.append(Note(what, _OTHERS, place))
    yield from others[:_OTHERS_LIMIT]
    if more := len(others[_OTHERS_LIMIT:]):
        yield Note(counted(more, "more setting"), _OTHERS, settings=more)
