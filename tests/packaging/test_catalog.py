"""The journal catalog: what `journalctl -x` says to an entry."""

import re
from pathlib import Path

from oomguard.report.events import EVENTS
from test_readme import VERBS

CATALOG = (Path(__file__).parents[2] / "systemd" / "oomguard.catalog").read_text()


def entries() -> dict[str, str]:
    """Return the text of each message, by id."""
    parts = re.split(r"^-- ([0-9a-f]{32})\n", CATALOG, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_message_is_explained_once_and_no_other() -> None:
    """If this fails, write a paragraph into systemd/oomguard.catalog: what happened, why, what to do."""
    ids = re.findall(r"^-- (.*)$", CATALOG, re.MULTILINE)
    assert len(ids) == len(set(ids))
    assert {event.message_id for event in EVENTS} == set(ids)


def test_every_explanation_has_a_subject_and_says_where_to_read_on() -> None:
    """And then a paragraph."""
    for number, text in entries().items():
        head, _, body = text.partition("\n\n")
        assert re.fullmatch(
            r"Subject: \S.*\nDefined-By: oomguard\nDocumentation: man:oomguard(?:\(8\)|\.yaml\(5\))", head
        ), number
        assert len(body.split()) > 20, number


def test_only_fields_and_verbs_that_there_are_are_named() -> None:
    """The manual lists the fields, and is held against the code."""
    manual = (Path(__file__).parents[2] / "docs" / "man" / "oomguard.8").read_text()
    items = re.findall(r"^\.It Va (.+)$", manual, re.MULTILINE)
    fields = {field for item in items for field in item.split(" , ")}
    assert set(re.findall(r"@(\w+)@", CATALOG)) <= fields
    assert set(re.findall(r"\bOOMGUARD_\w+", CATALOG)) <= fields
    assert set(re.findall(r"`oomguard ([a-z]+)", CATALOG)) <= set(VERBS)
