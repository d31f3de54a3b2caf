"""Lines of a log in any form: plain text, a record of /dev/kmsg, or an entry of the journal or in JSON."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oomguard.oom.kmsg import parse_record
from oomguard.oom.log_line import (
    INVOKED,
    ISO,
    NOT_KERN,
    WHEN,
    Line,
    begins_report,
    find_message,
    has_mark,
    is_decoration,
    is_others,
    split_program,
    split_text,
    unmarked_line,
)
from oomguard.oom.quoted import LONE, MESSAGE_KEYS

_MICRO = 1_000_000
_OBJECT = ('{"', "{ ", "{}", "[{", "data: {")
_TAGGED = re.compile(rf"(?:({ISO})\s+[\w.*-]{{1,80}}:?\s+|[^\"{{}}\n]{{1,250}} => )(?=\{{\")")
"""A time and a tag in front of an object, as Fluentd has them; a result and a host, as Ansible."""


def split_line(line: str) -> Line | None:
    """Split a line of any kernel log; None if it is not the kernel's.

    A line without a mark may be the kernel's: somebody may have removed the prefixes.
    """
    start = line.lstrip("\x1e \t-")
    if start.startswith(_OBJECT):
        return _split_json(start)
    if '{"' in start and (tag := _TAGGED.match(start)) is not None and (tag[1] or not is_others(tag[0])):
        found = _split_json(start[tag.end() :])
        return found and found._replace(when=found.when or tag[1] or "")
    if start[:1].isdigit() and ";" in start:
        record = parse_record(start)
        if record is not None:
            if not record.is_kernels:
                return None
            return Line(record.text, uptime_seconds=record.uptime_us / _MICRO)
    return split_text(line)


def split_any(line: str) -> tuple[str | None, Line] | None:
    """Return which program wrote a line, and its message, as `split_program`; in the journal, its unit."""
    if (start := line.lstrip("\x1e \t")).startswith(_OBJECT):
        return _journal_any(start)
    return split_program(line)


def _journal_any(line: str) -> tuple[str | None, Line] | None:
    entry = _object(line)
    if entry is None or not isinstance(entry.get("MESSAGE"), str):
        return None
    found = _split_journal(entry | {"_TRANSPORT": "kernel"})
    unit = _string(entry.get("_SYSTEMD_UNIT"))
    program = "systemd" if entry.get("_PID") == "1" else unit.removesuffix(".service")
    return None if found is None else (program, found)


def begins_log(text: str) -> bool:
    """Return whether the first line of a string is the kernel's own, so that it is a log."""
    first = text.partition("\n")[0]
    return has_mark(first) or begins_report(first) or parse_record(first) is not None


def is_damaged(line: str) -> bool:
    """Return whether a line begins as an object of JSON does, and is none."""
    start = line.lstrip("\x1e \t-")
    return start.startswith(_OBJECT) and _object(start) is None


def is_in_entry(line: str) -> bool:
    """Return whether a line is the message of an entry whose fields have a line each (`split_entry`)."""
    return _MESSAGE_FIELD.match(line) is not None


_MESSAGE_FIELD = re.compile(
    r"""[ \t]{0,40}(?:MESSAGE=|"(?:MESSAGE|message|msg|log|line|text(?:Payload)?)" ?: )"""
)
_FIELD = re.compile(
    r'[ \t]{0,40}(?:"(?P<key>[A-Za-z_]\w{0,63})" ?: {1,9}(?P<json>[^ ].*)'
    r"|(?P<name>[A-Z_][A-Z0-9_]{0,63})=(?P<text>.*))"
)


def is_field(line: str) -> bool:
    """Return whether a line is a field of such an entry."""
    return _FIELD.match(line) is not None


def split_entry(head: str, lines: Iterable[str], indent: int) -> Line | None:
    """Split an entry of journalctl -o export, verbose or json-pretty, or of dmesg -J.

    `head` is the line before its fields. Lines with another indent continue a field: users choose them.
    None if it is not the kernel's.
    """
    entry: dict[str, Any] = {}
    for line in lines:
        field = _FIELD.match(line.rstrip("\r"))
        if field is None or len(line) - len(line.lstrip()) != indent:
            continue
        if field["name"] is not None:
            entry[field["name"]] = field["text"]
        else:
            try:
                entry[field["key"]] = json.loads(field["json"].rstrip(", "))
            except (ValueError, RecursionError):
                continue  # it has further lines
    if "MESSAGE" in entry and entry.get("_TRANSPORT") != "kernel":
        return None  # or the field is too far away
    found, when = _split_object(entry), WHEN.search(head)
    return found if found is None or found.when or when is None else found._replace(when=when[0])


def _split_json(line: str) -> Line | None:
    """Split an entry of `journalctl -o json`, or of a log whose entries are JSON in any form."""
    entry = _object(line)
    return None if entry is None else _split_object(entry)


