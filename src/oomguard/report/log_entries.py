"""Reads oomguard's journal entries back: the other end of `report/events.py`."""

import json
from datetime import datetime
from typing import Any, NamedTuple

from oomguard.core.text import counted, legible, printable
from oomguard.oom.log_time import moment_of
from oomguard.oom.other_killer import OtherKillers
from oomguard.report.cgroup_title import cgroup_title
from oomguard.report.events import KILLED

_DIGITS_LIMIT = 20
"""Longer than any number that oomguard writes."""


class LoggedEntry(NamedTuple):
    """An entry of the journal. Missing fields are ""; `total` is how many changes or kills it counts."""

    time: datetime
    event: str
    message: str
    target: str = ""
    old: str = ""
    new: str = ""
    cause: str = ""
    rule: str = ""
    source: str = ""
    comm: str = ""
    pid: str = ""
    error: str = ""
    total: int = 1
    value: str = ""
    """The oom_score_adj of a process that was killed."""
    rss_kib: str = ""
    constraint: str = ""
    """Which memory ran out, as in `oom/kill.py`."""
    oom_memcg: str = ""
    memcg: str = ""
    killer: str = ""
    """The program that killed it, "" for the kernel."""

    @property
    def is_adjustment(self) -> bool:
        """Whether it is about a value that was changed, or could not be."""
        return bool(self.target)

    @property
    def is_kill(self) -> bool:
        """Whether it is about processes that the kernel killed."""
        return self.event == KILLED.name

    @property
    def subject(self) -> str:
        """What it is about: `sshd[812]`, a sysctl, a number of processes, or nothing."""
        if self.pid:
            return f"{self.comm}[{self.pid}]"
        if self.killer:
            return self.comm
        return counted(self.total, "process", "es") if self.is_kill else self.target


_FIELDS = {name: f"OOMGUARD_{name.upper()}" for name in LoggedEntry._fields[1:-1]} | {
    "message": "MESSAGE",
    "pid": "OBJECT_PID",
    "error": "OOMGUARD_ERRNO",
    "total": "OOMGUARD_COUNT",
    "value": "OOMGUARD_OOM_SCORE_ADJ",
}
FIELDS = (*_FIELDS.values(), "_HOSTNAME", "_SYSTEMD_UNIT", "_PID")
"""The fields that are read from journal entries."""
OUR_FIELD = b'"OOMGUARD_EVENT"'
"""What the JSON of each of oomguard's entries contains, and perhaps that of others."""


def parse_entry(line: bytes) -> LoggedEntry | None:
    """Parse a line of `journalctl -o json`; None if it is not an entry of oomguard's.

    A value is a string, a list of bytes if it is not printable text, null if it was too large, or a list of
    those if the field is there more than once.
    """
    try:
        fields = json.loads(line)
        micros = int(fields["__REALTIME_TIMESTAMP"])
        time = datetime.fromtimestamp(micros // 1_000_000).astimezone()
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
    if not fields.get(_FIELDS["event"]):
        return None
    found: dict[str, Any] = {name: _text(fields.get(field)) for name, field in _FIELDS.items()}
    found["total"] = number(found["total"]) or 1
    return LoggedEntry(time.replace(microsecond=micros % 1_000_000), **found)


def parse_other_kill(line: bytes, killers: OtherKillers) -> LoggedEntry | None:
    """Parse an entry in which another program says what it killed; None for any other."""
    found = killers.parse(line.decode("utf-8", "surrogateescape"))
    moment = None if found is None else moment_of(found[0].when)
    if found is None or moment is None or found[1].is_evidence:
        return None
    other = found[1]
    comm, pid = cgroup_title(other.victim), ""
    if other.kill is not None:
        comm, pid = other.kill.comm, str(other.kill.pid)
    return LoggedEntry(
        datetime.fromtimestamp(moment).astimezone(),
        KILLED.name,
        legible(f"{other.by} killed {printable(other.victim)} for {other.why}"),
        comm=legible(printable(comm)),
        pid=pid,
        killer=other.by,
    )


def _text(value: object) -> str:
    """Return a field as text, escaped if another program wrote it."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = value[0]
    if isinstance(value, list):
        text = printable(bytes(item & 0xFF for item in value if isinstance(item, int)))
    else:
        text = value if isinstance(value, str) else ""
    return legible(text)


def entry_document(entry: LoggedEntry) -> dict[str, Any]:
    """Return an entry as JSON. Keys are stable; what the entry lacks is null."""
    found: dict[str, Any] = entry._asdict()
    message, rss_kib = found.pop("message"), number(found.pop("rss_kib"))
    found |= {key: number(found[key]) for key in ("pid", "old", "new", "value")}
    document = {_KEYS.get(key, key): None if value == "" else value for key, value in found.items()}
    document["time"] = entry.time.isoformat(timespec="microseconds")
    return document | {"rss_bytes": None if rss_kib is None else rss_kib * 1024, "message": message}


_KEYS = {"error": "errno", "total": "count", "value": "oom_score_adj"}
"""The fields that have another name in JSON."""


def number(text: str) -> int | None:
    """Return a field as a number, None for anything else."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(text) <= _DIGITS_LIMIT else None
