"""Names that look right and are not: regular expressions, lists in one word, paths, units, command lines.

Each is valid, because a process can call itself anything. A character in brackets, as in `a[|]b`, says that
it is meant.
"""

import re
from collections.abc import Iterator

from pydantic_core import PydanticCustomError

from oomguard.core.match import is_glob
from oomguard.core.process import COMM_LENGTH
from oomguard.policy.fault import Problem, excerpt
from oomguard.policy.lint.programs import ONLY_TITLED
from oomguard.policy.patterns import GLOB_SET, name_regex
from oomguard.policy.regex_to_glob import globs, literal
from oomguard.policy.scalars import quoted
from oomguard.policy.typography import DASHES, QUOTES, described, is_unusual, usual

_UNIT = r"\.(?:service|scope|slice|socket|timer)\Z"
_UNIT_END = re.compile(_UNIT)
_ORDINARY = re.compile(rf"(?!.*{_UNIT})[\w.@+:-]+\Z")
"""Most names, which need no other test."""

_LIST = re.compile(r"\||,\s|\w,\w|\{[^}]*,")
_BRACES = re.compile(r"([^{},|]*)\{([^{}]+)\}([^{},|]*)")
_COUNT = re.compile(r"\{[0-9]*,[0-9]*\}")
_REGEX = re.compile(
    r"""^\^ | \$\Z | \(\?
    | ^[^.]*(?<![0-9.])\.[*+]      # any text; but python3.* and org.gnome.* are globs
    | [\])][+{] | \)[*?]           # repeated sets and groups
    | \\[dwsbDWSB.*+?()|^$-]       # classes and escapes; a glob has neither
    """,
    re.VERBOSE,
)
_WINDOWS_PATH = re.compile(r"[A-Za-z]:\\")
_PATH = re.compile(r"[*.~]?/")
_SHOWN_BY_PS = re.compile(r"\[[a-z][\w/:.]{3,}\]")
"""How ps shows a process without a command line: as a glob, that is one character."""
_OPTION = re.compile(r" --?\w")
_FILE_WITH_SPACES = re.compile(r" .*\.(?:exe|x86|x86_64)\Z")
"""The file name of a game, such as `Yes, Your Grace.exe`."""
_TITLE = re.compile(r"([\w.+-]+?)[0-9.]*: ")
_WILDCARD = re.compile(rf"[*?]|{GLOB_SET.pattern}")
_BARE = re.compile(r"\[!?\]?[^\]]*\]|[^\w*?!-]")
"""A set of characters, or a character that is no letter, digit or wildcard."""
_REGEX_SPECIAL = re.compile(r"[.^$*+?{}\[\]\\|()]")

_MEMBERS_SHOWN = 8


def lookalike(name: str) -> Problem | None:
    """Return what else than a process name `name` looks like, or None."""
    if _ORDINARY.match(name):
        return None
    found = unusual_character(name) or next(_lookalikes(name, GLOB_SET.sub("[]", name)), None)
    literally = quoted(literal(name) if _SHOWN_BY_PS.fullmatch(name) else as_it_is(name))
    return found and found._replace(hint=f"write {found.hint}; if a process has this very name, {literally}")


def as_it_is(name: str) -> str:
    """Return a pattern for processes with this very name."""
    return in_brackets(_kept(name) if _is_cut(name) else name)


def unusual_character(text: str) -> Problem | None:
    """Return what is wrong with a text that has typographic or invisible characters, or None.

    The hint is the text without them.
    """
    odd = "" if text.isascii() else next(filter(is_unusual, GLOB_SET.sub("", text)), "")
    if not odd:
        return None
    kind = "a typographic" if odd in QUOTES | DASHES else "an invisible"
    return Problem(
        "unusual-character",
        f"{excerpt(text)} has {kind} character: {described(odd)}",
        quoted("".join(map(usual, text)).strip() or "..."),
    )


def in_brackets(name: str) -> str:
    """Return a name that matches the same, with each character in brackets that is no letter or digit."""
    return _BARE.sub(lambda one: one[0] if len(one[0]) > 1 else f"[{one[0]}]", name)


def _lookalikes(name: str, plain: str) -> Iterator[Problem]:
    """Yield what `name` looks like; in `plain` its sets of characters are empty."""
    shown = excerpt(name)
    if name[0] in "\"'" and name[-1] == name[0] and name[1:]:
        message = f"the quotes are part of the name: {shown}"
        yield Problem("unusual-character", message, quoted(name[1:-1].strip() or "..."))
    is_list = _LIST.search(plain) and not _FILE_WITH_SPACES.search(plain)
    is_regex = _REGEX.search(plain) and not _WINDOWS_PATH.match(name)
    meant = _listed(_meant(name, is_regex=bool(is_regex))) if is_list or is_regex else ""
    if is_list and (meant or not is_regex):
        mark = next(one for one in "|{," if one in plain)
        message = f"{shown} is one name: a name matches exactly or as a glob, where {mark} has no meaning"
        yield Problem("list-as-name", message, f"name: {meant or '[a, b]'}")
    if is_regex:
        message = f"{shown} looks like a regular expression: as text, a name matches exactly or as a glob"
        yield Problem("regex-as-name", message, f"name: {meant or _as_regex(name)}")
    yield from _foreign(name, plain, shown)


