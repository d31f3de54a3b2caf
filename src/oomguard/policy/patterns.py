"""What the text of a condition may be: names, paths, units, users and regular expressions.

Each function returns the text, or raises a PydanticCustomError with a reason and a fix.
"""

import re
import warnings

from pydantic_core import PydanticCustomError

from oomguard.core.name_regex import NameRegexes, UnsupportedError
from oomguard.policy.fault import excerpt
from oomguard.policy.scalars import quoted

UNIT_KINDS = ("service", "scope", "slice", "socket", "mount", "swap")
"""The kinds of unit that have processes. Timers and targets only start other units."""

_ENDINGS = ", ".join(f".{one}" for one in UNIT_KINDS if one != "slice")
"""Of units whose processes are in the unit itself: those of a slice are in the units below it."""

_HIERARCHY = re.compile(r"\d+:[^:/]*:")
"""What is before the path in /proc/PID/cgroup."""

UID_MAX = 2**32 - 2  # the next one is (uid_t) -1, which means no user

GLOB_SET = re.compile(r"\[!?\]?[^\]]*\]")
"""A set of characters in a glob."""

_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*(?:\\[1-9]|\(\?\()")


def refusal(code: str, message: str, hint: str) -> PydanticCustomError:
    """Return an error for pydantic to report: `code`, with `message` and `hint` in its context."""
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def _pasted(value: str) -> str:
    """Return a value for a hint, in quotes if YAML needs them: it would read * as an alias."""
    return excerpt(quoted(value))


def path(value: str) -> str:
    """Check a glob on an absolute path: an executable or a cgroup."""
    if not name(value).startswith(("/", "*")):
        hint = f"write the whole path, or '*/{excerpt(value)}' for any folder"
        if (below := _HIERARCHY.sub("", value)).startswith("/"):
            hint = f"write {excerpt(below)}, without what /proc/PID/cgroup has before it"
        elif value.startswith("~"):
            hint = "write the whole path: ~ has no meaning here"
        raise refusal("relative-path", f"must start with / or *, got {excerpt(value)}", hint)
    return value


def plain_text(value: str, *, where: str = "") -> str:
    """Check a text that Linux takes for a name, an argument or a path."""
    if "\0" in value:
        hint = f"remove it: Linux does not allow it{where}"
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
    if value.rpartition(".")[2] in UNIT_KINDS and "/" not in value:
        return value
    raise _no_unit(value, _ENDINGS)


def unit(value: str) -> str:
    """Check a glob on a unit's name."""
    stem, dot, suffix = name(value).rpartition(".")
    if value.endswith("*") or (stem and suffix in UNIT_KINDS):
        if "/" in value:
            hint = f"write {_pasted(value.rpartition('/')[2])}, or use cgroup for the path"
            raise refusal("unit-path", f"must be a unit without its path, got {excerpt(value)}", hint)
        return value
    if dot and suffix in UNIT_KINDS:
        hint = f"write '*{value}' to match any {suffix}"
        raise refusal("unit-suffix", f"must have a name before .{suffix}, got {value}", hint)
    if dot and suffix in {"timer", "target", "path", "device", "automount"}:
        message = f"a .{suffix} unit has no processes, got {excerpt(value)}"
        raise refusal(
            "unit-suffix", message, f"write the unit that it starts, such as {excerpt(stem) or '*'}.service"
        )
    raise _no_unit(value, f"{_ENDINGS} or *")


def _no_unit(value: str, endings: str) -> PydanticCustomError:
    stem = value.strip().rpartition("/")[2].rstrip(".").removesuffix(".service")
    hint = f"did you mean {_pasted((stem or '*') + '.service')}?"
    return refusal("unit-suffix", f"must end in {endings}, got {excerpt(value)}", hint)


def user(value: str) -> str:
    """Check a user's name."""
    if re.fullmatch("[0-9]+", value):
        uid = int(value)
        hint = f"remove the quotes: {uid}" if uid <= UID_MAX else f"write a uid of at most {UID_MAX}"
        raise refusal("quoted-number", f"must be a user name or a uid, got '{value}'", hint)
    if ":" in value or "/" in value:
        message = f"a user name cannot contain ':' or '/', got {excerpt(value)}"
        raise refusal("user-name", message, "list user names with: getent passwd")
    return _tidy(value)


def regex(value: str) -> str:
    """Check a regular expression, as Python's `re` reads it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _compile(value)
    except re.error as error:
        at = "" if error.pos is None else f" at character {error.pos + 1}"
        message = f"is not a valid regular expression: {excerpt(error.msg)}{at} of {excerpt(value)}"
        raise refusal("regex", message, _regex_hint(error)) from None
    except (RecursionError, OverflowError):
        message = f"is too complex a regular expression: {excerpt(value)}"
        raise refusal("regex", message, "use fewer nested groups and fewer repetitions") from None
    return value


def name_regex(value: str) -> str:
    """Check a regular expression on a process name, which is tried in linear time."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            NameRegexes([(0, regex(value))])
    except FutureWarning as error:
        message = f"is ambiguous, got {excerpt(value)}: {excerpt(str(error).lower())}"
        hint = "put a backslash before each [, -, &, ~ and | that stands for itself in a set"
        raise refusal("regex", message, hint) from None
    except UnsupportedError as error:
        hint = "names are matched in linear time: write alternatives, sets and simple repetitions"
        raise refusal("regex", f"must not have {error}, got {excerpt(value)}", hint) from None
    return value


def _compile(value: str) -> None:
    re.compile(value)
    # The matcher joins several into one, so each must work inside a group, without names or back references.
    try:
        compiled = re.compile(f"(?:{value})")
    except re.error as error:  # only flags are valid by themselves, and not in a group
        raise re.error("global flags are not allowed", value, max((error.pos or 0) - 3, 0)) from None
    if compiled.groupindex or _REFERENCE.search(value):
        message = f"must not have named groups or back references, got {excerpt(value)}"
        hint = "use (...) or (?:...), and repeat the pattern instead of a back reference"
        raise refusal("regex", message, hint)


def _regex_hint(error: re.error) -> str:
    if "global flags" in error.msg:
        return "write (?i:...) around the part that the flag is for"
    if error.msg == "nothing to repeat":
        return "this is a regular expression, not a glob: write .* for any text"
    return "put a backslash before each literal special character, and use single quotes"


def name(value: str) -> str:
    """Check a process name, exact or glob, or the glob of another condition."""
    start = _open_bracket(value)
    if start is not None:
        message = f"the [ at character {start + 1} of {excerpt(value)} is not closed"
        raise refusal("glob", message, "close it with ], or write [[] for a literal [")
    for one in GLOB_SET.finditer(value):
        if one[0].startswith("[^") and one[0] != "[^]":
            message = f"the ^ in {excerpt(one[0])} does not exclude, as in a regular expression"
            hint = f"write {excerpt(one[0].replace('^', '!', 1))} to exclude, or the ^ last if it is meant"
            raise refusal("glob", message, hint)
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
        hint = f"write {_pasted(value.strip()) if value.strip() else 'a name'}{instead}"
        raise refusal("padded", f"{where} with a space, got '{excerpt(value)}'", hint)
    return plain_text(value, where=" in names")