def _object(line: str) -> dict[str, Any] | None:
    """Parse an object of JSON, or a list as one with the key "", also in a list, or after `data:` (SSE)."""
    text = line.removeprefix("data: ").rstrip(" ,\r")
    is_list = text.startswith("[{") and text.endswith("}]")
    try:
        entry = json.loads(text if is_list else text.lstrip("[").rstrip(" ,]"))
    except (ValueError, RecursionError):
        return None
    if is_list:
        entry = entry[0] if len(entry) == 1 else {"": entry}
    return entry if isinstance(entry, dict) else None


def _split_object(entry: Mapping[str, Any]) -> Line | None:
    if "MESSAGE" in entry:
        return _split_journal(entry)
    for nested in entry.values():
        if isinstance(nested, dict) and "MESSAGE" in nested:
            return _split_journal({"_TRANSPORT": ""} | nested)
    for listed in entry.values():
        if isinstance(listed, list) and (entries := [json.dumps(one) for one in listed if _is_entry(one)]):
            return Line("\n".join(entries), is_log=True)
    if "msg" in entry and "pri" in entry:  # dmesg -J
        priority, uptime = entry["pri"], entry.get("time")
        if not isinstance(priority, int) or priority >= NOT_KERN or not isinstance(entry["msg"], str):
            return None
        is_time = isinstance(uptime, float) and 0 <= uptime < _UPTIME_LIMIT  # NaN is not JSON
        return Line(LONE.sub("\ufffd", entry["msg"]), uptime_seconds=uptime if is_time else None)
    fields: dict[str, list[tuple[str, Line | None]]] = {}
    for key, string in _messages(entry, _JSON_DEPTH):
        text = LONE.sub("\ufffd", string.strip("\n"))
        if "\n" in text and begins_log(text):
            fields.setdefault(key, []).append((text, None))
        elif (line := _split_string(text)) is not None:
            fields.setdefault(key, []).append((text.partition("\n")[0], line))
    found = [one for texts in _without_copies([*fields.values()]) for one in texts]
    if len(found) > 1:
        return Line("\n".join(text for text, _ in found), is_log=True)
    for text, line in found:
        if line is None:
            return Line(text, is_log=True)
        times = (WHEN.search(_string(entry.get(key))[:_TIME_LENGTH]) for key in _TIME_KEYS)
        when = next((time[0] for time in times if time is not None), "")
        return line._replace(when=line.when or when, indent=0, is_marked=True)
    return None


def _is_entry(value: object) -> bool:
    """Return whether this is an entry of `journalctl -o json` or `dmesg -J`, which say who wrote it."""
    return isinstance(value, dict) and ("MESSAGE" in value or {"msg", "pri"} <= value.keys())


def _without_copies(fields: list[list[tuple[str, Line | None]]]) -> list[list[tuple[str, Line | None]]]:
    """Return the fields that tell of a kill which no fuller one does: `stdout` and `stdout_lines` are one."""
    if len(fields) < 2:
        return fields
    told: set[str] = set()
    kept: list[list[tuple[str, Line | None]]] = []
    names = [set(_TELLS.findall("\n".join(text for text, _ in texts))) for texts in fields]
    for own, texts in sorted(
        zip(names, fields, strict=True), key=lambda one: (-len(one[0]), -len(one[1][0][0]))
    ):
        tells, first = own or {text if line is None else line.text for text, line in texts}, texts[0][0]
        is_cut = len(texts) == 1 and any(first in text for others in kept for text, _ in others)
        if not is_cut and not told.issuperset(tells):
            told |= tells
            kept.append(texts)
    return kept


_TELLS = re.compile(r"(?:[Kk]ill(?:ed)? process \d|oom-kill:|invoked oom-killer:|reaped process \d).*")
_JSON_DEPTH = 8
_TIME_KEYS = ("time", "timestamp", "@timestamp", "ts")
_TIME_LENGTH = 64
_UPTIME_LIMIT = 1e12


def _messages(value: object, depth: int, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the messages in a value of JSON, not deeper than that, and the name of their field."""
    if isinstance(value, str):
        if key in MESSAGE_KEYS:
            nested = _object(value) if value.startswith("{") else None
            yield from ((key, value),) if nested is None else _messages(nested, depth - 1)
    elif depth > 0 and isinstance(value, (dict, list)):
        for name, one in value.items() if isinstance(value, dict) else ((key, item) for item in value):
            yield from _messages(one, depth - 1, name)


def _split_string(text: str) -> Line | None:
    line = split_line(text) if not text.startswith("{") else None
    if line is None or line.is_marked:
        return line
    start = find_message(text)
    if INVOKED in text:
        return line
    return unmarked_line(text, start) if start >= 0 and is_decoration(text[:start]) else None


def _split_journal(entry: Mapping[str, Any]) -> Line | None:
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
        LONE.sub("\ufffd", message),
        "" if realtime is None else f"{realtime / _MICRO:.6f}",
        None if uptime is None else uptime / _MICRO,
        LONE.sub("\ufffd", _string(entry.get("_HOSTNAME"))),
    )


def _micros(value: object) -> int | None:
    text = value if isinstance(value, str) else ""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 20 else None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
