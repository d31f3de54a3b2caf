"""What users read is plain English: words that are always wrong stay out."""

import re
import tokenize
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

MODULES = sorted((ROOT / "src").rglob("*.py"))
PRINTED = (
    "systemd/oomguard.catalog",
    "systemd/oomguard.service",
    "systemd/oomguard-exporter.service",
    "systemd/install.sh",
    "systemd/debian/postinst",
    "systemd/debian/prerm",
    "systemd/debian/postrm",
    "etc/oomguard.yaml",
    "etc/90-default.yaml",
    "etc/grafana/oomguard.json",
    "etc/prometheus/oomguard.rules.yml",
    ".ci/setup",
    "CHANGELOG.md",
)
"""What is not Python, and read by users all the same."""


def words_of(text: str) -> list[str]:
    """Return the wrong words, also those that a line break divides."""
    return [found.casefold() for found in WRONG.findall(re.sub(r"\s+", " ", text))]


def prose_of(module: Path) -> str:
    """Return the strings and comments of a module: messages, docstrings, help; no identifiers."""
    with module.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    return "\n".join(token.string.lstrip("#") for token in tokens if token.type in kinds)


@pytest.mark.parametrize("path", [*PAGES, *(ROOT / one for one in PRINTED), *MODULES], ids=name)
def test_what_is_read_is_in_plain_words(path: Path) -> None:
    """README, CONTRIBUTING and everything below docs; messages, help, docstrings and comments."""
    assert not words_of(prose_of(path) if path.suffix == ".py" else path.read_text())


def test_all_pages_together_are_short() -> None:
    """A page says what neither a screen beside it, the code, nor another page says."""
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert sum(len(page.read_text().split()) for page in pages) <= 16_350


@pytest.mark.parametrize("page", MANUAL)
def test_the_manual_is_in_plain_words(page: str) -> None:
    """With the parts that are made from the help and from tables of the code."""
    assert not words_of((FOLDER / page).read_text())


def test_a_wrong_word_is_found_wherever_it_stands() -> None:
    """At the end of a line, in another form, and not inside another word."""
    assert words_of("It can\nnot be Reckoned.") == ["can not", "reckoned"]
    assert words_of("marshalled canals, their shallow canopies") == []
    assert (ROOT / "README.md") in PAGES
