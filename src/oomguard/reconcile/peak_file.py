"""The file that keeps the peaks of Committed_AS across reboots."""

import errno
import os
import time
from typing import TYPE_CHECKING

from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import Peak
from oomguard.core.peaks import Day, Lasting, decode, encode, highest, note
from oomguard.reconcile.state_folder import find_state_folder, lasting_folder, open_state_folder

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = "committed.json"
_DAY_SECONDS = 86400


class PeakFile:
    """The peaks of a host. The file is read whenever it is asked for: removing it takes effect at once."""

    def __init__(self, state_dir: str, clock: "Callable[[], float]" = time.time) -> None:
        self._folder = lasting_folder(state_dir)
        self.path = f"{self._folder}/{_FILE}"
        self._clock = clock
        self._lasting = Lasting()
        self.trouble = ""
        """Why the file was not read or written at the last try, "" if it was."""

    def highest(self) -> Peak | None:
        """Return the peak that counts, None if there is none."""
        found = highest(self._read(), self._today())
        return None if found is None else Peak(found.committed_kib, found.date, self.path)

    def note(self, committed_kib: int, now: float) -> None:
        """Take what is promised at the monotonic time `now`, and keep what lasted."""
        level = self._lasting.look(committed_kib, now)
        if level is None:
            return
        days = self._read()
        date = time.strftime("%Y-%m-%d", time.gmtime(self._clock()))
        noted = note(days, Day(self._today(), date, level))
        if noted is days:
            return
        try:
            folder = open_state_folder(self._folder)
            try:
                folder.replace(_FILE, encode(noted), mode=0o644)
            finally:
                folder.close()
        except OSError as error:
            self.trouble = f"{self.path} cannot be written: {os.strerror(error.errno or errno.EIO)}"
        except OomguardError as error:
            self.trouble = error.message

    def _today(self) -> int:
        return int(self._clock()) // _DAY_SECONDS

    def _read(self) -> "tuple[Day, ...]":
        self.trouble = ""
        try:
            folder = find_state_folder(self._folder)
            if folder is None:
                return ()
            try:
                if not folder.is_ours:
                    raise ValueError("others may write to its folder")
                raw = folder.read(_FILE)
                return () if raw is None else decode(raw)
            finally:
                folder.close()
        except (OomguardError, OSError, ValueError) as error:
            self.trouble = f"{self.path} is ignored: {error}"
            return ()
