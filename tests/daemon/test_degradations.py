"""What cannot be done on a host."""

from oomguard.daemon.degradations import Degradations
from oomguard.report.reporter import Reporter
from workers import Said


def test_each_is_logged_once_and_kept_for_the_status() -> None:
    """However often it is found, and in the order in which it was."""
    said = Said()
    degradations = Degradations(Reporter(said))
    degradations.add("no events", "no watches")
    degradations.add("no events")
    degradations.add("no log", "no watches")
    assert said.messages == degradations.texts == ["no events", "no watches", "no log"]