def _foreign(name: str, plain: str, shown: str) -> Iterator[Problem]:
    """Yield which other fact of a process the name looks like."""
    if _SHOWN_BY_PS.fullmatch(name):
        message = f"{shown} is how ps shows a process, not its name"
        yield Problem("command-line-as-name", message, f"name: {quoted(name[1:-1])}")
    is_path = _PATH.match(plain) or (_is_cut(name) and "/" in plain and " " not in plain)
    is_command = _OPTION.search(plain) and not _FILE_WITH_SPACES.search(plain)
    is_command = is_command or (is_path and " /" in plain)
    if is_path and not is_command:
        base = name.rpartition("/")[2]
        choices = [f"name: {quoted(base)}"] * bool(base) + [f"exe: {quoted(name)}"] * (name[0] in "/*")
        message = f"{shown} looks like a path: the name of a process is a file name without its folder"
        yield Problem("path-as-name", message, " or ".join(choices) or "the file name")
    if _UNIT_END.search(plain):
        message = f"{shown} looks like a unit, not like a process name"
        yield Problem("unit-as-name", message, f"unit: {quoted(name)}")
    title = _TITLE.match(plain)
    if _is_cut(name) or is_command or (title and (_kept(name) != name or title[1] in ONLY_TITLED)):
        program = name.partition(" ")[0].rpartition("/")[2].rstrip(":")
        message = f"{shown} looks like a command line: the process name is probably {excerpt(program)}"
        if _is_cut(name):
            kept = excerpt(_kept(name))
            message = f"matches no process: the kernel keeps {kept}, and a longer name ends at a space"
        yield Problem("command-line-as-name", message, f"name: {quoted(program)} and cmdline: {_regex(name)}")


def _is_cut(name: str) -> bool:
    """Return whether a name matches no process, because the rest of it is never found on a command line.

    There a name is a file name without its folder, and ends at the first space behind what the kernel keeps.
    """
    kept, rest = _kept(name), name[len(_kept(name)) :]
    return not is_glob(name) and bool(rest) and ("/" in name or (" " in rest and " " not in kept))


def _kept(name: str) -> str:
    """Return what the kernel keeps of a name."""
    return name.encode()[:COMM_LENGTH].decode(errors="ignore")


def _regex(text: str) -> str:
    """Return a regular expression that finds the longest part of the text without wildcards, quoted."""
    literal = max(_WILDCARD.split(text), key=len).strip()
    regex = _REGEX_SPECIAL.sub(r"\\\g<0>", literal).replace("'", "''")
    return f"'{regex}'" if regex.isprintable() else "its arguments"


def _meant(name: str, *, is_regex: bool) -> list[str]:
    """Return the names that were probably meant."""
    without_counts = _COUNT.sub("", name)
    braces = _BRACES.fullmatch(name)
    if braces and "," in braces[2] and without_counts == name:
        before, inner, after = braces.groups()
        found = [f"{before}{one.strip()}{after}" for one in inner.split(",")]
    elif "," in without_counts:
        found = [one.strip(" \t'\"()[]{}^$") for one in name.split(",")]
        if any(one.count(pair[0]) != one.count(pair[1]) for one in found for pair in ("()", "[]", "{}")):
            return []
    else:
        found = [name] if is_regex else name.strip("()").split("|")
    if is_regex:
        found = [glob for one in found for glob in _as_globs(one)]
    return [one for one in map(str.strip, found) if one]


def _as_globs(regex: str) -> list[str]:
    is_anchored = regex.startswith("^") or regex.endswith("$")
    found = globs(regex if is_anchored else f"^({regex})$") or []
    return [in_brackets(glob) if _REGEX.search(glob) else glob for glob in found]


def _as_regex(name: str) -> str:
    """Return a name as a regular expression if it is one that a policy takes."""
    flagged = f"(?i:{name.removeprefix('(?i)')})" if name.startswith("(?i)") else name
    try:
        return f"{{regex: {quoted(name_regex(flagged))}}}"
    except PydanticCustomError:
        return "{regex: ...} with alternatives, sets and simple repetitions"


def _listed(names: list[str]) -> str:
    if len(names) < 2:
        return "".join(map(quoted, names))
    more = ", ..." if len(names) > _MEMBERS_SHOWN else ""
    return f"[{', '.join(map(quoted, names[:_MEMBERS_SHOWN]))}{more}]"
