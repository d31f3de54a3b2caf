"""Words without quotes: what they mean, and which mean nothing."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oomguard.policy.nodes import Scalar
from oomguard.policy.scalars import Surprise, scalar


def _plain(text: str) -> object:
    return scalar(Scalar(text, True, 1, 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("7", 7),
        ("-900", -900),
        ("18446744073709551615", 2**64 - 1),
        ("true", True),
        ("false", False),
        ("keep", "keep"),
        ("sshd", "sshd"),
        ("mysqld*", "mysqld*"),
        ("7z", "7z"),
        ("-", "-"),
        ("=", "="),
        ("<<", "<<"),
        ("1.2.3", "1.2.3"),
        ("10:foo", "10:foo"),
        ("0x", "0x"),
        ("e1", "e1"),
        ("nO", "nO"),
        ("(sd-pam)", "(sd-pam)"),
        ("√", "√"),
    ],
)
def test_canonical_words_mean_what_they_seem_to(text: str, value: object) -> None:
    """Decimal integers, true and false mean themselves; the rest is text."""
    found = _plain(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "meaning", "instead"),
    [
        ("on", "true", "true"),
        ("Off", "false", "false"),
        ("YES", "true", "true"),
        ("no", "false", "false"),
        ("y", "true", "true"),
        ("N", "false", "false"),
        ("True", "true", "true"),
        ("FALSE", "false", "false"),
        ("010", "8 (octal)", "8"),
        ("-010", "-8 (octal)", "-8"),
        ("0x1F", "31 (hexadecimal)", "31"),
        ("0b11", "3 (binary)", "3"),
        ("0o17", "15 (octal)", "15"),
        ("09", "9", "9"),
        ("1_000", "1000", "1000"),
        ("+5", "5", "5"),
        ("-0", "0", "0"),
        ("12:30", "750 (base 60", ""),
        ("190:20:30", "685230 (base 60", ""),
        ("-1:00", "-60 (base 60", ""),
        ("1e3", "exponent", ""),
        ("1.5", "fraction", ""),
        ("1.", "fraction", ""),
        (".5", "fraction", ""),
        (".nan", "fraction", ""),
        ("-.INF", "fraction", ""),
        ("2024-01-01", "a date", ""),
        ("2024-01-01 12:00:00", "a date", ""),
        ("", "nothing", ""),
        ("~", "nothing", ""),
        ("null", "nothing", ""),
        ("NULL", "nothing", ""),
        ("1" * 31, "too many digits", ""),
        ("0x_", "not a number", ""),
    ],
)
def test_surprises_say_what_yaml_makes_of_them(text: str, meaning: str, instead: str) -> None:
    """And how to write that without doubt, where there is a way."""
    found = _plain(text)
    assert isinstance(found, Surprise)
    assert meaning in found.meaning
    assert found.instead == instead


@given(st.from_regex(r"[-+0-9._:eExobTtZzyYnN~aflnrsu]{1,12}", fullmatch=True))
def test_nothing_that_pyyaml_converts_is_taken_for_something_else(text: str) -> None:
    """Whatever PyYAML does not read as text is the same to us, or a surprise."""
    ours = _plain(text)
    resolver = yaml.SafeLoader("")
    tag = resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # not in the stubs
    if not isinstance(ours, Surprise) and tag not in {"tag:yaml.org,2002:str", "tag:yaml.org,2002:value"}:
        assert ours == yaml.safe_load(text)
        assert not isinstance(ours, str)


@given(st.text(max_size=20))
def test_quoted_text_is_always_text(text: str) -> None:
    """Quotes end all doubt."""
    assert scalar(Scalar(text, False, 1, 1)) == text
