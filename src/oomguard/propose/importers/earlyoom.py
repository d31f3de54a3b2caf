"""Earlyoom: `--prefer` and `--avoid` on its command line, in /etc/default/earlyoom or in a unit."""

import re
import shlex
from typing import TYPE_CHECKING

from oomguard.policy.regex_to_glob import NO_GLOB, globs
from oomguard.propose.draft import Draft, DraftRule, Note, Place, toward
from oomguard.propose.importers.files import ForeignError, read_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "/etc/default/earlyoom"
_POINTS = 300
"""The points that earlyoom adds to or subtracts from a score (main.c)."""

_LISTS = {"--prefer": _POINTS, "--avoid": -_POINTS, "--ignore": -999}
_VALUED = {"-m", "-s", "-M", "-S", "-r", "-N", "-P", "--sort"}
_FLAGS = {
    "-k",
    "-i",
    "-d",
    "-v",
    "-p",
    "-n",
    "-g",
    "-h",
    "--help",
    "--dryrun",
    "--ignore-root-user",
    "--debug",
}
_FLAGS_LENGTH = 64
"""Characters of an option without an argument, or of several in one word."""
_ARGUMENTS_LENGTH = 1 << 17
"""Characters of a line of arguments: the kernel takes no longer one (MAX_ARG_STRLEN)."""
_TITLE = (
    "From earlyoom. It adds or subtracts 300 points of oom_score when it picks a victim itself; these "
    "rules tell the kernel the same (since Linux 5.9 a point of oom_score_adj is 2/3 of a point of "
    "oom_score). Protection by name alone, from --avoid, applies only to root's processes and system "
    "services. Keep earlyoom to decide when to kill."
)


def import_files(paths: "Sequence[str]") -> Draft:
    """Read the arguments from files with EARLYOOM_ARGS= or ExecStart=."""
    found: list[tuple[list[str], Place]] = []
    for path in paths or [DEFAULT]:
        for number, line in enumerate(read_lines(path), 1):
            said = re.match(r"\s*(?:export\s+)?(EARLYOOM_ARGS|ExecStart)\s*=(.*)", line)
            if said is None:
                continue
            place = Place(path, number)
            words = _words(said[2], place)
            if said[1] == "EARLYOOM_ARGS":
                words = [word for text in words for word in _words(text, place)]
            else:
                words = [word for word in words[1:] if not word.startswith("$")]
            found.append((words, place))
    if not found:
        raise ForeignError(
            f"{', '.join(paths or [DEFAULT])}: has no EARLYOOM_ARGS= and no ExecStart=",
            hint="give the arguments themselves: oomguard import earlyoom --prefer '^x$'",
        )
    return _draft(found)


def import_arguments(words: "Sequence[str]") -> Draft:
    """Read the arguments themselves."""
    return _draft([([*words], Place(""))])


def _words(text: str, place: Place) -> list[str]:
    if len(text) > _ARGUMENTS_LENGTH:
        raise ForeignError(f"{place}: is longer than Linux allows for an argument")
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise ForeignError(
            f"{place}: {error}".replace("No closing", "no closing"), hint="mend the quotes"
        ) from None


def _draft(found: list[tuple[list[str], Place]]) -> Draft:
    rules: dict[str, list[DraftRule]] = {name: [] for name in _LISTS}
    own: list[DraftRule] = []
    notes: list[Note] = []
    for words, place in found:
        for option, argument in _options(words, place):
            if option in _LISTS:
                names = globs(argument)
                if names is None:
                    notes.append(Note(f"{option} {argument!r}", NO_GLOB, place))
                    continue
                rules[option].append(
                    DraftRule({"name": [*names]}, toward(_LISTS[option]), f"{option} {argument!r}", place)
                )
            elif option == "-p":
                own.append(DraftRule({"name": ["earlyoom"]}, "at_most -100", "-p, for itself", place))
            else:
                notes.append(Note(f"{option} {argument}".rstrip(), _meaning(option), place))
    # Earlyoom adds up; here the first rule that matches wins, and to spare is the safer of the two.
    return Draft(_TITLE, (), (*rules["--ignore"], *rules["--avoid"], *rules["--prefer"], *own), tuple(notes))


def _options(words: list[str], place: Place) -> list[tuple[str, str]]:
    """Return options with their arguments, as getopt_long takes them."""
    options, left = [], words[::-1]
    while left:
        word = left.pop()
        name, has_value, value = (
            word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        )
        if name in _LISTS or name in _VALUED:
            if not has_value:
                if not left:
                    raise ForeignError(f"{place}: {name} needs an argument")
                value = left.pop()
            options.append((name, value))
        elif name in _FLAGS and len(word) <= _FLAGS_LENGTH:
            options.append((name, ""))
            if not name.startswith("--") and len(word) > 2:
                left.append(f"-{word[2:]}")
        else:
            raise ForeignError(
                f"{place}: earlyoom has no option {word!r}",
                hint="the regular expression of --prefer and --avoid is one argument: quote it",
            )
    return options


def _meaning(option: str) -> str:
    if option in {"-m", "-s", "-M", "-S"}:
        return "decides when to kill; oomguard never kills"
    if option == "-g":
        return "kills whole process groups; for cgroups the kernel has memory.oom.group"
    if option == "--ignore-root-user":
        return "spares all of root's processes; write a rule for each program to protect instead"
    return "only concerns earlyoom itself"
