"""Untrusted names as printable text, times and sizes."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.text import kib, legible, printable, span, wrapped


def test_control_characters_are_escaped() -> None:
    """Terminal escapes, newlines and bytes that are no UTF-8 cannot act."""
    assert printable(b"a\x1b[31m\nb\xff") == r"a\x1b[31m\nb\xff"
    assert printable("plain Ünïcödé") == "plain Ünïcödé"
    assert printable("\u202e\u2028") == r"\u202e\u2028"


def test_a_backslash_is_doubled_only_where_it_would_look_like_an_escape() -> None:
    """Any other can be copied as it is."""
    assert printable("a\\b C:\\d \\") == "a\\b C:\\d \\"
    assert printable(r"\x1b \new \\b") == r"\\x1b \\new \\\b"
    assert printable("\\\x1b") == r"\\\x1b"


@given(st.characters())
def test_escapes_are_those_of_python(character: str) -> None:
    """As in a policy in double quotes, and in JSON up to U+FFFF."""
    if not character.isprintable() and not "\udc80" <= character <= "\udcff":
        assert printable(character) == character.encode("unicode_escape").decode("ascii")


def test_escaping_reads_no_file() -> None:
    """Who reads a policy has no right to read Python's modules by then; and memory may be short."""
    code = """if True:
        import sys
        from oomguard.core.text import printable
        before = set(sys.modules)
        printable(b"\\x1b\\xff" + "\\n\\u200b".encode())
        print(set(sys.modules) - before)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@given(st.binary())
def test_nothing_unprintable_is_left(raw: bytes) -> None:
    """Whatever the bytes, the result is printable ASCII escapes and printable characters."""
    assert printable(raw).isprintable()


_NAMES = st.binary() | st.text("\\x1b\x1bn\n").map(str.encode)


@given(_NAMES, _NAMES)
def test_two_names_never_look_alike(one: bytes, other: bytes) -> None:
    """Escaping loses nothing: different names stay different."""
    assert (printable(one) == printable(other)) == (one == other)


def test_a_pattern_is_shown_as_it_was_written() -> None:
    """Unless it would act on the terminal."""
    assert legible(rb"java .*\.jar") == r"java .*\.jar"
    assert legible("dev-disk-by\\x2dlabel.swap\x1b") == r"dev-disk-by\\x2dlabel.swap\x1b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (3 * 86400, "3 days")],
)
def test_a_time_is_said_in_the_largest_unit_that_is_there_twice(seconds: float, text: str) -> None:
    """A clock that was set back makes no time negative."""
    assert span(seconds) == text


def test_a_line_is_broken_between_words() -> None:
    """What does not fit goes on below it, indented by two more; a path stays whole, to be copied."""
    assert wrapped("  a  hint that fits", 19) == ["  a  hint that fits"]
    assert wrapped("  a hint that does not", 14) == ["  a hint that", "    does not"]
    assert wrapped("see /a/very/long/path", 10) == ["see", "  /a/very/long/path"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 KiB"),
        (1023, "1023 KiB"),
        (1024, "1.0 MiB"),
        (1024**2 - 52, "1023.9 MiB"),
        (1024**2 - 51, "1.0 GiB"),
        (8 * 1024**2, "8.0 GiB"),
        (1 - 1024**3, "-1.0 TiB"),
        (5 * 1024**3, "5.0 TiB"),
        (2**64, "17179869184.0 TiB"),
    ],
)
def test_amounts_are_written_as_people_read_them(amount: int, text: str) -> None:
    """With one digit behind the point from MiB on."""
    assert kib(amount) == text
