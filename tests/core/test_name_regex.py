"""Regular expressions on names: what they find is what Python's `re` finds, in linear time."""

import random
import re

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from oomguard.core.name_regex import NameRegexes, UnsupportedError, node_count
from oomguard.kernel.timeout import TooLongError, within

ATOMS = ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\.", "é", "(?i:B)", "^", "$", "[]-]", r"\x41"]
TEXTS = st.text("abAB1.é\n ]", max_size=12)


@st.composite
def regexes(draw: st.DrawFn, depth: int = 3) -> str:
    """Generate an expression of everything that is allowed."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        inner = draw(st.sampled_from(ATOMS))
        if depth and draw(st.booleans()):
            inner = f"{draw(st.sampled_from(['(', '(?:', '(?i:']))}{draw(regexes(depth - 1))})"
        if inner not in "^$":
            inner += draw(st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?"]))
        parts.append(inner)
    return "".join(parts) + (f"|{draw(regexes(depth - 1))}" if depth and draw(st.booleans()) else "")


def is_allowed(regex: str) -> bool:
    """Return whether an expression has few enough nodes."""
    try:
        return node_count(regex) > 0
    except UnsupportedError:
        return False


def python_finds(pattern: re.Pattern[str], text: str) -> bool:
    """Return whether `re` finds it; leave out examples for which it takes for ever, as it does for some."""
    try:
        return within(0.2, lambda: pattern.search(text)) is not None
    except TooLongError:
        reject()


@settings(max_examples=200)
@given(regexes().filter(is_allowed), st.lists(TEXTS, min_size=1, max_size=5), st.integers(0, 12))
def test_what_is_found_is_what_python_finds(regex: str, texts: list[str], length: int) -> None:
    """With `.` for every character and `$` for the end alone; and a start never rules out what is found."""
    automaton = NameRegexes([(7, regex)])
    compiled = re.compile(regex.replace("$", r"\Z"), re.DOTALL)
    for text in texts:
        is_found = python_finds(compiled, text)
        assert automaton.found(text) == ({7} if is_found else set()), (regex, text)
        assert not is_found or automaton.possible(text[:length]) == {7}


@given(st.lists(regexes().filter(is_allowed), min_size=2, max_size=6), TEXTS)
def test_many_are_found_as_each_alone(listed: list[str], text: str) -> None:
    """One automaton for all of a policy."""
    together = NameRegexes(enumerate(listed)).found(text)
    assert together == {n for n, regex in enumerate(listed) if NameRegexes([(0, regex)]).found(text)}


@pytest.mark.parametrize(
    "regex", ["{\u0663}a", "^a{\u0663}$", "^a{\uff11,}$", "^a{1,\u0663}$", "^a{,\u0663}$"]
)
def test_a_repetition_has_the_digits_of_ascii(regex: str) -> None:
    """Others are characters in braces."""
    literally = regex.strip("^$")
    assert NameRegexes([(0, regex)]).found(literally)
    assert not NameRegexes([(0, regex)]).found("aaa")
    assert re.search(regex, literally)


@pytest.mark.parametrize(
    ("regex", "begin", "is_possible"),
    [
        ("^(node|npm)$", "chromium-browse", False),
        ("^chromium-browser$", "chromium-browse", True),
        ("^chromium-browse$", "chromium-browse", True),
        ("^chromium-brows$", "chromium-browse", False),
        ("server$", "gnome-terminal-", True),
        ("^.{16,}$", "gnome-terminal-", True),
    ],
)
def test_a_start_tells_what_may_still_be_found(regex: str, begin: str, *, is_possible: bool) -> None:
    """The kernel keeps 15 bytes of a name: few processes' command lines are read for the rest."""
    assert bool(NameRegexes([(0, regex)]).possible(begin)) == is_possible


@pytest.mark.parametrize(
    "regex", ["(a+)+$", "(a|a|a|a)+$", "(a*)*x", "(.*)*x", "a[ab]{20}x", "a.{400}b", "(a|b)*a(a|b){12}$"]
)
def test_no_name_takes_long(regex: str) -> None:
    """`re` takes 2 to the power of the length for some; a table of states grows with others."""
    automaton = NameRegexes(enumerate([regex] * 5))
    random.seed(1)
    for _ in range(20):
        name = "".join(random.choice("ab") for _ in range(255))
        assert len(automaton.found(name + "c")) == 0
    assert len(automaton._ascii) <= 128


@pytest.mark.parametrize(
    ("regex", "name"),
    [("a.{0,200}b|$", "a" * 255), ("|".join(f"[{chr(at)}-Z]" for at in range(33, 90)) + "|$", "\u1234" * 85)],
)
def test_a_name_of_too_many_steps_has_no_expression(regex: str, name: str) -> None:
    """Anybody chooses names: the steps on one are limited, whatever was asked before."""
    automaton = NameRegexes(enumerate([regex] * 30))
    assert len(automaton.found(name[:9])) == 30
    assert not automaton.found(name)


def test_names_are_not_remembered() -> None:
    """Anybody can start programs of any name: only characters of ASCII are remembered."""
    automaton = NameRegexes([(0, "(a|b)*a(a|b){12}$|[é]")])
    for number in range(3000):
        automaton.found(chr(number) + bin(number))
    assert len(automaton._ascii) <= 128


@settings(max_examples=100)
@given(
    st.sampled_from(["a[ab]{20}b$", "^[ab]*a[ab]{100}a", "a.{200}b", "(a|ab)+b{3}a*$"]),
    st.integers(0, 1 << 255),
)
def test_long_names_are_as_python_finds(regex: str, bits: int) -> None:
    """Up to the longest name of a file."""
    name = f"{bits:b}".translate({48: "a", 49: "b"})[:255]
    assert bool(NameRegexes([(0, regex)]).found(name)) == python_finds(re.compile(regex), name)


@pytest.mark.parametrize(
    ("regex", "what"),
    [
        ("(?=a)", "groups other than"),
        ("(?<!a)b", "groups other than"),
        ("(?P<x>a)", "groups other than"),
        ("(?s:a)", "groups other than"),
        (r"\ba", r"\b"),
        (r"(a)\1", r"\1"),
        (r"\012", r"\0"),
        ("a++", "possessive repetitions (++)"),
        ("((a{50}){50})", "so many repetitions"),
        ("(" * 60 + "a" + ")" * 60, "groups nested so deep"),
    ],
)
def test_what_takes_backtracking_or_too_many_nodes_is_not_allowed(regex: str, what: str) -> None:
    """The message says what."""
    with pytest.raises(UnsupportedError, match=re.escape(what)):
        NameRegexes([(0, regex)])
