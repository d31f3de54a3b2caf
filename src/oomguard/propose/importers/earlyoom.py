"""Earlyoom: `--prefer` and `--avoid` on its command line, in /etc/default/earlyoom or in a unit."""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from oomguard.core.errors import UsageError
from oomguard.core.text import printable
from oomguard.foreign.units import assignments
from oomguard.policy.regex_to_glob import alternatives
from oomguard.propose.importers.files import Files, ForeignError
from oomguard.propose.policy_draft import Draft, DraftRule, Note, Origin, Regex, toward

DEFAULT = "/etc/default/earlyoom"
_POINTS = 300
"""The points that earlyoom adds to or subtracts from a score (main.c)."""

_LISTS = {"--ignore": -999, "--avoid": -_POINTS, "--prefer": _POINTS}
"""In the order of their rules. Earlyoom adds up, here the first match decides, and sparing is safer."""
_OWN = "only concerns earlyoom itself"
_OPTIONS = {
    **dict.fromkeys(("-m", "-s", "-M", "-S"), "decides when to kill; oomguard never kills"),
    **dict.fromkeys(("-k", "-i", "-n", "-N", "-P", "-r", "-d", "-v", "-h", "-p"), _OWN),
    **dict.fromkeys(("--debug", "--help", "--dryrun", "--syslog"), _OWN),
    "-g": "kills whole process groups; for cgroups the kernel has memory.oom.group",
    "--sort-by-rss": "makes earlyoom choose by resident memory; the kernel goes by these rules",
    "--kernel-oom": "lets the kernel choose, which goes by these rules",
    "--ignore-root-user": "spares all of root's processes; write a rule for each program to protect instead",
    **dict.fromkeys(_LISTS, ""),
}
"""All options of earlyoom 1.9, and why they have no rule."""
_POSIX_CLASS = re.compile(r"\[:(\w+):\]")
_MEMBERS = {
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "alpha": "A-Za-z",
    "alnum": "A-Za-z0-9",
    "xdigit": "0-9A-Fa-f",
    "space": r"\s",
    "blank": r" \t",
}
"""What Python writes for the classes of POSIX in sets."""
_GNU = {r"\<": r"\b", r"\>": r"\b", r"\`": "^", r"\'": "$"}
"""What Python writes for the anchors of glibc's regcomp."""
_VALUED = {"-m", "-s", "-M", "-S", "-r", "-N", "-P", *_LISTS}
_NO_OPTION = "earlyoom does not start with it: the argument of --prefer and --avoid is one word, so quote it"
_FLAGS_LENGTH = 64
"""Characters of several options without an argument in one word."""
_ARGUMENTS_LENGTH = 1 << 17
"""Characters of a line of arguments: the kernel takes no longer one (MAX_ARG_STRLEN)."""
_VARIABLE = "EARLYOOM_ARGS"
_TITLE = (
    "From earlyoom. It adds or subtracts 300 points of oom_score when it picks a victim itself; these "
    "rules tell the kernel the same (since Linux 5.9 a point of oom_score_adj is 2/3 of a point of "
    "oom_score). Protection by name alone, from --avoid, applies only to root's processes and system "
    "services. Keep earlyoom to decide when to kill."
)


class _Option(NamedTuple):
    name: str
    argument: str
    place: Origin

    def __str__(self) -> str:
        return f"{self.name} {shlex.quote(self.argument)}" if self.name in _VALUED else self.name


def import_files(paths: Sequence[str]) -> Draft:
    """Read the arguments from files with EARLYOOM_ARGS= or ExecStart=."""
    files = Files(paths or [DEFAULT])
    last: dict[str, tuple[str, Origin]] = {}
    for file in files.all:
        for key, text, place in _assigned(files, file):
            if key in last:
                files.notes.append(Note(f"{key}=", f"{place} overrides it", last[key][1]))
            last[key] = text, place
    notes = files.finish()
    if not last:
        raise ForeignError(
            "".join(f"{note}; " for note in notes[:3])
            + f"{', '.join(map(printable, files.all))}: has no {_VARIABLE}= and no ExecStart=",
            hint="give the arguments themselves: oomguard import earlyoom --prefer '^x$'",
        )
    options: list[_Option] = []
    for key in ("ExecStart", _VARIABLE):
        if key in last:
            text, place = last[key]
            options += _options(_words(key, text, place, notes), place, notes)
    return _draft(options, notes)


def import_arguments(words: Sequence[str]) -> Draft:
    """Read the arguments themselves."""
    notes: list[Note] = []
    return _draft(_options([*words], Origin(""), notes), notes)


