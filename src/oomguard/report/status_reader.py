"""Reads the status file."""

import json
from typing import Any, Literal, get_args, get_origin, get_type_hints

from oomguard.core.choices import SysctlKind
from oomguard.core.errors import OomguardError
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.text import legible, printable
from oomguard.report.status_file import FORMAT, StatusFile, SysctlStatus

_INT_LIMIT, _FLOAT_LIMIT = 1 << 64, 1e12
"""More than any sysctl, and than any time in seconds that the C library can print."""


class StatusError(OomguardError):
    """The status file exists, but cannot be read."""


def decode_status(raw: bytes, path: str) -> StatusFile:
    """Return the content of a status file. StatusError: it is damaged, or another version's."""
    try:
        document = json.loads(raw)
        if document["format"] == FORMAT:
            return StatusFile(**_fields(StatusFile, document, ""))
        found = f"format {document['format']!a}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"{error}" if isinstance(error, _ShapeError) else "no valid JSON"
    raise StatusError(
        f"{printable(path)}: not a status file of this version ({found})",
        hint="restart the daemon: it rewrites the file",
    )


class _ShapeError(ValueError):
    pass


def _decoded(kind: Any, found: Any, where: str) -> Any:
    """Return what was found at a place in the file as a value of that type."""
    if get_origin(kind) is tuple:
        if not isinstance(found, list):
            raise _ShapeError(f"{where}no list")
        return tuple(_decoded(get_args(kind)[0], item, where) for item in found)
    if get_origin(kind) is Literal:
        if found not in get_args(kind):
            raise _ShapeError(f"{where}unknown")
        return found
    if issubclass(kind, tuple):
        return kind(**_fields(kind, found, where))
    if type(found) is not kind and not (kind is float and type(found) is int):
        raise _ShapeError(f"{where}not {kind.__name__}")
    if kind in (int, float) and not abs(found) < (_INT_LIMIT if kind is int else _FLOAT_LIMIT):  # NaN is not
        raise _ShapeError(f"{where}out of range")
    return legible(found) if kind is str else found  # the daemon's Python may know more characters


def _fields(kind: Any, found: Any, where: str) -> dict[str, Any]:
    """Return the values of the fields of a NamedTuple. The file may have more keys."""
    if not isinstance(found, dict):
        raise _ShapeError(f"{where or 'all of it'} is not a mapping")
    fields = {}
    for name, inner in get_type_hints(kind, localns={"SysctlKind": SysctlKind}).items():
        key = name.rstrip("_")
        if key in found:
            fields[name] = _decoded(inner, found[key], f"{where}{key}: ")
        elif name not in kind._field_defaults:
            raise _ShapeError(f"{where}{key} is missing")
    if kind is SysctlStatus and fields["name"] not in SYSCTLS:
        raise _ShapeError(f"{where}no such sysctl")
    return fields
