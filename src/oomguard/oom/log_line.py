"""A line of a kernel log without its prefix: time, host, program.

The kernel's messages reach people through /dev/kmsg, dmesg, syslog, journalctl, serial consoles and the
logs of container runtimes. A line of another program is not the kernel's, even if it mentions a kill.
"""

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.oom.kmsg import parse_record

if TYPE_CHECKING:
    from collections.abc import Mapping


class Line(NamedTuple):
    """A message of the kernel. `when` is the wall clock as written, "" if it is missing.

    `indent` is the width of the prefix: further lines of the message are indented by it.
    """

    text: str
    when: str = ""
    uptime_seconds: float | None = None
    host: str = ""
    indent: int = 0


_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[ ]?[+-]\d\d:?\d\d)?"
_BSD = r"[A-Z][a-z]{2}[ ][ \d]\d(?:[ ]\d{4})?[ ]\d\d:\d\d:\d\d(?:\.\d{1,9})?"
_FULL = r"[A-Z][a-z]{2}[ ]\d{4}-\d\d-\d\d[ ]\d\d:\d\d:\d\d(?:\.\d{1,9})?[ ][A-Z+-][\w/+-]{0,9}"
_ASCTIME = r"[A-Z][a-z]{2}[ ][A-Z][a-z]{2}[ ][ \d]\d[ ]\d\d:\d\d:\d\d[ ]\d{4}"
_UNIX = r"\d{9,10}\.\d{1,9}"
_WHEN = f"{_ISO}|{_BSD}|{_FULL}|{_ASCTIME}|{_UNIX}"

_WORD = r"[^\s:]{1,255}"
_SAID = rf"(?:{_WORD}[ ])?{_WORD}\[\d{{1,10}}\]:[ ]|{_WORD}[ ]{_WORD}:[ ]"
"""A host and a program, or a program and its pid, as in syslog."""

_PREFIX = re.compile(
    rf"""
    (?:{_ISO}[ ](?:stdout|stderr)[ ][FP][ ])?          # a container's log, as the CRI writes it
    (?:<(?P<priority>\d{{1,3}})>(?:1[ ])?)?            # dmesg -r, netconsole, RFC 5424
    (?:(?P<facility>[a-z]{{2,8}})[ ]*:[a-z]{{2,7}}[ ]*:[ ])?  # dmesg -x
    (?:
        (?P<when>{_WHEN})(?:[ ](?!kern\.)(?P<host>[^\s:]{{1,255}}))?(?:[ ]kern\.[a-z]{{2,7}})?
            [ ]kernel(?::|[ ]-[ ]-[ ]-)[ ]?              # BusyBox has a facility, RFC 5424 no colon
      | \[(?P<asctime>{_ASCTIME})\][ ]?                # dmesg -T
      | \[[A-Z][a-z]{{2}}[ \d]\d[ ]\d\d:\d\d\][ ]?     # dmesg -e, and the next two
      | \[[ ]*[+]\d{{1,9}}\.\d{{1,9}}\][ ]?
      | \[<[ ]*\d{{1,9}}\.\d{{1,9}}>\][ ]?             # dmesg --time-format delta
      | (?P<iso>{_ISO})[ ](?!{_SAID})                # dmesg --time-format iso
    )?
    (?:
        \[[ ]*(?P<uptime>\d{{1,12}}\.\d{{1,9}})(?:[ ]<[^>]{{0,20}}>)?\][ ]?
        (?:\[[ ]*[CT]\d{{1,10}}\][ ]?)?                # CONFIG_PRINTK_CALLER
        (?:(?P<host2>[^\s:]{{1,255}})[ ]kernel:[ ])?   # journalctl -o short-monotonic
    )?
    """,
    re.VERBOSE,
)
_SOMEBODYS = re.compile(rf"(?:{_WHEN})[ ]|{_WORD}[ ]{_WORD}\[\d{{1,10}}\]:[ ]")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")

_MICRO = 1_000_000
_NOT_KERN = 8
"""From this priority on, the facility is not kern."""


def split_line(line: str) -> Line | None:
    """Split a line of any kernel log; None if it is not the kernel's.

    A line without a prefix counts as the kernel's: somebody removed the prefixes.
    """
    if line.startswith("{"):
        return _split_json(line)
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    if line[:1].isdigit():
        record = parse_record(line)
        if record is not None:
            if not record.is_kernels:
                return None
            return Line(record.text, uptime_seconds=record.uptime_us / _MICRO)
    found = _PREFIX.match(line)
    assert found is not None, "all of it is optional"
    end = found.end()
    when = found["when"]
    if when is None:
        if int(found["priority"] or 0) >= _NOT_KERN or (found["facility"] or "kern") != "kern":
            return None  # a program wrote it to /dev/kmsg
        if _SOMEBODYS.match(line, end):
            return None
        when = found["asctime"] or found["iso"]
    text = line[end:]
    if "#0" in text:
        text = text.replace("#012", "\n")  # rsyslog's newline
    uptime = found["uptime"]
    return Line(
        text,
        when or "",
        None if uptime is None else float(uptime),
        found["host"] or found["host2"] or "",
        end,
    )


def _split_json(line: str) -> Line | None:
    """Split an entry of `journalctl -o json`, or a line of a container runtime's log."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    if "MESSAGE" in entry:
        return _split_journal(entry)
    for key in ("log", "message"):
        text = entry.get(key)
        if isinstance(text, str) and not text.startswith("{"):
            inner = split_line(text.rstrip("\n"))
            if inner is None:
                return None
            return inner._replace(when=inner.when or _string(entry.get("time")), indent=0)
    return None


def _split_journal(entry: "Mapping[str, Any]") -> Line | None:
    if entry.get("_TRANSPORT", "kernel") != "kernel":
        return None  # anybody can write to the journal
    message = entry["MESSAGE"]
    if isinstance(message, list):  # what is not printable is there as bytes
        try:
            message = bytes(message).decode("utf-8", "surrogateescape")
        except (TypeError, ValueError):
            return None
    if not isinstance(message, str):
        return None
    uptime = _micros(entry.get("_SOURCE_MONOTONIC_TIMESTAMP"))
    realtime = _micros(entry.get("__REALTIME_TIMESTAMP"))
    return Line(
        message,
        "" if realtime is None else f"{realtime / _MICRO:.6f}",
        None if uptime is None else uptime / _MICRO,
        _string(entry.get("_HOSTNAME")),
    )


def _micros(value: object) -> int | None:
    text = value if isinstance(value, str) else ""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 20 else None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
