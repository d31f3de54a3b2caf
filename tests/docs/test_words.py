"""What users read is plain English: words that are always wrong stay out."""

import re
from pathlib import Path

import pytest
from manual import FOLDER
from manual import PAGES as MANUAL

from pages import PAGES, ROOT, name

WRONG = re.compile(
    r"\b(reckon\w*|foret(?:ell|old)\w*|whom|anew|way out|told of|shall|bequeath\w*|heirs?|can not)\b",
    re.IGNORECASE,
)
"""Each is archaic, or a metaphor, where a plain word says the same: compute, predict, which process, again,
fix, event lost, must, inherit, descendant, cannot."""


def words_of(text: str) -> list[str]:
    """Return the wrong words, also those that a line break divides."""
    return [found.casefold() for found in WRONG.findall(re.sub(r"\s+", " ", text))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_are_in_plain_words(page: Path) -> None:
    """README, CONTRIBUTING and everything below docs."""
    assert not words_of(page.read_text())


@pytest.mark.parametrize(
    "file", ["etc/oomguard.yaml", "etc/prometheus/oomguard.rules.yml", "systemd/oomguard.catalog"]
)
def test_installed_files_are_in_plain_words(file: str) -> None:
    """Those that are written to be read: the shipped policy, alerts, the journal catalog."""
    assert not words_of((ROOT / file).read_text())


@pytest.mark.parametrize("page", MANUAL)
def test_the_manual_is_in_plain_words(page: str) -> None:
    """The parts that are written by hand; the others have the words of the code."""
    text = re.sub(
        r'^\.\\" begin .*?^\.\\" end \w+$', "", (FOLDER / page).read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert not words_of(text)


def test_a_wrong_word_is_found_wherever_it_stands() -> None:
    """At the end of a line, in another form, and not inside another word."""
    assert words_of("It can\nnot be Reckoned.") == ["can not", "reckoned"]
    assert words_of("marshalled canals, their shallow canopies") == []
    assert (ROOT / "README.md") in PAGES
