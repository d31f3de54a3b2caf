"""Waits for news in the daemon's status file, and sends a notice for each."""

import select
import time
from contextlib import suppress

from oomguard.exporter.notices import Notifier, notices
from oomguard.exporter.status_source import StatusSource
from oomguard.kernel.inotify import IN_MOVED_TO, IN_ONLYDIR, Inotify
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import StatusFile

_CHECK_SECONDS = 60.0
"""The daemon writes the file each minute."""

_ABSENT_SECONDS = 5.0
"""Without a daemon there is no folder to watch."""

_PAUSE_SECONDS = 5.0
"""Pause after a notice, so that one reports all kills of a storm."""


def watch_status(state_dir: str, procfs: Procfs, notifier: Notifier, *, uid: int | None) -> None:
    """Send notices until a signal ends this process."""
    source = StatusSource(state_dir, procfs, meanwhile="notify waits for it")
    inotify, since = Inotify(), time.time()
    before: StatusFile | None = None
    while True:
        seconds = _ABSENT_SECONDS
        with suppress(OSError):  # `source` says why it is not there
            inotify.add_watch(state_dir, IN_MOVED_TO | IN_ONLYDIR)
            seconds = _CHECK_SECONDS
        now, _ = source.read(time.time())
        if now is not None:
            found = list(notices(before, now, uid=uid, since=since))
            before = now
            for one in found:
                notifier.send(one)
            if found:
                time.sleep(_PAUSE_SECONDS)
        select.select([inotify.fileno()], [], [], seconds)
        inotify.read_some()
