"""The state folder: who may write to the kernel, and files that survive a crash.

The folder belongs to the user who runs oomguard and is writable by nobody else; nothing in it is
opened through a symbolic link.
"""

import errno
import fcntl
import os
import shlex
import stat
from contextlib import closing, suppress

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.kernel.procfs import Procfs

RUN_FOLDER = "/run/oomguard"
"""The state folder of a host's daemon. A reboot empties it."""

LASTING_FOLDER = "/var/lib/oomguard"
"""The folder in which that daemon keeps what survives a reboot."""

_WHOSE = "use the --state-dir of the daemon that set the values"
_WRITABLE = 'choose one that you can write to with --state-dir, such as "$XDG_RUNTIME_DIR/oomguard"'
_LOCK = "lock"
_PROC = "/proc"
_SIZE_LIMIT = 64 * 1024 * 1024
"""A ledger of a million processes. Root may read the folder of any user's daemon."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in a file's place must not block
_ROOM = {
    errno.EROFS: "make its file system writable",
    errno.ENOSPC: "free space, or inodes, in its file system",
    errno.EDQUOT: "raise the quota of its file system",
}
"""What helps where the file system is at fault, and no file."""


class StateFolder:
    """The folder that holds ledger, lock and status, as a descriptor."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._lock_fd = -1

    def close(self) -> None:
        """Close the folder, and release the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        os.close(self.fd)

    def lock(self) -> None:
        """Become the only process that writes. OomguardError: another one is, and its pid."""
        try:
            fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=self.fd)
        except OSError as error:
            raise self._unusable(_LOCK, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise OomguardError(
                f"{self.path}: oomguard already runs here, as pid {holder or 'unknown'}",
                hint=f"stop the daemon first: {how_to_stop(holder)}",
            ) from error
        except OSError as error:
            os.close(fd)
            raise OomguardError(
                f"{self.path}/{_LOCK}: cannot be locked: {os.strerror(error.errno or errno.EIO)}",
                hint="use another --state-dir, on a local file system",
            ) from error
        with suppress(OSError):  # on a full disk the lock holds, but without a pid
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        self._lock_fd = fd

    @property
    def is_ours(self) -> bool:
        """Whether only root, or this process's user, can have written its content."""
        info = os.fstat(self.fd)
        return info.st_uid in (0, os.geteuid()) and not info.st_mode & 0o022

    def read(self, name: str, *, limit: int = _SIZE_LIMIT) -> bytes | None:
        """Return a file's content, None if it does not exist. PermissionError: another user's.

        OomguardError: it has more bytes than the limit, or is not a regular file.
        """
        try:
            fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=self.fd)
            try:
                return _read_file(fd, limit)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise
        except OSError as error:
            raise self._unusable(name, error) from error

    def replace(self, name: str, content: bytes | bytearray, *, mode: int = 0o600) -> None:
        """Replace a file atomically. ESTALE: the folder is gone for good."""
        self._remake_if_gone()
        temporary = f".{name}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FILE, mode, dir_fd=self.fd)
        try:
            os.fchmod(fd, mode)
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            self.remove(temporary)  # half a file would only fill the disk further
            raise
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def open_file(self, name: str, flags: int) -> int:
        """Open a file, created if missing; the caller closes the descriptor. ESTALE: as for `replace`."""
        self._remake_if_gone()
        return os.open(name, flags | os.O_CREAT | _FILE, 0o600, dir_fd=self.fd)

    def has(self, name: str, fd: int) -> bool:
        """Return whether a reader of this folder finds an open file under this name."""
        return _leads_to(f"{self.path}/{name}", fd)

    def _remake_if_gone(self) -> None:
        """Create the folder again if it was removed or moved, and lock it."""
        if _leads_to(self.path, self.fd):
            return
        try:
            remade = open_state_folder(self.path)
            try:
                if self._lock_fd >= 0:
                    remade.lock()
            except OomguardError:
                os.close(remade.fd)
                raise
        except OomguardError as error:
            raise OSError(errno.ESTALE, error.message) from error
        self.close()
        self.fd, self._lock_fd = remade.fd, remade._lock_fd

    def _unusable(self, name: str, error: OSError) -> OomguardError:
        if error.errno == errno.ELOOP:
            reason = "is a symbolic link, and oomguard follows none here"
        elif error.errno == errno.ENOTSUP:
            reason = "is not a regular file"
        else:
            reason = f"cannot be used: {os.strerror(error.errno or errno.EIO)}"
        hint = "find out which user put it there, and remove it; oomguard then creates its own"
        return OomguardError(f"{self.path}/{name}: {reason}", hint=_ROOM.get(error.errno or 0, hint))


