"""Processes that wait to be checked."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oomguard.core.policy import Policy
from oomguard.core.process import INIT_PID
from oomguard.daemon.process_events import ProcessEvents
from oomguard.daemon.service import URGENT_LIMIT, Options, Service
from oomguard.kernel.connector import Connector
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder
from oomguard.report.events import Record
from running import needs_events


class Said:
    """Remembers what was said."""

    lost = 0

    def __init__(self) -> None:
        self.messages: list[str] = []

    def write(self, record: Record) -> None:
        """Take an entry."""
        self.messages.append(record.message)


@pytest.fixture
def said() -> Said:
    """Return what remembers what the service says."""
    return Said()


@pytest.fixture
def service(
    tmp_path: Path, folder: StateFolder, said: Said, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """Make a service that is not run."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        made = Service(Options(str(tmp_path / "policy.yaml"), "/proc"), folder, said)
        yield made
        made.notifier.socket.close()
        made.procfs.close()


def test_forks_in_inits_name_do_not_fill_the_memory(service: Service, said: Said) -> None:
    """An orphan makes thousands a second (CLONE_PARENT), and a daemon at its ceiling does not keep up."""
    ledger = Ledger()
    ledger.record_protection(-900, "a.service", 0, 1)
    service.reconciler = Reconciler(Policy(), ledger, service.procfs)
    waiting = 0
    for turn in range(50):
        for child in range(1000):
            service._forked(INIT_PID, 100_000 + 1000 * turn + child, 0)
        service._look_at_newborn(0.0)
        waiting = max(waiting, len(service._checks))
    assert URGENT_LIMIT / 2 < waiting <= URGENT_LIMIT
    assert service._sweep, "a pass looks at them"
    assert [message for message in said.messages if "oomguard checks every process again" in message]


@pytest.mark.parametrize(("seconds", "visited"), [(-1.0, 1), (60.0, 8)])
def test_a_slice_ends_on_time_whatever_one_process_takes(
    service: Service, seconds: float, visited: int
) -> None:
    """Its user makes a process that takes 20 ms to read. What is left is the next slice's."""
    service.reconciler = Reconciler(Policy(), Ledger(), service.procfs)
    for pids in (set(range(1, 21)), [*range(1, 21)]):
        service._visit(pids, time.monotonic() + seconds)
        assert len(pids) == 20 - visited


@needs_events
@pytest.mark.parametrize(("flow", "seconds"), [(True, 60.0), (False, 1.0)])
def test_passes_follow_each_other_closely_while_no_events_flow(
    service: Service, *, flow: bool, seconds: float
) -> None:
    """For as long as that is, also until a reboot."""
    service.reconciler = Reconciler(Policy(), Ledger(), service.procfs)
    with closing(Connector()) as connector:
        service._events = ProcessEvents(connector)
        service._events.flow = flow
        now = time.monotonic()
        service._end_pass(now)
        assert service.loop._due["pass"] == now + seconds
        assert service._drift._inotify is not None
        service._drift._inotify.close()
