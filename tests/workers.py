"""What applies a policy for the daemon, without the daemon's loop, and what it logged."""

from oomguard.core.policy import Policy
from oomguard.core.process import Identity
from oomguard.daemon.loop import Loop
from oomguard.daemon.status_writer import StatusWriter
from oomguard.daemon.worker import Worker
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder
from oomguard.report.events import LogEntry
from oomguard.report.reporter import Degradations, Reporter


class Said:
    """A sink that remembers the messages."""

    lost = 0

    def __init__(self) -> None:
        self.messages: list[str] = []

    def write(self, entry: LogEntry) -> None:
        """Take an entry."""
        self.messages.append(entry.message)


class Work:
    """A worker with what it is made of, which nothing wakes."""

    def __init__(
        self, procfs: Procfs, folder: StateFolder, policy: Policy | None = None, ledger: Ledger | None = None
    ) -> None:
        self.said = Said()
        self.ended: list[float] = []
        """When passes ended."""
        self.loop = Loop()
        self.procfs = procfs
        self.reporter = Reporter(self.said)
        self.degradations = Degradations(self.reporter)
        self.reconciler = Reconciler(policy or Policy(), ledger or Ledger(), procfs)
        self.status = StatusWriter(
            self.loop, folder, procfs, Identity(1, 2), self.reporter, self.degradations
        )
        self.worker = Worker(
            self.loop,
            self.reconciler,
            self.reporter,
            self.status,
            self.degradations,
            pass_ended=self.ended.append,
        )

    def due(self, name: str) -> float | None:
        """Return when a timer is due."""
        return self.loop._due.get(name)

    def close(self) -> None:
        """Let go of descriptors."""
        self.worker.events.close()
        self.worker.watching.drift.close()
