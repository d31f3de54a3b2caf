"""Every event that oomguard logs. The journal catalog explains each by its message id."""

import errno

from oomguard.core.change import Outcome, SetOomScoreAdj
from oomguard.core.text import printable
from oomguard.core.typed import NamedTuple
from oomguard.report.sentences import sentence, target

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
"""Priorities of syslog(3)."""


class Event(NamedTuple):
    """A kind of event: its name in OOMGUARD_EVENT, its MESSAGE_ID and priority."""

    name: str
    message_id: str
    priority: int


APPLIED = Event("applied", "32d0f20d742e45318c687a23a485a724", INFO)
REFUSED = Event("refused", "758862d786974293a9e6114ec7531789", WARNING)
DENIED = Event("denied", "6a8f9b78d36a4c6d8e4b26044c7021a9", WARNING)
CONTENDED = Event("contended", "352a9c98b8234e0a8bb81d89b816d876", WARNING)
UNCONTENDED = Event("uncontended", "327c23a5c995466596132f73eb9eba32", NOTICE)
STARTED = Event("started", "c7b887879eb34107b9a9faec312863ee", NOTICE)
STOPPED = Event("stopped", "5d150b1fed4e42c494ba9b5295139097", NOTICE)
POLICY_LOADED = Event("policy-loaded", "6ebbadf903f14803a38210f19a1985cd", NOTICE)
POLICY_REJECTED = Event("policy-rejected", "ddaecdecd43c484fa2c995444d24c89a", ERROR)
POLICY_EMPTIED = Event("policy-emptied", "3f0d3c5a0f6b4b6e9a1de0d14b7f2c85", WARNING)
LIMITED = Event("limited", "454a6ff5a2914e928979fc5b575341c9", WARNING)
EVENTS_LOST = Event("events-lost", "9f3f9a260d4a45df8da7d3e1b3fe8ff5", NOTICE)
EVENTS_STOPPED = Event("events-stopped", "c21ae3a0514c42938da3604e82e4d862", WARNING)
EVENTS_RESUMED = Event("events-resumed", "784e68e82bba450684052b1b634532b8", NOTICE)
OUT_OF_MEMORY = Event("out-of-memory", "c51ff7b267694ed4a3bf5e13a51de553", WARNING)
THROTTLED = Event("throttled", "99d3688299d34e299a6a39f965c671c0", WARNING)
UNTHROTTLED = Event("unthrottled", "52458d7e71c847299adb9124385b62ae", NOTICE)
KILLED = Event("killed", "b2b386293c254b37b71ee887d13d86cc", WARNING)
MEMORY_SHORT = Event("memory-short", "ae9de24441a0430a8447ba59d21fa54d", WARNING)
MEMORY_RECOVERED = Event("memory-recovered", "1ce1c202c9dc42dabd7538adf2ad9e49", NOTICE)
COMMIT_LIMIT_NEAR = Event("commit-limit-near", "5c5ee7b9512540d781c3bb657eedfabe", WARNING)

EVENTS = tuple(one for one in [*vars().values()] if isinstance(one, Event))
"""All of them."""

VALUE_EVENTS = tuple(one.name for one in (APPLIED, REFUSED, DENIED, CONTENDED, UNCONTENDED))
"""Those about values."""

_OF_RESULT = {"applied": APPLIED, "refused": REFUSED, "denied": DENIED, "contended": CONTENDED}


class LogEntry(NamedTuple):
    """One log entry: the message and its fields."""

    event: Event
    message: str
    fields: dict[str, str]


def outcome_entry(outcome: Outcome, *, count: int = 1, examples: tuple[str, ...] = ()) -> LogEntry:
    """Return the entry for an outcome, or for `count` of one kind with a few examples.

    KeyError: the process vanished, which is not an event.
    """
    change = outcome.change
    fields = {
        "OOMGUARD_TARGET": target(change),
        "OOMGUARD_OLD": str(change.before),
        "OOMGUARD_NEW": str(change.after),
        "OOMGUARD_CAUSE": change.cause,
    }
    if isinstance(change, SetOomScoreAdj):
        fields["OOMGUARD_COMM"] = printable(change.comm)
        fields["OBJECT_PID"] = str(change.identity.pid)
        if change.rule is not None:
            fields["OOMGUARD_RULE"] = change.rule.label
            fields["OOMGUARD_SOURCE"] = change.rule.source
    elif change.source:
        fields["OOMGUARD_SOURCE"] = change.source
    if outcome.errno:
        fields["OOMGUARD_ERRNO"] = errno.errorcode.get(outcome.errno, str(outcome.errno))
    event = _OF_RESULT[outcome.result]
    if outcome.made is not None:
        event = event._replace(priority=WARNING)  # the kernel set another value
        fields["OOMGUARD_MADE"] = str(outcome.made)
    message = sentence(outcome)
    if count > 1:
        message = f"{message}; and {count - 1} more of this kind"
        if examples:
            message += f": {', '.join(examples)}" + (", …" if len(examples) < count - 1 else "")
        fields["OOMGUARD_COUNT"] = str(count)
    if outcome.hint:
        message = f"{message}; {outcome.hint}"
    return LogEntry(event, message, fields)
