"""What the text of a condition may be: names, paths, units, users and regular expressions.

Each function returns the text it was given, or refuses it with a reason and a way out.
"""

import re
import warnings

from pydantic_core import PydanticCustomError

from oomguard.policy.fault import excerpt

UNIT_SUFFIXES = ("service", "scope", "slice", "socket", "mount", "swap")
"""The kinds of unit a process can live in. Timers and targets only start others."""


_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*(?:\\[1-9]|\(\?\()")


def refusal(code: str, message: str, hint: str) -> PydanticCustomError:
    """Return what pydantic shall report, in our words: `code`, and `message` and `hint` in its context."""
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def name(value: str) -> str:
    """Check a process name, exact or glob."""
    if "/" in value:
        raise refusal(
            "path-as-name",
            f"a process name holds no '/', got {excerpt(value)}",
            f"use exe: {excerpt(value)} for a path, or name: {excerpt(value.rsplit('/', 1)[1]) or '...'}",
        )
    return _glob(value)


def path(value: str) -> str:
    """Check a glob on an absolute path: an executable or a cgroup."""
    if not value.startswith(("/", "*")):
        raise refusal(
            "relative-path",
            f"must begin with / or *, got {excerpt(value)}",
            f"write the whole path, or '*/{excerpt(value)}' for any folder",
        )
    return _glob(value)


def unit(value: str) -> str:
    """Check a glob on a unit's name."""
    stem, dot, suffix = value.rpartition(".")
    if value.endswith("*") or (dot and suffix in UNIT_SUFFIXES):
        return _glob(value)
    known = ", ".join(f".{one}" for one in UNIT_SUFFIXES)
    if dot and suffix in {"timer", "target", "path", "device", "automount"}:
        raise refusal(
            "unit-suffix",
            f"no process lives in a .{suffix} unit, got {excerpt(value)}",
            f"name the unit that it starts, perhaps {excerpt(stem)}.service",
        )
    raise refusal(
        "unit-suffix",
        f"a unit's name ends in {known} or *, got {excerpt(value)}",
        f"did you mean {excerpt(value.rstrip('.'))}.service?",
    )


def user(value: str) -> str:
    """Check a user's name."""
    if value.isdecimal():
        raise refusal(
            "quoted-number",
            f"must be a user's name or uid, got {value} in quotes, which is text",
            f"write {value} without quotes for the uid",
        )
    if ":" in value or "/" in value:
        raise refusal(
            "user-name", f"a user's name holds no ':' or '/', got {excerpt(value)}", "see getent passwd"
        )
    return _tidy(value)


def regex(value: str) -> str:
    """Check a regular expression, as Python's `re` reads it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _compile(value)
    except re.error as error:
        at = "" if error.pos is None else f" at character {error.pos + 1}"
        raise refusal(
            "regex",
            f"is no regular expression: {excerpt(error.msg)}{at} of {excerpt(value)}",
            _regex_hint(error),
        ) from None
    except (RecursionError, OverflowError):
        raise refusal(
            "regex",
            f"is too complicated a regular expression: {excerpt(value)}",
            "nest fewer groups and repeat less",
        ) from None
    return value


def _compile(value: str) -> None:
    re.compile(value)
    # Several are joined into one for speed, so each must stand inside a group, and name or count none.
    compiled = re.compile(f"(?:{value})")
    if compiled.groupindex or _REFERENCE.search(value):
        raise refusal(
            "regex",
            f"may not name groups or refer back to them: {excerpt(value)}",
            "write (...) or (?:...), and repeat what you would refer to",
        )


def _regex_hint(error: re.error) -> str:
    if "global flags" in error.msg:
        return "write (?i:...) around what the flag is for"
    if error.msg == "nothing to repeat":
        return "this is a regular expression, not a glob: write .* for anything"
    return "put a backslash before a character that shall stand for itself, and the whole in single quotes"


def _glob(value: str) -> str:
    start = _open_bracket(value)
    if start is not None:
        raise refusal(
            "glob",
            f"the [ at character {start + 1} of {excerpt(value)} is not closed",
            "a set of characters ends with ]; write [[] for a plain [",
        )
    return _tidy(value)


def _open_bracket(glob: str) -> int | None:
    """Return where a set of characters begins that never ends, None where all do."""
    at = glob.find("[")
    while at >= 0:
        first = at + 2 if glob[at + 1 : at + 2] == "!" else at + 1
        end = glob.find("]", first + 1)  # a ] that comes first stands for itself
        if end < 0:
            return at
        at = glob.find("[", end)
    return None


def _tidy(value: str) -> str:
    if value != value.strip():
        where = "begins" if value[:1].isspace() else "ends"
        raise refusal(
            "padded",
            f"{where} with a space, got '{excerpt(value)}'",
            f"write {excerpt(value.strip()) or 'a name'}; if the space is meant, use ? for it",
        )
    if "\0" in value:
        raise refusal("nul", f"holds a NUL character, got {excerpt(value)}", "no name on Linux can hold one")
    return value
