"""The file that keeps the peaks of Committed_AS across reboots."""

import time
from collections.abc import Callable

from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import Peak
from oomguard.core.peaks import Day, Lasting, decode, encode, highest, note
from oomguard.reconcile.state_folder import LastingFile

_FILE = "committed.json"
_DAY_SECONDS = 86400


class PeakFile:
    """The peaks of a host. The file is read each time, so removing it takes effect at once."""

    def __init__(self, state_dir: str, clock: Callable[[], float] = time.time) -> None:
        self._file = LastingFile(state_dir, _FILE)
        self.path = self._file.path
        self._clock = clock
        self._lasting = Lasting()
        self.trouble = ""
        """Why the file was not read or written at the last try, "" if it was."""

    def highest(self) -> Peak | None:
        """Return the peak that counts, None if there is none."""
        found = highest(self._read(), self._today())
        return None if found is None else Peak(found.committed_kib, found.date, self.path)

    def note(self, committed_kib: int, now: float) -> None:
        """Add what is promised at the monotonic time `now`, and store the level that lasted."""
        level = self._lasting.look(committed_kib, now)
        if level is None:
            return
        days = self._read()
        date = time.strftime("%Y-%m-%d", time.gmtime(self._clock()))
        noted = note(days, Day(self._today(), date, level))
        if noted is not days:
            self.trouble = self._file.replace(encode(noted), mode=0o644)

    def _today(self) -> int:
        return int(self._clock()) // _DAY_SECONDS

    def _read(self) -> tuple[Day, ...]:
        self.trouble = ""
        try:
            raw = self._file.read()
            return () if raw is None else decode(raw)
        except (OomguardError, OSError, ValueError) as error:
            self.trouble = f"{self.path} is ignored: {error}"
            return ()
