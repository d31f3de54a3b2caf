"""The bytes of the policy files, read without trusting their path.

A policy decides who is killed, so its file must belong to root and be writable by nobody else.
Ownership is asked of the open descriptor, not of the path: nothing can be swapped in between.
Reading may need privileges and parsing does not; that is why they are apart.
"""

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.text import printable
from oomguard.policy.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes a policy file may have: some 80,000 rules."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not keep us waiting for a writer


class Source(NamedTuple):
    """A policy file: its content, or why it has none."""

    file: str
    content: bytes = b""
    fault: Fault | None = None


class Sources(NamedTuple):
    """The policy's main file followed by its drop-ins, sorted by name."""

    files: tuple[Source, ...]


class _RefusedError(Exception):
    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


_NO_NAME = Fault(
    "--policy", 0, 0, "", "is empty, and names no file", "name one: --policy FILE", code="missing-file"
)


def read_sources(path: str) -> Sources:
    """Read the policy file `path` and its drop-ins. Never raises: what fails becomes a fault."""
    if not path:
        return Sources((Source("--policy", fault=_NO_NAME),))
    files = [_read_source(path, path, folder=None)]
    if files[0].fault is None:
        files += [Source(folder, fault=_open_to_others(folder, why)) for folder, why in _open_folders(path)]
    folder = drop_in_folder(path)
    try:
        descriptor = os.open(folder, _FLAGS | os.O_DIRECTORY)
    except FileNotFoundError:
        return Sources(tuple(files))
    except OSError as error:
        return Sources((*files, Source(folder, fault=_unreadable(folder, error))))
    try:
        _refuse_other_owners(os.fstat(descriptor), folder)
        for name in sorted(os.listdir(descriptor)):
            file = f"{folder}/{name}"
            if name.startswith("."):
                continue
            if name.endswith(".yaml"):
                files.append(_read_source(file, name, folder=descriptor))
            elif name.endswith(".yml"):
                files.append(Source(file, fault=_ignored(file)))
    except _RefusedError as refused:
        files.append(Source(folder, fault=_fault(folder, refused)))
    except OSError as error:
        files.append(Source(folder, fault=_unreadable(folder, error)))
    finally:
        os.close(descriptor)
    return Sources(tuple(files))


def drop_in_folder(path: str) -> str:
    """Return the folder of the drop-ins of a policy file: `/etc/oomguard.d` for `/etc/oomguard.yaml`."""
    return path.removesuffix(".yaml").removesuffix(".yml") + ".d"


def _read_source(file: str, name: str, *, folder: int | None) -> Source:
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
    except OSError as error:
        return Source(file, fault=_unreadable(file, error))
    try:
        return Source(file, _read(descriptor, file))
    except _RefusedError as refused:
        return Source(file, fault=_fault(file, refused))
    except OSError as error:
        return Source(file, fault=_unreadable(file, error))
    finally:
        os.close(descriptor)


def _read(descriptor: int, file: str) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _RefusedError(
            "not-a-file",
            f"must be a regular file, is a {_kind(status.st_mode)}",
            "name the YAML file that holds the policy",
        )
    _refuse_other_owners(status, file)
    content = bytearray()
    while len(content) <= SIZE_LIMIT:
        block = os.read(descriptor, SIZE_LIMIT + 1 - len(content))
        if not block:
            return bytes(content)
        content += block
    raise _RefusedError(
        "too-large",
        f"is larger than {SIZE_LIMIT // 1024 // 1024} MiB",
        "a policy is read at every start; use globs and lists, or several drop-ins",
    )


def _refuse_other_owners(status: os.stat_result, file: str) -> None:
    owners = {0, os.geteuid()}
    if status.st_uid not in owners:
        wanted = "root" if owners == {0} else "root or you"
        raise _RefusedError(
            "wrong-owner",
            f"must belong to {wanted}, belongs to uid {status.st_uid}: "
            "whoever may write it decides which process is killed",
            f"check what it says, then: chown root: {printable(file)}",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _RefusedError(
            "writable-by-others",
            f"{_writers(status)}: whoever may write it decides which process is killed",
            f"check what it says, then: chmod go-w {printable(file)}",
        )


def _writers(status: os.stat_result) -> str:
    others = "everybody" if status.st_mode & stat.S_IWOTH else f"group {status.st_gid}"
    return f"may be written by {others} (mode {stat.S_IMODE(status.st_mode):04o})"


def _open_folders(path: str) -> "Iterator[tuple[str, str]]":
    """Yield each folder above a policy, and above what it is a link to, where others may put another file.

    A sticky folder lets nobody rename what is another's, and a read-only one nobody at all: such are
    the volumes of a ConfigMap, whose mode is 0777.
    """
    owners = {0, os.geteuid()}
    folders = (
        parent for file in (os.path.abspath(path), os.path.realpath(path)) for parent in _parents(file)
    )
    for folder in dict.fromkeys(folders):
        try:
            status = os.stat(folder)
            is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        except OSError:
            continue  # it cannot be looked at from here
        if is_read_only:
            continue
        if status.st_uid not in owners:
            yield folder, f"belongs to uid {status.st_uid}"
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
            yield folder, _writers(status)


def _parents(file: str) -> "Iterator[str]":
    while file != (file := os.path.dirname(file)):
        yield file


def _open_to_others(folder: str, why: str) -> Fault:
    return Fault(
        folder,
        0,
        0,
        "",
        f"{why}: whoever may write it can remove the policy, or put another file of root's in its place",
        "let the folders above a policy belong to root, and be writable by nobody else",
        severity="warning",
        code="open-folder",
    )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "FIFO",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def _fault(file: str, refused: _RefusedError) -> Fault:
    return Fault(file, 0, 0, "", refused.message, refused.hint, code=refused.code)


def _ignored(file: str) -> Fault:
    return Fault(
        file,
        0,
        0,
        "",
        "is not read: drop-ins end in .yaml",
        "rename it",
        severity="warning",
        code="ignored-file",
    )


def _unreadable(file: str, error: OSError) -> Fault:
    if error.errno == errno.ENOENT:
        message, code = "there is no such file", "missing-file"
        hint = "write one (an empty file is a valid policy), or name another with --policy"
    else:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message, code, hint = f"can not be read: {reason}", "unreadable", ""
        if error.errno in {errno.EACCES, errno.EPERM}:
            hint = "run this as root, or let everybody read the policy: it holds no secrets"
    return Fault(file, 0, 0, "", message, hint, code=code)
