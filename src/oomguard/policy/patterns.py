"""What the text of a condition may be: names, paths, units, users and regular expressions.

Each function returns the text, or raises a PydanticCustomError with a reason and a fix.
"""

import re
import warnings

from pydantic_core import PydanticCustomError

from oomguard.core.name_regex import NameRegexes, UnsupportedError
from oomguard.policy.fault import excerpt

UNIT_SUFFIXES = ("service", "scope", "slice", "socket", "mount", "swap")
"""The kinds of unit that have processes. Timers and targets only start other units."""

_ENDINGS = ", ".join(f".{one}" for one in UNIT_SUFFIXES if one != "slice")
"""Of units whose processes are in the unit itself: those of a slice are in the units below it."""


_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*(?:\\[1-9]|\(\?\()")


def refusal(code: str, message: str, hint: str) -> PydanticCustomError:
    """Return an error for pydantic to report: `code`, with `message` and `hint` in its context."""
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def name(value: str) -> str:
    """Check a process name, exact or glob."""
    return _glob(value)


def path(value: str) -> str:
    """Check a glob on an absolute path: an executable or a cgroup."""
    if not value.startswith(("/", "*")):
        raise refusal(
            "relative-path",
            f"must start with / or *, got {excerpt(value)}",
            f"write the whole path, or '*/{excerpt(value)}' for any folder",
        )
    return _glob(value)


def plain_text(value: str) -> str:
    """Check a text that Linux takes for a name, an argument or a path."""
    if "\0" in value:
        hint = "remove it: Linux does not allow it"
        raise refusal("nul", f"contains a NUL character, got {excerpt(value)}", hint)
    return value


def absolute(value: str) -> str:
    """Check the path of a cgroup or executable itself."""
    plain_text(value)
    if not value.startswith("/"):
        raise refusal("relative-path", f"must start with /, got {excerpt(value)}", "write the whole path")
    return value


def unit_name(value: str) -> str:
    """Check the name of a unit that can have processes."""
    if value.rpartition(".")[2] in UNIT_SUFFIXES and "/" not in value:
        return value
    raise refusal(
        "unit-suffix",
        f"must end in {_ENDINGS}, got {excerpt(value)}",
        f"did you mean {excerpt(value.rstrip('.'))}.service?",
    )


def unit(value: str) -> str:
    """Check a glob on a unit's name."""
    stem, dot, suffix = value.rpartition(".")
    if value.endswith("*") or (dot and suffix in UNIT_SUFFIXES):
        return _glob(value)
    if dot and suffix in {"timer", "target", "path", "device", "automount"}:
        raise refusal(
            "unit-suffix",
            f"a .{suffix} unit has no processes, got {excerpt(value)}",
            f"write the unit that it starts, such as {excerpt(stem)}.service",
        )
    raise refusal(
        "unit-suffix",
        f"must end in {_ENDINGS} or *, got {excerpt(value)}",
        f"did you mean {excerpt(value.rstrip('.'))}.service?",
    )


def user(value: str) -> str:
    """Check a user's name."""
    if value.isdecimal():
        raise refusal(
            "quoted-number",
            f"must be a user name or a uid, got '{value}'",
            f"remove the quotes: {value}",
        )
    if ":" in value or "/" in value:
        raise refusal(
            "user-name",
            f"a user name cannot contain ':' or '/', got {excerpt(value)}",
            "list user names with: getent passwd",
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
            f"is not a valid regular expression: {excerpt(error.msg)}{at} of {excerpt(value)}",
            _regex_hint(error),
        ) from None
    except (RecursionError, OverflowError):
        raise refusal(
            "regex",
            f"is too complex a regular expression: {excerpt(value)}",
            "use fewer nested groups and fewer repetitions",
        ) from None
    return value


def name_regex(value: str) -> str:
    """Check a regular expression on a process name, which is tried in linear time."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            NameRegexes([(0, regex(value))])
    except FutureWarning as error:
        raise refusal(
            "regex",
            f"is ambiguous, got {excerpt(value)}: {excerpt(str(error).lower())}",
            "put a backslash before each [, -, &, ~ and | that stands for itself in a set",
        ) from None
    except UnsupportedError as error:
        raise refusal(
            "regex",
            f"must not have {error}, got {excerpt(value)}",
            "names are matched in linear time: write alternatives, sets and simple repetitions",
        ) from None
    return value


def _compile(value: str) -> None:
    re.compile(value)
    # The matcher joins several into one, so each must work inside a group, without names or back references.
    compiled = re.compile(f"(?:{value})")
    if compiled.groupindex or _REFERENCE.search(value):
        raise refusal(
            "regex",
            f"must not have named groups or back references, got {excerpt(value)}",
            "use (...) or (?:...), and repeat the pattern instead of a back reference",
        )


def _regex_hint(error: re.error) -> str:
    if "global flags" in error.msg:
        return "write (?i:...) around the part that the flag is for"
    if error.msg == "nothing to repeat":
        return "this is a regular expression, not a glob: write .* for any text"
    return "put a backslash before each literal special character, and use single quotes"


def _glob(value: str) -> str:
    start = _open_bracket(value)
    if start is not None:
        raise refusal(
            "glob",
            f"the [ at character {start + 1} of {excerpt(value)} is not closed",
            "close it with ], or write [[] for a literal [",
        )
    return _tidy(value, ", or [ ] for a literal space")


def _open_bracket(glob: str) -> int | None:
    """Return the position of a [ that is not closed, None if there is none."""
    at = glob.find("[")
    while at >= 0:
        first = at + 2 if glob[at + 1 : at + 2] == "!" else at + 1
        end = glob.find("]", first + 1)  # a ] in first place is literal
        if end < 0:
            return at
        at = glob.find("[", end)
    return None


def _tidy(value: str, instead: str = "") -> str:
    if value != value.strip():
        where = "starts" if value[:1].isspace() else "ends"
        raise refusal(
            "padded",
            f"{where} with a space, got '{excerpt(value)}'",
            f"write {excerpt(value.strip()) or 'a name'}{instead}",
        )
    if "\0" in value:
        raise refusal(
            "nul",
            f"contains a NUL character, got {excerpt(value)}",
            "remove it: Linux does not allow it in names",
        )
    return value
