"""Where people begin, as login.defs has it."""

from pathlib import Path

import pytest

from oomguard.policy.login_defs import first_person_uid, parse


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("UID_MIN\t\t\t 1000\nUID_MAX 60000\n", 1000),
        ("UID_MIN 500\n", 500),
        ('  UID_MIN "500"\n', 500),
        ("UID_MIN 0x1F4\n", 500),
        ("#UID_MIN 500\nSYS_UID_MIN 100\nSUB_UID_MIN 200\n", 1000),
        ("UID_MIN 500\nUID_MIN 600\n", 600),
        ("UID_MIN 10000\n", 1000),
        ("UID_MIN 0\n", 1),
        ("UID_MIN\nUID_MIN many\n\xff\n", 1000),
        ("", 1000),
    ],
)
def test_people_begin_at_uid_min_or_below(text: str, first: int) -> None:
    """A higher one says where new users begin; those from before may be people, too."""
    assert parse(text.encode("latin-1")) == first


def test_the_administrators_file_comes_before_the_vendors(tmp_path: Path) -> None:
    """And without either, people begin where they do on most hosts."""
    ours, theirs = tmp_path / "etc", tmp_path / "usr"
    files = (str(ours), str(theirs))
    assert first_person_uid(files) == 1000
    theirs.write_text("UID_MIN 600\n")
    assert first_person_uid(files) == 600
    ours.write_text("UID_MIN 500\n")
    assert first_person_uid(files) == 500