class LastingFile:
    """A file of the daemon that has this state folder; it survives a reboot.

    It is ignored if others may have written it.
    """

    def __init__(self, state_dir: str, name: str) -> None:
        self._folder = lasting_folder(state_dir)
        self._name = name
        self.path = f"{self._folder}/{name}"

    def read(self) -> bytes | None:
        """Return its content, None if it does not exist.

        OSError, OomguardError: it cannot be read; ValueError: others may have written it.
        """
        folder = find_state_folder(self._folder)
        if folder is None:
            return None
        with closing(folder):
            content = folder.read(self._name)
            if content is not None and not folder.is_ours:
                raise ValueError("others may write to its folder")
            return content

    def replace(self, content: bytes, *, mode: int = 0o600) -> str:
        """Replace its content; return why that failed, "" if it did not."""
        try:
            with closing(open_state_folder(self._folder)) as folder:
                folder.replace(self._name, content, mode=mode)
        except OSError as error:
            return f"{self.path} cannot be written: {os.strerror(error.errno or errno.EIO)}"
        except OomguardError as error:
            return error.message
        return ""


def open_state_folder(path: str) -> StateFolder:
    """Open the state folder for writing; create it if it does not exist.

    A folder that others own or may write to is refused: its ledger decides what `restore` writes.
    """
    try:
        # Whatever the umask: everyone may read status.json, and only we may write to the folders above.
        umask = os.umask(0o022)
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        finally:
            os.umask(umask)
        fd = os.open(path, _FOLDER)
    except OSError as error:
        raise _no_state_folder(path, error) from error
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        os.close(fd)
        message = f"the state folder must belong to uid {os.geteuid()}, got uid {info.st_uid}"
        if info.st_uid == os.geteuid():
            message = f"mode {info.st_mode & 0o7777:04o} makes the state folder writable by others"
            hint = "check which user wrote the files in it, then run chmod 755 on it"
        elif info.st_uid:
            hint = f"run this as uid {info.st_uid}"  # root must not restore what that user wrote
        else:
            hint = "run as root"
        raise OomguardError(f"{printable(path)}: {message}", hint=f"{hint}, or use another --state-dir")
    return StateFolder(path, fd)


def lasting_folder(state_dir: str) -> str:
    """Return the folder for what survives a reboot: the state folder itself, unless it is the host's."""
    return LASTING_FOLDER if state_dir == RUN_FOLDER else state_dir


def state_dir_option(state_dir: str) -> str:
    """Return the option with which a verb finds this state folder: ` --state-dir DIR`, "" for the default."""
    return "" if state_dir == RUN_FOLDER else f" --state-dir {shlex.quote(state_dir)}"


def find_state_folder(path: str) -> StateFolder | None:
    """Open the state folder for reading, whoever owns it; None if it does not exist."""
    try:
        return StateFolder(path, os.open(path, _FOLDER))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise _no_state_folder(path, error, hint="run this as its owner, or as root") from error
    except OSError as error:
        raise _no_state_folder(path, error, hint=_WHOSE) from error


def lock_holder(path: str, procfs: "Procfs") -> int | None:
    """Return the pid of the process that writes, None if none does or that cannot be known."""
    try:
        return procfs.flock_holder(os.stat(f"{path}/{_LOCK}", follow_symlinks=False))
    except OSError:
        return None


def require_state_folder(path: str) -> None:
    """Raise OomguardError if there is no such folder. The host's own may be missing: nothing was set yet."""
    if path == RUN_FOLDER:
        return
    try:
        os.lstat(path)
    except FileNotFoundError:
        raise OomguardError(f"{printable(path)}: there is no such state folder", hint=_WHOSE) from None
    except OSError:
        return  # whoever opens it says why


def require_ledger(folder: StateFolder) -> None:
    """Raise OomguardError if there is no ledger: the path is wrong. The host's own may have none yet."""
    if folder.path != RUN_FOLDER and not os.path.lexists(f"{folder.path}/ledger"):
        raise OomguardError(f"{printable(folder.path)}: this folder has no ledger", hint=_WHOSE)


def _leads_to(path: str, fd: int) -> bool:
    """Return whether a path leads to an open file or folder, as far as that can be seen."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _read_file(fd: int, limit: int) -> bytes:
    """Return the content of an open file. ENOTSUP: it is not a regular file; EFBIG: it is too large."""
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.ENOTSUP, "not a regular file")
    content = bytearray()
    while block := os.read(fd, 1 << 20):
        content += block
        if len(content) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return bytes(content)


def _no_state_folder(path: str, error: OSError, *, hint: str = _WRITABLE) -> OomguardError:
    number = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno or errno.EIO  # makedirs
    return OomguardError(
        f"{printable(path)}: cannot use it as the state folder: {os.strerror(number)}",
        hint=hint,
    )


def how_to_stop(pid: str) -> str:
    """Return the command that stops a daemon: systemd's, unless it is known to run elsewhere."""
    with suppress(OSError), open(f"{_PROC}/{pid}/cgroup", "rb") as file:
        if b"/oomguard.service" not in file.read(4096):
            return f"kill {pid}"
    return "systemctl stop oomguard"
