"""What oomguard cannot do on this host, each logged once."""

from oomguard.core.typed import TYPE_CHECKING
from oomguard.report import events

if TYPE_CHECKING:
    from oomguard.report.reporter import Reporter


class Degradations:
    """Sentences for people; `status` shows them while the daemon runs."""

    def __init__(self, reporter: "Reporter") -> None:
        self._reporter = reporter
        self.texts: list[str] = []

    def add(self, *texts: str) -> None:
        """Log each sentence that was not logged before."""
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
                self._reporter.say(events.LIMITED, text)
