"""Where entries go: journald's own protocol under systemd, readable lines on stderr elsewhere.

The protocol is one datagram of `KEY=value` lines (systemd, JOURNAL_NATIVE_PROTOCOL). It is
spoken here rather than by a package because those built on `logging` cost 3 MiB in a process of
11, and keep a connection that a restart of journald breaks.
"""

import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from oomguard.report.events import Record

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_FIELD_LIMIT = 4096
"""Bytes of one field: a policy may hold a pattern longer than anyone wants in a log."""

_LEVELS = {3: "error: ", 4: "warning: "}


class Sink(Protocol):
    """Something that takes entries. `lost` counts those that could not be delivered."""

    lost: int

    def write(self, record: "Record") -> None:
        """Deliver one entry; never blocks, never raises."""


class JournalSink:
    """journald. Each datagram is addressed by path, so a restart of journald does not break it."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self.lost = 0
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def write(self, record: "Record") -> None:
        """Send one datagram. Where journald does not take it, it is counted, not waited for."""
        try:
            self._socket.sendto(encode(record), self._path)
        except OSError:
            self.lost += 1


class StreamSink:
    """A line of text for each entry."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.lost = 0
        self._stream = stream or sys.stderr

    def write(self, record: "Record") -> None:
        """Write one line with the time of day."""
        level = _LEVELS.get(record.event.priority, "")
        try:
            print(f"{time.strftime('%H:%M:%S')} {level}{record.message}", file=self._stream, flush=True)
        except (OSError, ValueError):  # ValueError: it is closed, or its encoding lacks a letter
            self.lost += 1


def open_sink() -> Sink:
    """Return journald if it is where stderr goes, else stderr (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        info = os.fstat(2)
    except OSError:
        return StreamSink()
    if os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}" and os.path.exists(JOURNAL_SOCKET):
        return JournalSink()
    return StreamSink()


def encode(record: "Record") -> bytes:
    """Return the datagram. A value with a newline is sent by length, so it cannot forge a field."""
    fields = {
        "MESSAGE": record.message,
        "MESSAGE_ID": record.event.message_id,
        "PRIORITY": str(record.event.priority),
        "SYSLOG_IDENTIFIER": "oomguard",
        "OOMGUARD_EVENT": record.event.name,
    } | record.fields
    return b"".join(_encode_field(key.encode("ascii"), value) for key, value in fields.items())


def _encode_field(key: bytes, value: str) -> bytes:
    raw = value.encode("utf-8", "backslashreplace")[:_FIELD_LIMIT]
    if b"\n" in raw:
        return key + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
    return key + b"=" + raw + b"\n"
