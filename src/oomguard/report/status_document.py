"""Reads the status file, and checks it: it can be damaged, or another version's."""

import json
from typing import Any

from oomguard.core.errors import OomguardError
from oomguard.core.sysctl import SYSCTLS
from oomguard.report.status import VERSION

Document = dict[str, Any]

_SHAPE: Document = {
    "version": str,
    "pid": int,
    "start_time_ticks": int,
    "started_at": float,
    "written_at": float,
    "policy": {
        "files": [str],
        "digest": str,
        "rules": int,
        "loaded_at": float,
        "resync_interval_seconds": int,
        "errors": [str],
    },
    "sysctls": [{"name": str, "wanted": int, "granted": int, "source": str}],
    "rules": [{"label": str, "source": str, "value": str, "processes": int}],
    "processes_held": int,
    "outcomes": {"applied": int, "refused": int, "denied": int},
    "changes": [{"target": str, "cause": str, "result": str, "count": int}],
    "complaints": [
        {
            "subject": str,
            "wanted": int,
            "result": str,
            "reason": str,
            "hint": str,
            "by": str,
            "tries": int,
        }
    ],
    "kills": [{"rule": str, "protected": bool, "count": int}],
    "contended": [{"target": str}],
    "limits": [str],
    "recent": [{"at": float, "subject": str, "from": int, "to": int, "cause": str, "by": str}],
    "events": bool,
    "watches": int,
    "passes": int,
    "losses": int,
    "throttled": bool,
    "log_entries_lost": int,
}
"""The keys that are read. The file may have more."""


_ELSEWHERE = {"granted": "wanted"}
"""Keys that an older daemon did not write, and the keys that replace them."""


class StatusError(OomguardError):
    """The status file exists, but cannot be read."""


def decode_status(raw: bytes, path: str) -> Document:
    """Return the content of a status file. StatusError: it is damaged, or another version's."""
    try:
        document = json.loads(raw)
        if document["format"] == VERSION:
            document.setdefault("kills", [])  # an older daemon did not count them
            document.setdefault("throttled", False)  # it had no CPU limit
            _must_fit(document, _SHAPE, "")
            return dict(document)
        found = f"format {document['format']!a}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"{error}" if isinstance(error, _ShapeError) else "no valid JSON"
    raise StatusError(
        f"{path}: not a status file of this version ({found})",
        hint="restart the daemon: it rewrites the file",
    )


class _ShapeError(ValueError):
    pass


def _must_fit(found: Any, shape: Any, where: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(found, dict):
            raise _ShapeError(f"{where or 'all of it'} is not a mapping")
        for key, inner in shape.items():
            if key not in found and _ELSEWHERE.get(key) in found:
                found[key] = found[_ELSEWHERE[key]]
            if key not in found:
                raise _ShapeError(f"{where}{key} is missing")
            _must_fit(found[key], inner, f"{where}{key}: ")
        if "wanted" in shape and "name" in shape and found["name"] not in SYSCTLS:
            raise _ShapeError(f"{where}no such sysctl")
    elif isinstance(shape, list):
        if not isinstance(found, list):
            raise _ShapeError(f"{where}no list")
        for item in found:
            _must_fit(item, shape[0], where)
    elif type(found) is not shape and not (shape is float and type(found) is int):
        raise _ShapeError(f"{where}not {shape.__name__}")
    elif shape is str and not found.isprintable():  # it is printed on a terminal
        raise _ShapeError(f"{where}not printable")
