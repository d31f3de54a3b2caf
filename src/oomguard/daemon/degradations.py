"""What oomguard cannot do on this host now, each logged once."""

from oomguard.report import events
from oomguard.report.reporter import Reporter

_LOGGED_LIMIT = 64
"""Sentences about one thing: some name processes or users."""


class Degradations:
    """Sentences for people, by what they are about; `status` shows them."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._texts: dict[str, tuple[str, ...]] = {}
        self._logged: dict[str, set[str]] = {}

    @property
    def texts(self) -> list[str]:
        """All that hold now."""
        return [text for texts in self._texts.values() for text in texts if text]

    def set(self, about: str, *texts: str) -> None:
        """Say what holds now about one thing; nothing, or "", if it works."""
        self._texts[about] = texts
        logged = self._logged.setdefault(about, set())
        for text in texts:
            if text and text not in logged and len(logged) < _LOGGED_LIMIT:
                logged.add(text)
                self._reporter.say(events.LIMITED, text)
