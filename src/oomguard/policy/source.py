"""The bytes of the policy files, read without trusting their path.

A policy decides which process is killed, so its file must belong to root, and only root may write it.
Owner and mode come from the open descriptor, not from the path, so that nobody can swap the file in between.
Reading may need privileges; parsing, in another module, does not.
"""

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from typing import NamedTuple

from oomguard.core.policy import Layer, is_drop_in, is_mask, layers
from oomguard.core.text import printable
from oomguard.policy.fault import Fault, Problem

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes a policy file may have: some 80,000 rules."""

STANDARD_INPUT = "-"
"""The name that stands for standard input."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # do not wait for the writer of a FIFO


class Source(NamedTuple):
    """A policy file: its content, or the fault. Of two layers, that with the lower number wins.

    A file with a `name` replaces those with the same name in lower layers. A mask has nothing of its own.
    """

    file: str
    content: bytes = b""
    fault: Fault | None = None
    layer: int = 0
    name: str = ""
    is_mask: bool = False


Sources = tuple[Source, ...]
"""All files of a policy, those that win first: by layer, and in a folder by name."""


class _RefusedError(Exception):
    """A file that must not be used. Its arguments are those of a Problem."""


def read_sources(path: str) -> Sources:
    """Read the policy `path`, all its layers. Never raises: an error becomes a fault."""
    return read_layers(layers(path))


def read_layers(wanted: "tuple[Layer, ...]", *, anybodys: bool = False) -> Sources:
    """Read these layers. Folders need not exist; a file need not if a lower layer may stand in for it.

    `anybodys` ignores who owns them.
    """
    found: list[Source] = []
    missing: list[Source] = []
    for number, (path, is_folder) in enumerate(wanted):
        if is_folder:
            files = [*_read_folder(path, anybodys=anybodys)]
        else:
            files = [_read_source(path, path, folder=None, anybodys=anybodys)]
        may_lack = not is_folder and number < len(wanted) - 1 and not os.path.lexists(path)
        (missing if may_lack else found).extend(source._replace(layer=number) for source in files)
    if not any(source.name for source in found):
        found += missing
    unread = (f"{path.removesuffix('.yaml')}.yml" for path, _ in wanted if path.endswith(".yaml"))
    found += [Source(file, fault=ignored(file)) for file in unread if os.path.isfile(file)]
    there = [path for path, _ in wanted if os.path.lexists(path)]
    if not anybodys:
        found += [Source(fault.file, fault=fault) for fault in _open_folders(there)]
    return tuple(found)


def name_of(path: str) -> str:
    """Return what a file is called in messages."""
    return "<stdin>" if path == STANDARD_INPUT else path


def read_alone(path: str) -> Sources:
    """Read one file, or standard input if it is `-`: without drop-ins, and whoever owns it. Never raises."""
    if path != STANDARD_INPUT:
        return (_read_source(path, path, folder=None, anybodys=True),)
    try:
        content = _content(0)
    except (_RefusedError, OSError) as error:
        return (Source(name_of(path), fault=_fault(name_of(path), error)),)
    if content.strip():
        return (Source(name_of(path), content),)
    # A program before the pipe failed; an empty policy restores everything.
    problem = Problem("empty-input", "is empty", "for a policy without rules, write a comment")
    return (Source(name_of(path), fault=problem.at(name_of(path))),)


