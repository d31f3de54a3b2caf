"""The status file: the daemon's state, for `oomguard status` and for metrics.

It is JSON, readable by everyone, and replaced atomically. A file, because a socket could be attacked.
`StatusFile` is its schema: the fields are the keys, except that a `_` at the end is left out.
"""

import json

from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

    from oomguard.core.choices import SysctlKind

from oomguard.core.process import Identity
from oomguard.core.rule import bounded
from oomguard.core.text import legible

STATUS_FILE = "status.json"
SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of the file that are read: ten times the size of one with a thousand rules."""
FORMAT = 1
KILLS_A_UID = 3
"""Of each user, so many of the last kills are listed."""

UNREADABLE = "some processes cannot be read"
"""How the limits begin that can name a process or a user."""

_PATIENCE_SECONDS = 30.0
"""A large host that is short of memory may write the file this much later."""


class PolicyStatus(NamedTuple):
    """The policy in force, and why a newer one was rejected, one fault per line.

    `path` is the file that the daemon was given, `files` are those that count on this host.
    """

    path: str
    files: tuple[str, ...]
    digest: str
    rules: int
    loaded_at: float
    resync_interval_seconds: int
    errors: tuple[str, ...]


class SysctlStatus(NamedTuple):
    """A sysctl of the policy, and the value that the kernel set. `kind` and `said` are as in the policy."""

    name: str
    wanted: int
    granted: int
    source: str
    kind: "SysctlKind" = "exact"
    said: str = ""

    def desired(self, actual: int | None) -> int:
        """Return the value that the kernel granted, or the actual one if the policy leaves that alone."""
        if self.kind != "exact" and actual is not None and self.is_met(actual):
            return actual
        return self.granted

    def is_met(self, actual: int) -> bool:
        """Return whether a value is as the policy wants it."""
        return bounded(self.kind, self.wanted, actual) == actual


class RuleStatus(NamedTuple):
    """A rule, and how many processes it matches."""

    number: int
    label: str
    source: str
    value: str
    processes: int


class OutcomeCounts(NamedTuple):
    """How many changes had each result."""

    applied: int
    refused: int
    denied: int
    contended: int
    vanished: int


class ChangeCount(NamedTuple):
    """How many changes there were of a target, by cause and result."""

    target: str
    cause: str
    result: str
    count_: int


class Complaint(NamedTuple):
    """A change that cannot be made, how often it was tried, and a fix."""

    subject: str
    wanted: int
    result: str
    reason: str
    hint: str
    by: str
    tries: int


class KillCount(NamedTuple):
    """How many processes the kernel killed, by rule ("" for none) and whether their value was below 0.

    In the order of the first kill of each: metrics rely on it.
    """

    rule: str
    protected: bool
    count_: int


class ContendedValue(NamedTuple):
    """A value that something else keeps rewriting: a sysctl's, or the `oom_score_adj` of a process."""

    target: str
    pid: int = 0
    start_time_ticks: int = 0

    @property
    def value(self) -> Identity | str:
        """The process, or the name of the sysctl."""
        return Identity(self.pid, self.start_time_ticks) if self.pid else self.target


class LastKill(NamedTuple):
    """A process that the kernel killed. `uid` is -1 if unknown."""

    at: float
    pid: int
    comm: str
    uid: int
    rss_kib: int
    rule: str


class PressureStatus(NamedTuple):
    """Whether memory is short; the episodes in which tasks stalled for memory that ended, and their seconds.

    `next_rule` is the rule of the process that the kernel would kill next, "" for none. If memory is short,
    `next_process` is that process, and `available_kib` what is left.
    """

    short: bool
    episodes: int
    seconds: float
    next_rule: str
    next_process: str = ""
    available_kib: int = 0


NO_PRESSURE = PressureStatus(short=False, episodes=0, seconds=0.0, next_rule="")


class StillRaised(NamedTuple):
    """A process that a rule, by number, still raises although it left the rule by its own doing."""

    pid: int
    start_time_ticks: int
    rule: int


class RecentChange(NamedTuple):
    """A change that was made."""

    at: float
    subject: str
    from_: int
    to: int
    cause: str
    by: str


class StatusFile(NamedTuple):
    """The content of the file. Times are seconds since 1970, but for `written_monotonic`.

    That is time.monotonic(), which is one for all processes of a boot, is never set, and stops in a suspend.
    """

    format: int
    version: str
    pid: int
    start_time_ticks: int
    started_at: float
    written_at: float
    written_monotonic: float
    policy: PolicyStatus
    sysctls: tuple[SysctlStatus, ...]
    rules: tuple[RuleStatus, ...]
    processes_held: int
    outcomes: OutcomeCounts
    changes: tuple[ChangeCount, ...]
    complaints: tuple[Complaint, ...]
    kills: tuple[KillCount, ...]
    contended: tuple[ContendedValue, ...]
    limits: tuple[str, ...]
    still_raised: tuple[StillRaised, ...]
    recent: tuple[RecentChange, ...]
    events: bool
    watches: int
    passes: int
    losses: int
    throttled: bool
    committed_peak_kib: int
    log_entries_lost: int
    pressure: PressureStatus
    last_kills: tuple[LastKill, ...]

    @property
    def identity(self) -> Identity:
        """The daemon's process."""
        return Identity(self.pid, self.start_time_ticks)

    def is_overdue(self, now: float) -> bool:
        """Return whether two passes have not replaced the file; `now` is time.monotonic()."""
        patience = 2 * self.policy.resync_interval_seconds + _PATIENCE_SECONDS
        age = now - self.written_monotonic  # it is rounded; one from the future is of another boot
        return not -1 <= age <= patience


def encode_status(status: StatusFile) -> bytes:
    """Return the file's content. Every text in it is printable."""
    fields = (f'"{name.rstrip("_")}": {_text(item)}' for name, item in status._asdict().items())
    return f"{{{', '.join(fields)}}}\n".encode("ascii")


def _text(value: "Any") -> str:
    """Return a field as JSON, a list row by row: objects for all of 1,000 rules would take a MiB."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"[{', '.join(map(_text, value))}]"
    return json.dumps(as_document(value))


def as_document(value: "Any") -> "Any":
    """Return a part of the file for `json`. A field that has its default is left out."""
    if isinstance(value, str):
        return legible(value)  # paths and reasons can contain anything
    if isinstance(value, float):
        return round(value, 3)
    if hasattr(value, "_fields"):
        defaults = value._field_defaults
        return {
            name.rstrip("_"): as_document(item)
            for name, item in value._asdict().items()
            if name not in defaults or item != defaults[name]
        }
    return [as_document(item) for item in value] if isinstance(value, tuple) else value
