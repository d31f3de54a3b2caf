"""Waits for news in the daemon's status file, and sends a notice of each."""

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from oomguard.exporter.notices import Notifier, notices
from oomguard.exporter.source import StatusSource
from oomguard.kernel.inotify import IN_MOVED_TO, IN_ONLYDIR, Inotify

if TYPE_CHECKING:
    from oomguard.kernel.procfs import Procfs
    from oomguard.report.status_file import StatusFile

_CHECK_SECONDS = 60.0
"""A daemon that starts makes a new folder. It writes the file each minute anyway."""

_PAUSE_SECONDS = 5.0
"""After a notice: kills of a storm are told together."""


def watch_status(state_dir: str, procfs: "Procfs", notifier: Notifier, *, uid: int | None) -> None:
    """Send notices until a signal ends this process."""
    source, inotify = StatusSource(state_dir, procfs), Inotify()
    before: StatusFile | None = None
    while True:
        with suppress(OSError):  # no daemon has run; `source` says so
            inotify.add_watch(state_dir, IN_MOVED_TO | IN_ONLYDIR)
        before, is_sent = step(source, notifier, before, uid=uid)
        if is_sent:
            time.sleep(_PAUSE_SECONDS)
        select.select([inotify.fileno()], [], [], _CHECK_SECONDS)
        inotify.read_some()


def step(
    source: StatusSource, notifier: Notifier, before: "StatusFile | None", *, uid: int | None
) -> "tuple[StatusFile | None, bool]":
    """Send what is new; return what is known now, and whether something was sent."""
    now, _ = source.read(time.time())
    if now is None:
        return before, False
    found = list(notices(before, now, uid=uid))
    for one in found:
        notifier.send(one)
    return now, bool(found)