def _read_folder(folder: str, *, anybodys: bool) -> Iterator[Source]:
    try:
        descriptor = os.open(folder, _FLAGS | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Source(folder, fault=_fault(folder, error))
        return
    try:
        if not anybodys:
            _refuse_other_owners(os.fstat(descriptor), folder)
        for name in sorted(os.listdir(descriptor)):
            file = f"{folder}/{name}"
            if is_drop_in(name):
                yield _read_source(file, name, folder=descriptor, anybodys=anybodys)._replace(name=name)
            elif _looks_like_a_policy(name) and os.path.isfile(file):
                yield Source(file, fault=ignored(file))
    except (_RefusedError, OSError) as error:
        yield Source(folder, fault=_fault(folder, error))
    finally:
        os.close(descriptor)


def _looks_like_a_policy(name: str) -> bool:
    ending = os.path.splitext(name.lower())[1]
    return (
        ending in {".yaml", ".yml", ".conf", ""}
        and not name.startswith((".", "README"))
        and name[-1] not in "~#"
    )


def _read_source(file: str, name: str, *, folder: int | None, anybodys: bool) -> Source:
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
    except OSError as error:
        return Source(file, fault=_fault(file, error))
    try:
        status = os.fstat(descriptor)
        if folder is not None and is_mask(status.st_mode, status.st_rdev):
            return Source(file, is_mask=True)
        _refuse_special_files(status, in_folder=folder is not None)
        if not anybodys:
            _refuse_other_owners(status, file)
        return Source(file, _content(descriptor))
    except (_RefusedError, OSError) as error:
        return Source(file, fault=_fault(file, error))
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    content = bytearray()
    while len(content) <= SIZE_LIMIT:
        block = os.read(descriptor, SIZE_LIMIT + 1 - len(content))
        if not block:
            return bytes(content)
        content += block
    raise _RefusedError(
        "too-large",
        f"is larger than {SIZE_LIMIT // 1024 // 1024} MiB",
        "use globs and lists of names, or split it into drop-ins",
    )


def _refuse_special_files(status: os.stat_result, *, in_folder: bool) -> None:
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "FIFO",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFSOCK: "socket",
    }
    if not stat.S_ISREG(status.st_mode):
        message = f"must be a regular file, but is a {kinds.get(stat.S_IFMT(status.st_mode), 'special file')}"
        hint = "remove it, or give it a name that does not end in .yaml"
        raise _RefusedError(
            "not-a-file", message, hint if in_folder else "give the YAML file, or - for standard input"
        )


def _refuse_other_owners(status: os.stat_result, file: str) -> None:
    owners = {0, os.geteuid()}
    if status.st_uid not in owners:
        wanted = "root" if owners == {0} else "root or you"
        message = (
            f"must belong to {wanted}, got uid {status.st_uid}: others could decide which process is killed"
        )
        raise _RefusedError(
            "wrong-owner", message, f"check its content, then run: chown root: {shlex.quote(printable(file))}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"{_writers(status)}: others could decide which process is killed"
        hint = f"check its content, then run: chmod go-w {shlex.quote(printable(file))}"
        raise _RefusedError("writable-by-others", message, hint)


def _writers(status: os.stat_result) -> str:
    others = "every user" if status.st_mode & stat.S_IWOTH else f"group {status.st_gid}"
    return f"mode {stat.S_IMODE(status.st_mode):04o} makes it writable by {others}"


def _open_folders(paths: list[str]) -> Iterator[Fault]:
    """Yield a warning for each folder above these paths, or a link's target, where others can replace files.

    Not a sticky folder, where nobody can rename the files of others, and not a read-only one, such as the
    volume of a ConfigMap, which has mode 0777.
    """
    owners = {0, os.geteuid()}
    folders = (
        parent
        for path in paths
        for file in (os.path.abspath(path), os.path.realpath(path))
        for parent in _parents(file)
    )
    for folder in dict.fromkeys(folders):
        try:
            status = os.stat(folder)
            is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        except OSError:
            continue  # not accessible
        is_others = status.st_uid not in owners
        is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if is_read_only or not (is_others or is_open):
            continue
        why = f"belongs to uid {status.st_uid}" if is_others else _writers(status)
        yield Problem(
            "open-folder",
            f"{why}: others could remove the policy, or replace it by another file that belongs to root",
            "make root the owner of all folders above the policy, and remove write permission for others",
        ).at(folder, severity="warning")


def _parents(file: str) -> Iterator[str]:
    while file != (file := os.path.dirname(file)):
        yield file


def ignored(file: str) -> Fault:
    """Return the warning about a file whose name does not count."""
    problem = Problem(
        "ignored-file", "not read: the name of a policy file ends in .yaml", "rename it to .yaml"
    )
    return problem.at(file, severity="warning")


def _fault(file: str, error: _RefusedError | OSError) -> Fault:
    if isinstance(error, _RefusedError):
        return Problem(*error.args).at(file)
    if error.errno == errno.ENOENT and os.path.islink(file):
        message = f"is a link to {printable(os.readlink(file))}, which does not exist"
        return Problem("missing-file", message, "remove the link, or create that file").at(file)
    if error.errno == errno.ENOENT:
        hint = "create it: `oomguard advise` suggests one; or give another file"
        return Problem("missing-file", "no such file", hint).at(file)
    reason = os.strerror(error.errno) if error.errno else str(error)
    is_denied = error.errno in {errno.EACCES, errno.EPERM}
    hint = "run this as root, or make the policy readable: it contains no secrets" if is_denied else ""
    if error.errno == errno.ELOOP:
        hint = "point the link at a file: now it leads back to itself"
    return Problem("unreadable", f"cannot be read: {reason}", hint).at(file)
