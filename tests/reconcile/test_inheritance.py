"""Inherited values and trust together: what a child may keep of what its ancestor was given."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeproc import FakeProc
from floors import FakePrivilege, FlooredKernel
from oomguard.core.plan import Outcome
from oomguard.core.policy import Policy, Rule, Terms, Value
from oomguard.core.process import Identity, Process
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

CRON = 10
VALUES = {b"cron": -900, b"postgres": -950, b"mysqld": -500, b"same": -900}
POLICY = Policy(
    rules=tuple(
        Rule(number, (name,), Terms(Value("exact", value)), "p.yaml", number + 1)
        for number, (name, value) in enumerate(VALUES.items())
    )
)


class Host:
    """Root's cron, which is protected, and what it starts."""

    def __init__(self, folder: Path) -> None:
        self.proc = FakeProc(folder / "proc")
        self.kernel = FlooredKernel(str(self.proc.root), FakePrivilege())
        self.ledger = Ledger()
        self.reconciler = Reconciler(POLICY, self.ledger, self.kernel, self.kernel.privilege)
        self._start = 0
        self.start(CRON, b"cron")
        self.look(CRON)
        assert self.value(CRON) == -900

    def start(self, pid: int, comm: bytes, *, parent: int = 1, uid: int = 0, value: int = 0) -> None:
        """Start a process, later than all others."""
        self._start += 1
        process = Process(Identity(pid, self._start), comm, parent_pid=parent, uid=uid, oom_score_adj=value)
        self.proc.process(process)

    def inherit(self, pid: int, comm: bytes, *, uid: int) -> None:
        """Have cron fork a child that becomes a user and runs a program."""
        self.reconciler.lineage.forked(CRON, pid, 1)
        self.start(pid, comm, parent=CRON, uid=uid, value=-900)
        self.kernel.floors[pid] = -900

    def look(self, pid: int) -> Outcome | None:
        """Look at one process, as after an event."""
        return self.reconciler.process(pid, "exec", 0.0)

    def value(self, pid: int) -> int:
        """Return the value a process has."""
        return self.proc.oom_score_adj(pid)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host where cron runs."""
    made = Host(tmp_path)
    yield made
    made.kernel.close()


@pytest.mark.parametrize("name", [b"cron", b"postgres", b"mysqld", b"same", b"other"])
def test_a_users_program_keeps_nothing_whatever_it_is_called(host: Host, name: bytes) -> None:
    """Not even under a name that a rule protects: the rule would not have given it that."""
    host.inherit(11, name, uid=1000)
    host.look(11)
    assert (host.value(11), host.kernel.floor(11)) == (0, 0)
    again = host.look(11)
    assert (again.result if again else None) == (None if name == b"other" else "refused")
    assert 11 not in host.ledger.processes


@pytest.mark.parametrize("name", [b"cron", b"postgres", b"same"])
def test_a_program_of_roots_is_held_by_its_own_rule(host: Host, name: bytes) -> None:
    """And its own value is what its ancestor had."""
    host.inherit(11, name, uid=0)
    host.look(11)
    assert host.value(11) == VALUES[name]
    host.reconciler.adopt(Policy())
    host.look(11)
    assert host.value(11) == 0


def test_a_process_that_becomes_a_users_is_judged_anew(host: Host) -> None:
    """It was protected as root's, and may have been looked at as settled."""
    host.look(CRON)
    host.proc.process(
        Process(Identity(CRON, host.ledger.processes[CRON][0]), b"cron", uid=1000, oom_score_adj=-900)
    )
    host.look(CRON)
    assert host.value(CRON) == 0
    refused = host.look(CRON)
    assert refused is not None
    assert refused.result == "refused"


def test_impostors_take_no_place_from_whose_children_are_attended(tmp_path: Path) -> None:
    """However many there are."""
    host = Host(tmp_path)
    rule = Rule(0, (b"postgres",), Terms(Value("exact", -500), scope="main"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule,)))
    for pid in range(100, 164):
        host.start(pid, b"postgres", uid=1000)
        outcome = host.look(pid)
        assert outcome is not None
        assert outcome.result == "refused"
    host.start(200, b"postgres")
    host.look(200)
    assert host.reconciler.lineage.attended == {200}
    host.proc.end(200)
    host.look(200)
    assert not host.reconciler.lineage.attended
    host.kernel.close()


def test_only_rules_that_protect_attend(host: Host) -> None:
    """Any user can have as many topmost processes of a raising rule as he likes."""
    raising = Rule(0, (b"browser",), Terms(Value("exact", 300), scope="main"), "p.yaml", 1)
    protecting = Rule(1, (b"postgres",), Terms(Value("exact", -500), scope="main"), "p.yaml", 2)
    host.reconciler.adopt(Policy(rules=(raising, protecting)))
    for pid in range(100, 164):
        host.start(pid, b"browser", uid=1000)
        host.look(pid)
        assert host.value(pid) == 300
    host.start(200, b"postgres")
    host.look(200)
    assert host.reconciler.lineage.attended == {200}


def test_the_next_owner_of_a_pid_has_heirs_of_its_own(host: Host) -> None:
    """What it gives its children, whatever it is, is not what the one before it was given."""
    host.proc.end(CRON)
    host.start(CRON, b"manager")
    host.reconciler.lineage.forked(1, CRON, 2)
    host.reconciler.lineage.forked(CRON, 11, 3)
    host.start(11, b"service", parent=CRON, value=-900)
    host.look(11)
    assert host.value(11) == -900


def test_a_fork_that_is_told_of_late_loses_no_original(host: Host) -> None:
    """The child was looked at and is in the ledger by then."""
    host.inherit(11, b"postgres", uid=0)
    host.look(11)
    host.reconciler.lineage.forked(CRON, 11, 1)
    assert 11 in host.ledger.processes
    host.reconciler.adopt(Policy())
    host.look(11)
    assert host.value(11) == 0