def _assigned(files: Files, file: str) -> Iterator[tuple[str, str, Origin]]:
    """Yield the arguments in a file, each with the name that it gives them."""
    lines = files.lines(file)
    for one in assignments(lines):
        place = Origin(file, one.line)
        if one.key == "ExecStart" and one.section == "Service" and one.value:
            yield one.key, one.value, place
        elif one.key == "Environment" and _VARIABLE in one.value:
            for word in _split(one.value, place, files.notes):
                if word.startswith(f"{_VARIABLE}="):
                    yield _VARIABLE, shlex.quote(word.removeprefix(f"{_VARIABLE}=")), place
    for number, line in _shell_lines(lines):
        said = re.match(rf"\s*(?:export\s+)?{_VARIABLE}\s*=(.*)", line, re.DOTALL)
        if said is not None:
            yield _VARIABLE, said[1], Origin(file, number)


def _shell_lines(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines of a shell script, each with those that a backslash or a quote continues it by."""
    text, quote, begun = "", "", 0
    for number, line in enumerate(lines, 1):
        begun = begun or number
        quote, is_continued, end = _scanned(line, quote)
        text += line[: end - is_continued]
        if quote and not is_continued:
            text += "\n"
        if not quote and not is_continued:
            yield begun, text
            text, begun = "", 0
    if text:
        yield begun, text


def _scanned(line: str, quote: str) -> tuple[str, bool, int]:
    """Return which quote is open behind a line, whether a backslash continues it, and where it ends.

    `quote` is open before it. A comment is no part of it.
    """
    escaped = False
    for at, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "#" and (at == 0 or line[at - 1].isspace()):
            return "", False, at
    return quote, escaped, len(line)


def _words(key: str, text: str, place: Origin, notes: list[Note]) -> list[str]:
    """Return the arguments in a value."""
    words = _split(text, place, notes)
    if key == "ExecStart":
        return [word for word in words[1:] if not word.startswith("$")]
    return [word for line in words for word in _split(line, place, notes)]


def _split(text: str, place: Origin, notes: list[Note]) -> list[str]:
    if len(text) > _ARGUMENTS_LENGTH:
        notes.append(Note("", "is longer than Linux allows for an argument", place))
        return []
    try:
        return shlex.split(text)
    except ValueError as error:
        notes.append(Note("", str(error).replace("No ", "no "), place))
        return []


def _draft(options: Sequence[_Option], notes: list[Note]) -> Draft:
    rules: list[DraftRule] = []
    last = {one.name: one for one in options if one.name in _LISTS}
    for name, points in _LISTS.items():
        option = last.get(name)
        if option is None:
            continue
        regex = re.sub(r"\\.", lambda one: _GNU.get(one[0], one[0]), option.argument)
        found = alternatives(_POSIX_CLASS.sub(lambda one: _MEMBERS.get(one[1], one[0]), regex))
        names: list[str | int] = [*found.globs, *map(Regex, found.unsaid)]
        rules.append(DraftRule({"name": names}, toward(points), str(option), option.place))
    for option in dict.fromkeys(options):
        if option.name == "-p":
            rules.append(DraftRule({"name": ["earlyoom"]}, "at_most -100", "-p, for itself", option.place))
        elif option.name not in _LISTS:
            notes.append(Note(str(option), _OPTIONS[option.name], option.place))
        elif option is not last[option.name]:
            notes.append(Note(str(option), f"a later {option.name} overrides it", option.place))
    return Draft(_TITLE, (), tuple(rules), tuple(notes))


def _options(words: list[str], place: Origin, notes: list[Note]) -> list[_Option]:
    """Return options with their arguments, as getopt_long takes them.

    UsageError: the command line lacks one. earlyoom does not start either, but a file has more to import.
    """
    options, left = [], words[::-1]
    while left:
        word = left.pop()
        if word == "--":
            continue
        name, has_value, value = _split_option(word)
        if name in _VALUED:
            if not has_value and not left:
                if not place.file:
                    hint = f"use: oomguard import earlyoom {word} VALUE"
                    raise UsageError(f"earlyoom's {name} has no value", hint=hint)
                notes.append(Note(name, "needs an argument", place))
                continue
            options.append(_Option(name, value if has_value else left.pop(), place))
        elif name in _OPTIONS and len(word) <= _FLAGS_LENGTH:
            options.append(_Option(name, "", place))
            if not name.startswith("--") and len(word) > 2:
                left.append(f"-{word[2:]}")
        else:
            why = "earlyoom has no such option" if word.startswith("-") else _NO_OPTION
            notes.append(Note(word[:_FLAGS_LENGTH], why, place))
    return options


def _split_option(word: str) -> tuple[str, bool, str]:
    """Return the name of an option, whether its argument is in the same word, and that argument."""
    if not word.startswith("--"):
        return word[:2], bool(word[2:]), word[2:]
    name, equals, value = word.partition("=")
    longer = [one for one in _OPTIONS if one.startswith(name) and one.startswith("--")]
    if name not in _OPTIONS and len(longer) == 1:
        name = longer[0]
    return name, bool(equals), value
