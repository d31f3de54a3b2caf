"""The state folder: who may write to the kernel, and files that survive a crash.

The folder belongs to the user who runs oomguard and is writable by nobody else; nothing in it is
opened through a symbolic link.
"""

import errno
import fcntl
import os
from contextlib import suppress

from oomguard.core.errors import OomguardError

_LOCK = "lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class StateFolder:
    """The folder that holds ledger, lock and status, as a descriptor."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._lock_fd = -1

    def close(self) -> None:
        """Let go of the folder, and of the lock if it is held."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        os.close(self.fd)

    def lock(self) -> None:
        """Become the one process that writes, or raise an error that names the one that is."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(_LOCK, flags, 0o600, dir_fd=self.fd)
        except OSError as error:
            raise self._unusable(_LOCK, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise OomguardError(
                f"{self.path}: oomguard already runs here, as pid {holder or 'unknown'}",
                hint="the daemon keeps the policy by itself; to restore or apply by hand, stop it first "
                "(systemctl stop oomguard)",
            ) from error
        with suppress(OSError):  # on a full disk the lock holds without the pid it would name
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        self._lock_fd = fd

    def read(self, name: str) -> bytes | None:
        """Return a file's contents, or None if there is no such file. PermissionError: another's."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
            with os.fdopen(fd, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except PermissionError:
            raise
        except OSError as error:
            raise self._unusable(name, error) from error

    def replace(self, name: str, content: bytes, *, mode: int = 0o600) -> None:
        """Put `content` under `name`, wholly or not at all."""
        temporary = f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, mode, dir_fd=self.fd)
        try:
            os.fchmod(fd, mode)
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            self.remove(temporary)  # half a file only fills a full disk further
            raise
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def open_append(self, name: str) -> int:
        """Open a file to append lines to; the caller closes the descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self.fd)

    def _unusable(self, name: str, error: OSError) -> OomguardError:
        if error.errno == errno.ELOOP:
            reason = "is a symbolic link, which oomguard never follows here"
        else:
            reason = f"cannot be used: {os.strerror(error.errno or errno.EIO)}"
        return OomguardError(
            f"{self.path}/{name}: {reason}",
            hint="find out who put it there; once it is removed, oomguard makes its own",
        )


def open_state_folder(path: str) -> StateFolder:
    """Open the state folder to keep things in, and make it if it is not there.

    A folder that somebody else owns or may write is refused: the ledger in it decides what
    `restore` writes.
    """
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
        fd = os.open(path, _FOLDER)
    except OSError as error:
        raise _no_state_folder(path, error) from error
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        os.close(fd)
        raise OomguardError(
            f"{path}: the state folder belongs to uid {info.st_uid} with mode {info.st_mode & 0o7777:o}",
            hint="it must belong to the user who runs oomguard and be writable by nobody else; "
            "--state-dir names another",
        )
    return StateFolder(path, fd)


def find_state_folder(path: str) -> StateFolder | None:
    """Open the state folder, whoever's it is, to read what is in it; None if it is not there."""
    try:
        return StateFolder(path, os.open(path, _FOLDER))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_state_folder(path, error) from error


def _no_state_folder(path: str, error: OSError) -> OomguardError:
    return OomguardError(
        f"{path}: cannot use it as the state folder: {os.strerror(error.errno or errno.EIO)}",
        hint='choose one you may write with --state-dir, such as "$XDG_RUNTIME_DIR/oomguard"',
    )
