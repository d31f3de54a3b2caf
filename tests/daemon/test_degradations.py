"""What cannot be done on a host."""

from oomguard.report.reporter import Degradations, Reporter
from workers import Said


def test_each_is_logged_once_and_kept_for_the_status() -> None:
    """However often it is found, and in the order in which it was."""
    said = Said()
    degradations = Degradations(Reporter(said))
    degradations.set("start", "no events", "no watches")
    degradations.set("log", "no log")
    degradations.set("start", "no events", "no watches")
    assert said.messages == degradations.texts == ["no events", "no watches", "no log"]


def test_what_works_again_is_no_longer_shown() -> None:
    """And is not logged a second time if it fails again."""
    said = Said()
    degradations = Degradations(Reporter(said))
    for text in ("the disk is full", "", "the disk is full"):
        degradations.set("file", text)
        assert degradations.texts == [text] * bool(text)
    assert said.messages == ["the disk is full"]


def test_many_sentences_about_one_thing_hide_none_about_another() -> None:
    """Users decide how many of their processes cannot be read."""
    said = Said()
    degradations = Degradations(Reporter(said))
    degradations.set("processes", *(f"user {uid}" for uid in range(1000)))
    degradations.set("file", "the disk is full")
    assert len(said.messages) < 100
    assert said.messages[-1] == "the disk is full"
