"""What the journal holds of oomguard, read back: the other end of `report/events.py`."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table


_DIGITS_LIMIT = 20
"""More than any number has that oomguard writes."""


class Entry(NamedTuple):
    """One entry of the journal. Fields that it does not have are ""; `total` says how many it stands for."""

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

    @property
    def is_adjustment(self) -> bool:
        """Whether it is about a value: one that was changed, or was to be."""
        return bool(self.target)

    @property
    def subject(self) -> str:
        """What it is about: `sshd[812]`, a sysctl, or nothing."""
        return f"{self.comm}[{self.pid}]" if self.pid else self.target


def parse_entry(line: bytes) -> Entry | None:
    """Parse a line of `journalctl -o json`; None for what is no entry of oomguard's.

    A value is a string, a list of bytes where it is not printable text, null where it was too
    large, or a list of those where the field is there more than once.
    """
    try:
        fields = json.loads(line)
        micros = int(fields["__REALTIME_TIMESTAMP"])
        time = datetime.fromtimestamp(micros // 1_000_000).astimezone()
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
    event = _text(fields.get("OOMGUARD_EVENT"))
    if not event:
        return None
    count = _text(fields.get("OOMGUARD_COUNT"))
    return Entry(
        time.replace(microsecond=micros % 1_000_000),
        event,
        _text(fields.get("MESSAGE")),
        target=_text(fields.get("OOMGUARD_TARGET")),
        old=_text(fields.get("OOMGUARD_OLD")),
        new=_text(fields.get("OOMGUARD_NEW")),
        cause=_text(fields.get("OOMGUARD_CAUSE")),
        rule=_text(fields.get("OOMGUARD_RULE")),
        source=_text(fields.get("OOMGUARD_SOURCE")),
        comm=_text(fields.get("OOMGUARD_COMM")),
        pid=_text(fields.get("OBJECT_PID")),
        error=_text(fields.get("OOMGUARD_ERRNO")),
        total=_number(count) or 1,
    )


def _text(value: object) -> str:
    """Return a field as text. oomguard escapes what it writes; anything else is escaped here."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = value[0]
    if isinstance(value, list):
        text = printable(bytes(item & 0xFF for item in value if isinstance(item, int)))
    else:
        text = value if isinstance(value, str) else ""
    return text if text.isprintable() else printable(text)


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON. Keys are stable; what the entry does not have is null."""
    return {
        "time": entry.time.isoformat(timespec="microseconds"),
        "event": entry.event,
        "target": entry.target or None,
        "comm": entry.comm or None,
        "pid": _number(entry.pid),
        "old": _number(entry.old),
        "new": _number(entry.new),
        "cause": entry.cause or None,
        "rule": entry.rule or None,
        "source": entry.source or None,
        "errno": entry.error or None,
        "count": entry.total,
        "message": entry.message,
    }


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(text) <= _DIGITS_LIMIT else None


def history_table(entries: "Sequence[Entry]") -> "Table":
    """Return the entries as a table; what is not about a value is told in its own words."""
    from rich.text import Text

    from oomguard.report.tables import table

    styles = {"applied": "", "refused": "yellow", "denied": "red", "contended": "yellow"}
    made = table("TIME", "EVENT", "WHAT", "FROM", "TO", "CAUSE", "BY", right=("FROM", "TO"))
    made.collapse_padding = True
    for column in made.columns[:2]:
        column.no_wrap = True
    for entry in entries:
        event = Text(entry.event, style=styles.get(entry.event, "dim"))
        time = entry.time.strftime("%m-%d %H:%M:%S")
        if not entry.is_adjustment:
            made.add_row(time, event, "", "", "", "", entry.message)
            continue
        more = f" +{entry.total - 1}" if entry.total > 1 else ""
        by = entry.rule or entry.source.rpartition("/")[2]
        made.add_row(time, event, entry.subject + more, entry.old, entry.new, entry.cause, by)
    return made
