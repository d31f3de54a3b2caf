"""Regular expressions that take very long on some command lines or names, which a process may choose.

Python's `re` backtracks, so a pattern such as `(a+)+$` takes twice as long with each character. Slowness is
measured on texts that repeat what the pattern's parts match: on command lines in time, on names, which are
matched without backtracking, in steps.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice

from oomguard.core.name_regex import STEPS_LIMIT, NameRegexes
from oomguard.core.process import NAME_LIMIT
from oomguard.core.text import counted
from oomguard.policy.fault import Fault, Problem
from oomguard.policy.lint.subject import Subject, warning

_TRIAL_LENGTH = 400
"""Characters of a trial text. Enough to find exponential time; quadratic and cubic time, as of every pattern
with two or three `.*`, passes."""

_PATTERNS_LIMIT, _SLOW_LIMIT = 2000, 20
"""Patterns tried in one policy, and how many slow ones are enough: each takes a tenth of a second."""
_TEXTS = 256
_NAMES = 1024
"""Names tried for the whole policy."""
_ENDINGS = ("\n!", "", "\0")
_ANY = "aA0 -/_.!\u00e9"
_TOKEN = re.compile(
    r"\((?:\?(?:P?<[^=!][^>]*>|<?[=!]|>|[a-zA-Z-]*:|[a-zA-Z-]+))?"  # the start of a group
    r"|\\(?:x..|u.{4}|U.{8}|.)|\[\^?\]?(?:\\.|[^\]\\])*\]"  # an escape, a set
    r"|\{[0-9]*,?[0-9]*\}|.",
    re.DOTALL,
)


def slow_patterns(subject: Subject) -> Iterator[Fault]:
    """Find regular expressions that are slow on some command line."""
    if subject.trial is None:
        return
    patterns = subject.regexes("cmdline")
    slow, untried = _slow_on_texts(patterns, subject.trial)
    for place in (place for pattern in slow for place in patterns[pattern]):
        yield warning(*place, _SLOW_PATTERN)
    if untried:
        left = counted(len(untried), "pattern")
        problem = Problem(
            "slow-pattern",
            f"{left} from here on not tested: there are too many, or too many slow ones",
            "fix the slow patterns first, then check again",
        )
        yield warning(*patterns[untried[0]][0], problem)


_SLOW_PATTERN = Problem(
    "slow-pattern",
    f"on some command lines of {_TRIAL_LENGTH} characters this takes more than 20 ms, and then the rule does "
    "not match",
    "do not nest repetitions: for (a+)+ write a+, for (.*x)* write .*x",
)


def slow_names(subject: Subject) -> Iterator[Fault]:
    """Find regular expressions that are slow on some name, alone or together."""
    if subject.trial is None:
        return
    regexes = subject.regexes("name")
    slow, is_slow_together = _slow_on_names(regexes)
    what = "this takes" if slow else "all expressions together take"
    problem = Problem(
        "slow-pattern",
        f"on some names of {NAME_LIMIT} bytes {what} over {STEPS_LIMIT:,} steps, and then none matches",
        "write .* for .{0,99}, and exact names or globs where they suffice",
    )
    for regex in slow or [*regexes][:is_slow_together]:
        yield warning(*regexes[regex][0], problem)


def _slow_on_texts(
    patterns: Iterable[str], is_slow: Callable[[re.Pattern[str], str], bool]
) -> tuple[list[str], list[str]]:
    """Return the patterns that are slow on some text of _TRIAL_LENGTH characters, and those not tried.

    Their number is limited, not the time, so that the result is the same on any host.
    """
    slow: list[str] = []
    listed = [*patterns]
    for number, pattern in enumerate(listed):
        if len(slow) == _SLOW_LIMIT or number == _PATTERNS_LIMIT:
            return slow, listed[number:]
        compiled = re.compile(pattern)
        if any(is_slow(compiled, text) for text in islice(_trial_texts(pattern), _TEXTS)):
            slow.append(pattern)
    return slow, []


def _slow_on_names(patterns: Collection[str]) -> "tuple[list[str], bool]":
    """Return the expressions on names that take too many steps on some name, and if all together do."""
    alone = {pattern: NameRegexes([(0, pattern)]) for pattern in patterns}
    texts = ((pattern, text) for pattern in patterns for text in islice(_trial_texts(pattern), _TEXTS))
    names = [*dict.fromkeys((pattern, text[:NAME_LIMIT]) for pattern, text in islice(texts, _NAMES))]
    slow = dict.fromkeys(pattern for pattern, text in names if alone[pattern].is_too_slow(text))
    together = NameRegexes(enumerate(patterns))
    widest = "\u00e9" * (NAME_LIMIT // 2)
    return [*slow], any(map(together.is_too_slow, (widest, *(text for _, text in names))))


def _trial_texts(pattern: str) -> Iterator[str]:
    """Yield texts that repeat what a part of the pattern matches, and then do not match."""
    for before, repeated in dict.fromkeys(_parts(pattern)):
        times = (_TRIAL_LENGTH - len(before)) // len(repeated)
        for ending in _ENDINGS:
            yield before[:_TRIAL_LENGTH] + repeated * max(times, 0) + ending


def _parts(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield a text for what stands before each group, alternative or character, and one for itself."""
    starts, text = [0], ""
    for part in _TOKEN.findall(pattern):
        if part == ")" or part == "|":
            # A comment, as (?x:...) allows, may have another `)`.
            start = starts.pop() if part == ")" and len(starts) > 1 else starts[-1]
            if text[start:]:
                yield text[:start], text[start:]
            text = text[:start] if part == "|" else text
        elif part[0] == "(":
            starts.append(len(text))
        elif found := _sample(part):
            yield text, found
            text += found


def _sample(part: str) -> str:
    """Return a character that a part of a pattern matches, "" if it has no width or is no expression."""
    if part in {"^", "$", "*", "+", "?"} or part[0] == "{" != part or part[1:].isdecimal():
        return ""  # an octal number, too
    with suppress(re.error):  # a word of a comment, or the \N of \N{DASH}
        return next((one for one in (*part, *_ANY) if re.fullmatch(part, one)), "")
    return ""
