"""The pictures of the documentation show what the verbs print now."""

import os
import pwd
import re

import pytest
from terminal import PICTURES, ROOT, pictures, text_of

from oomguard.core.text import printable

NAMES = ("plan", "rank", "status", "overview", "postmortem")


def knows_users() -> bool:
    """Whether this host has the users that the pictures name."""
    try:
        return pwd.getpwuid(33).pw_name == "www-data"
    except KeyError:
        return False


@pytest.mark.skipif(not knows_users(), reason="the pictures name Debian's users")
@pytest.mark.skipif(os.geteuid() != 0, reason="a policy has to be root's")
def test_pictures_show_what_is_printed() -> None:
    """If this fails, `python tests/pictures/terminal.py` draws them anew."""
    drawn = dict(pictures())
    assert tuple(drawn) == NAMES
    for name, picture in drawn.items():
        assert text_of((PICTURES / f"{name}.svg").read_text()) == text_of(picture), name


def test_pictures_are_small_and_load_nothing() -> None:
    """A picture that fetches fonts tells somebody who reads the documentation."""
    for picture in PICTURES.glob("*.svg"):
        text = picture.read_text()
        assert len(text) < 150_000, picture.name
        assert re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?https?:", text) == [], picture.name
        assert "<script" not in text
        assert printable(text.replace("\n", "")) == text.replace("\n", "").replace("\\", "\\\\")


def test_the_page_is_a_small_picture() -> None:
    """`python tests/pictures/page.py` draws it; chromium draws it a little different each year."""
    picture = (PICTURES / "incident.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
    assert "docs/pictures/incident.png" in (ROOT / "README.md").read_text()


def test_readme_shows_them() -> None:
    """Each has its place."""
    readme = (ROOT / "README.md").read_text()
    for name in NAMES:
        assert f"docs/pictures/{name}.svg" in readme, name
