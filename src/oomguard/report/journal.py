"""Writes log entries: to journald by its own protocol under systemd, else as lines on stderr.

The protocol is one datagram of `KEY=value` lines (systemd, JOURNAL_NATIVE_PROTOCOL). No package is used
for it: logging_journald imports `logging`, which costs 2.3 MiB with the rest, and its socket blocks.
"""

import os
import select
import socket
import stat
import struct
import sys
import time
from contextlib import suppress

from oomguard.core.typed import TYPE_CHECKING, Protocol
from oomguard.report.events import LogEntry

if TYPE_CHECKING:
    from typing import TextIO

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_FIELD_LIMIT = 4096
"""Maximum bytes of a field: patterns in a policy can be long."""

_MESSAGE_LIMIT = 4000
"""Bytes of a message on a stream: a pipe with any room takes 4,096 (PIPE_BUF)."""

_LEVELS = {3: "error: ", 4: "warning: "}


class Sink(Protocol):
    """Takes log entries. `lost` counts those that could not be written."""

    lost: int

    def write(self, entry: LogEntry) -> None:
        """Deliver one entry; never blocks, never raises."""


class JournalSink:
    """journald. Each datagram is addressed by path, so a restart of journald does not break it."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self.lost = 0
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def write(self, entry: LogEntry) -> None:
        """Send one datagram. If journald does not take it, count it as lost; never wait."""
        try:
            self._socket.sendto(encode(entry), self._path)
        except OSError:
            self.lost += 1


class StreamSink:
    """Writes a line of text for each entry."""

    def __init__(self, stream: "TextIO | None" = None) -> None:
        self.lost = 0
        self._stream = stream or sys.stderr
        # Most bytes of a character: stderr escapes those that the locale lacks.
        widest = len("\U0001f4a5".encode(self._stream.encoding or "utf-8", "backslashreplace"))
        self._limit = _MESSAGE_LIMIT // widest
        self._room: select.poll | None = None
        with suppress(OSError, ValueError):  # what has no descriptor never blocks, nor does a file
            fd = self._stream.fileno()
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                self._room = select.poll()
                self._room.register(fd, select.POLLOUT)

    def write(self, entry: LogEntry) -> None:
        """Write one line with the time of day, unless a pipe is full because nobody reads it."""
        if self._room is not None and not self._room.poll(0):
            self.lost += 1
            return
        level = _LEVELS.get(entry.event.priority, "")
        message = entry.message[: _MESSAGE_LIMIT if entry.message.isascii() else self._limit]
        try:
            self._stream.write(f"{time.strftime('%H:%M:%S')} {level}{message}\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed, or its encoding lacks a character
            self.lost += 1


def open_sink() -> Sink:
    """Return a sink for journald if stderr goes there, else for stderr (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        info = os.fstat(2)
    except OSError:
        return StreamSink()
    if os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}" and os.path.exists(JOURNAL_SOCKET):
        return JournalSink()
    return StreamSink()


def encode(entry: LogEntry) -> bytes:
    """Return the datagram. A value with a newline is sent by length, so it cannot forge a field."""
    fields = {
        "MESSAGE": entry.message,
        "MESSAGE_ID": entry.event.message_id,
        "PRIORITY": str(entry.event.priority),
        "SYSLOG_IDENTIFIER": "oomguard",
        "OOMGUARD_EVENT": entry.event.name,
    } | entry.fields
    return b"".join(_encode_field(key.encode("ascii"), value) for key, value in fields.items())


def _encode_field(key: bytes, value: str) -> bytes:
    raw = value.encode("utf-8", "backslashreplace")
    if len(raw) > _FIELD_LIMIT:  # without a part of a character: journalctl prints only valid UTF-8
        raw = raw[:_FIELD_LIMIT].decode("utf-8", "ignore").encode("utf-8")
    if b"\n" in raw:
        return key + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
    return key + b"=" + raw + b"\n"
