"""The status file that the daemon wrote, and whether it is current."""

import os
import time
from contextlib import suppress

from oomguard.core.process import Identity, UnknownFactError
from oomguard.core.text import printable
from oomguard.kernel.hidepid import has_ended
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import SIZE_LIMIT, STATUS_FILE, StatusFile
from oomguard.report.status_reader import StatusError, decode_status
from oomguard.report.streams import complain


class StatusSource:
    """The status file of one daemon. Prints why it cannot be read once, not on each request.

    `meanwhile` is what the reader does until it can be.
    """

    def __init__(self, state_dir: str, procfs: Procfs, *, meanwhile: str = "") -> None:
        self.path = os.path.join(state_dir, STATUS_FILE)
        self._procfs = procfs
        self._meanwhile = f"; {meanwhile}" if meanwhile else ""
        self._seen: Identity | None = None
        self._trouble = ""

    def read(self, now: float) -> tuple[StatusFile | None, str]:
        """Return the status of a running daemon, or None and why there is none; `now` is time.monotonic()."""
        status: StatusFile | None = None
        try:
            status = decode_status(_read(self.path), self.path)
            trouble = self._why_stale(status, now)
        except FileNotFoundError:
            trouble = (
                f"{printable(self.path)}: no such file: oomguard is not running, or uses another --state-dir"
            )
        except StatusError as error:
            trouble = f"{error.message}; {error.hint}"
        except OSError as error:
            trouble = f"{printable(self.path)} cannot be read: {error.strerror}"
        self._log(trouble)
        return (None, trouble) if trouble else (status, "")

    def _why_stale(self, status: StatusFile, now: float) -> str:
        """Return why the file is out of date, "" if it is current.

        Its end is noticed at once, but in another PID namespace, or if hidepid= hides the daemon and another
        process has its pid: then a file that was not replaced for two passes is stale.
        """
        if self._procfs.is_alive(status.identity):
            self._seen = status.identity
        elif (
            status.identity == self._seen
            or status.identity == self._found(status.pid)  # a zombie
            or has_ended(self._procfs, status.pid)
        ):
            return f"{printable(self.path)} is left over: pid {status.pid} is not running"
        if status.is_overdue(now):
            since = time.strftime("%F %T", time.localtime(max(status.written_at, 0)))
            return f"{printable(self.path)} is stale: last written {since}; oomguard hangs or is not running"
        return ""

    def _found(self, pid: int) -> Identity | None:
        with suppress(UnknownFactError):
            return self._procfs.identity(pid)
        return None

    def _log(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            complain(f"oomguard: {trouble}{self._meanwhile}")
        elif self._trouble and not trouble:
            complain(f"oomguard: {printable(self.path)} is up to date: oomguard is running")
        self._trouble = trouble


def _read(path: str) -> bytes:
    """Return the file's content, cut at the largest size of a status file: the rest is not valid JSON."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:  # fdopen would leave the descriptor of a folder open
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(SIZE_LIMIT)
    finally:
        os.close(fd)
