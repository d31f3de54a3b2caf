"""What the daemon last wrote, and whether that still holds."""

import os
import sys
import time
from typing import TYPE_CHECKING

from oomguard.core.process import Identity
from oomguard.report.status import STATUS_FILE
from oomguard.report.status_document import StatusError, decode_status

if TYPE_CHECKING:
    from oomguard.kernel.procfs import Procfs
    from oomguard.report.status_document import Document

_SIZE_LIMIT = 4 * 1024 * 1024
"""Ten times what a daemon writes that lists a thousand rules."""

_PATIENCE_SECONDS = 30.0
"""A pass over a large host in trouble takes its time before the file is written again."""


class StatusSource:
    """The status file of one daemon. Why there is nothing to read is said once, not at each scrape."""

    def __init__(self, state_dir: str, procfs: "Procfs") -> None:
        self.path = os.path.join(state_dir, STATUS_FILE)
        self._procfs = procfs
        self._seen: Identity | None = None
        self._trouble = ""

    def read(self, now: float) -> "Document | None":
        """Return the file of a daemon that runs, None if none does; `now` is time.time()."""
        document: Document | None = None
        try:
            document = decode_status(_read(self.path), self.path)
            trouble = self._why_stale(document, now)
        except FileNotFoundError:
            trouble = f"{self.path}: no such file; no daemon runs here"
        except StatusError as error:
            trouble = f"{error.message}; {error.hint}"
        except OSError as error:
            trouble = f"{self.path} cannot be read: {error.strerror}"
        self._say(trouble)
        return None if trouble else document

    def _why_stale(self, document: "Document", now: float) -> str:
        """Return why what the file says is no longer so, "" if it is.

        Where /proc shows the daemon at all, its death is seen at once. It may not, with hidepid= or from
        another PID namespace; then a file that was not replaced for two passes tells.
        """
        identity = Identity(document["pid"], document["start_time_ticks"])
        if self._procfs.is_alive(identity):
            self._seen = identity
        elif self._seen == identity:
            return f"{self.path} is left over: the daemon, pid {identity.pid}, is gone"
        if (
            now - document["written_at"]
            > 2 * document["policy"]["resync_interval_seconds"] + _PATIENCE_SECONDS
        ):
            since = time.strftime("%F %T", time.localtime(max(document["written_at"], 0)))
            return f"{self.path} is stale, not written since {since}: the daemon hangs, or is gone"
        return ""

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            print(f"oomguard: {trouble or f'{self.path} can be read again'}", file=sys.stderr, flush=True)
        self._trouble = trouble


def _read(path: str) -> bytes:
    """Read a file, but no more than a status file can be: what is cut short is no JSON."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        return file.read(_SIZE_LIMIT)
