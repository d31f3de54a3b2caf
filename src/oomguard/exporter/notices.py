"""Notifications for the person at a desktop, or for a command: memory is short, and a process was killed.

Names in them are what others chose: none becomes an option, markup or a part of a command.
"""

import html
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from oomguard.core.text import kib, printable, some_of
from oomguard.exporter.status_source import StatusSource
from oomguard.kernel.inotify import IN_MOVED_TO, IN_ONLYDIR, Inotify
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import KILLS_A_UID, LastKill, StatusFile
from oomguard.report.streams import complain

_SECONDS = 10
"""How long showing one may take."""
_SHOWN = 3
_BUS = "org.freedesktop.Notifications"

_CHECK_SECONDS = 60.0
"""The daemon writes the file each minute."""

_ABSENT_SECONDS = 5.0
"""Without a daemon there is no folder to watch."""

_PAUSE_SECONDS = 5.0
"""Pause after a notice, so that one reports all kills of a storm."""


class Notice(NamedTuple):
    """A notification. `fields` are for a command, as variables in its environment."""

    title: str
    text: str
    fields: dict[str, str]


def notices(before: StatusFile | None, now: StatusFile, *, uid: int | None, since: float) -> Iterator[Notice]:
    """Yield what is new in the status; of kills, those of a user, or all if it is None.

    In the first status, those since a time are new. Later the clock may be another.
    """
    pressure = now.pressure
    if pressure.short and not (before is not None and before.pressure.short):
        text = f"{kib(pressure.available_kib)} available."
        if pressure.next_process:
            text += f" The kernel would kill {pressure.next_process} next."
        fields = {"EVENT": "memory-short", "AVAILABLE_KIB": str(pressure.available_kib)}
        yield Notice("Memory is running out", text, fields | {"NEXT": pressure.next_process})
    if before is None:
        new = [one for one in now.last_kills if one.at >= since]
    else:
        new = [one for one in now.last_kills if one not in before.last_kills]
    if kills := [one for one in new if uid in (None, one.uid)]:
        yield _killed(kills)


def _killed(kills: list[LastKill]) -> Notice:
    first, *others = sorted(kills, key=lambda one: one.rss_kib, reverse=True)
    names = some_of([f"{one.comm}[{one.pid}] ({kib(one.rss_kib)})" for one in (first, *others)], _SHOWN)
    is_full = max(Counter(one.uid for one in kills).values()) >= KILLS_A_UID
    at_least = "at least " if is_full else ""  # the daemon keeps no more of a user
    fields = {
        "EVENT": "killed",
        "COMM": first.comm,
        "PID": str(first.pid),
        "UID": str(first.uid),
        "RSS_KIB": str(first.rss_kib),
        "COUNT": str(len(kills)),
    }
    who = f"{first.comm} and {at_least}{len(others)} more were" if others else f"{first.comm} was"
    return Notice(f"{who} killed", f"Out of memory: the kernel killed {at_least}{names}.", fields)


class Notifier:
    """Shows notices by the desktop's service, or runs a command with their fields in its environment."""

    def __init__(self, command: str | None) -> None:
        self._command = command
        self._trouble = ""

    def send(self, notice: Notice) -> None:
        """Send a notice. A failure is printed once, until another one occurs."""
        texts = {key: _encodable(text) for key, text in notice.fields.items()}
        notice = Notice(_encodable(notice.title), _encodable(notice.text), texts)
        variables = {"TITLE": notice.title, "TEXT": notice.text, **notice.fields}
        environment = os.environ | {f"OOMGUARD_{name}": value for name, value in variables.items()}
        arguments = self._arguments(notice)
        what = printable(self._command or os.path.basename(arguments[0]))
        trouble = _trouble(arguments, environment)
        if trouble and trouble != self._trouble:
            complain(
                f"oomguard: a notification failed: `{what}` {trouble}; "
                "notify goes on, and reports the same failure only once"
            )
        self._trouble = trouble

    def _arguments(self, notice: Notice) -> list[str]:
        if self._command is not None:
            return ["/bin/sh", "-c", self._command]
        body = html.escape(notice.text, quote=False)  # the body is markup, the title is not
        if (program := shutil.which("notify-send")) is not None:
            # It resolves backslashes in the body, after which an octal number could be markup.
            options = ["--app-name=oomguard", "--urgency=critical", "--icon=dialog-warning"]
            return [program, *options, "--", notice.title, body.replace("\\", "\\\\")]
        call = ["call", "--session", f"--dest={_BUS}", "--object-path=/org/freedesktop/Notifications"]
        strings = (json.dumps(text, ensure_ascii=False) for text in (notice.title, body))
        values = ['"oomguard"', "uint32 0", '"dialog-warning"', *strings, "@as []", '{"urgency": <byte 2>}']
        return ["gdbus", *call, f"--method={_BUS}.Notify", "--", *values, "int32 -1"]


def _encodable(text: str) -> str:
    """Return text with what no argument can contain escaped: the locale's encoding may be another."""
    encoding = sys.getfilesystemencoding()
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _trouble(arguments: list[str], environment: dict[str, str]) -> str:
    """Run a program, and return how it failed, "" if it did not. It prints its errors itself."""
    null = subprocess.DEVNULL
    try:
        started = subprocess.Popen(  # noqa: S603 - a list, with the user's own command
            arguments, env=environment, stdin=null, stdout=null, process_group=0
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    try:
        code = started.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        try:
            os.killpg(started.pid, signal.SIGKILL)  # with what it started
        except PermissionError:  # it is all another user's by now, as under sudo
            return f"still runs after {_SECONDS} s, as another user"
        started.wait()
        return f"was killed after {_SECONDS} s"
    if code < 0:
        return f"was killed by signal {-code}"
    return f"ended with exit status {code}" if code else ""


def watch_status(state_dir: str, procfs: Procfs, notifier: Notifier, *, uid: int | None) -> None:
    """Send notices until a signal ends this process."""
    source = StatusSource(state_dir, procfs, meanwhile="notify waits for it")
    since = time.time()
    before: StatusFile | None = None
    inotify: Inotify | None = None
    while True:
        seconds = _ABSENT_SECONDS
        with suppress(
            OSError
        ):  # `source` says why it is not there; or the desktop's programs use all instances
            inotify = inotify or Inotify()
            inotify.add_watch(state_dir, IN_MOVED_TO | IN_ONLYDIR)
            seconds = _CHECK_SECONDS
        now, _ = source.read(time.monotonic())
        if now is not None:
            found = list(notices(before, now, uid=uid, since=since))
            before = now
            for one in found:
                notifier.send(one)
            if found:
                time.sleep(_PAUSE_SECONDS)
        select.select([] if inotify is None else [inotify.fileno()], [], [], seconds)
        if inotify is not None:
            inotify.read_some()
