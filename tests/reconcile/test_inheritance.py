"""Inherited values and trust together: what a child may keep of what its ancestor was given."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeproc import FakeProc
from floors import FakePrivilege, FlooredKernel
from oomguard.core.change import Outcome
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.cgroup_folders import CgroupFolders
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.report.sentences import sentence, subject

CRON = 10
CRON_SERVICE = "/system.slice/cron.service"
SESSION = "/user.slice/user-1000.slice/session-3.scope"
MANAGER = "/user.slice/user-1000.slice/user@1000.service/init.scope"
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
        self.start(CRON, b"cron", cgroup=CRON_SERVICE)
        self.look(CRON)
        assert self.value(CRON) == -900

    def start(
        self,
        pid: int,
        comm: bytes,
        *,
        parent: int = 1,
        uid: int = 0,
        value: int = 0,
        cgroup: str = "/",
        in_container: bool = False,
    ) -> None:
        """Start a process, later than all others, with a floor that is its value."""
        self._start += 1
        process = Process(Identity(pid, self._start), comm, parent_pid=parent, uid=uid, oom_score_adj=value)
        self.proc.process(process._replace(cgroup=cgroup, in_container=in_container))
        self.kernel.floors[pid] = min(0, value)

    def inherit(self, pid: int, comm: bytes, *, uid: int) -> None:
        """Have cron fork a child that becomes a user and runs a program."""
        self.reconciler.managed.on_fork(CRON, pid, 1)
        self.start(pid, comm, parent=CRON, uid=uid, value=-900)
        self.kernel.floors[pid] = -900

    def look(self, pid: int) -> Outcome | None:
        """Look at one process, as after an event."""
        return self.reconciler.process(pid, "exec", 0.0)

    def sweep(self) -> list[Outcome]:
        """Look at every process, with nothing known of any fork."""
        self.reconciler.managed.forget_forks()
        self.reconciler.managed.asks_parents = False
        return list(self.reconciler.everything("resync", 0.0))

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
    assert 11 not in {one.pid for one in host.ledger.processes}


@pytest.mark.parametrize("name", [b"cron", b"postgres", b"same"])
def test_a_program_of_roots_is_held_by_its_own_rule(host: Host, name: bytes) -> None:
    """And its own value is what its ancestor had."""
    host.inherit(11, name, uid=0)
    host.look(11)
    assert host.value(11) == VALUES[name]
    assert 11 in {one.pid for one in host.ledger.processes}, "a restart forgets forks"
    host.reconciler.adopt(Policy())
    host.look(11)
    assert host.value(11) == 0


def test_a_child_whose_rule_wants_what_its_parent_had_before_is_restored(host: Host) -> None:
    """Its parent has another value by now."""
    lower = POLICY.rules[0]._replace(terms=Terms(Value("exact", -500)))
    host.reconciler.adopt(Policy(rules=(lower, *POLICY.rules[1:])))
    host.look(CRON)
    host.start(11, b"same", parent=CRON, value=-900)
    host.look(11)
    assert (host.value(CRON), host.value(11)) == (-500, -900)
    host.reconciler.adopt(Policy())
    host.look(11)
    assert host.value(11) == 0


def test_a_child_of_another_value_chooses_a_later_one_itself(host: Host) -> None:
    """It may have been forked before its parent was reset; its value shows that it was not."""
    host.inherit(11, b"other", uid=0)
    host.look(11)
    managed = host.reconciler.managed
    managed.on_fork(11, 12, managed.descents[11].former_until + 1)
    host.start(12, b"other", parent=11)
    host.look(12)
    host.proc.set_oom_score_adj(12, -900)
    host.look(12)
    assert host.value(12) == -900


def test_a_process_that_becomes_a_users_is_judged_anew(host: Host) -> None:
    """It was protected as root's, and may have been skipped as unchanged."""
    host.look(CRON)
    (cron,) = host.ledger.processes
    host.proc.process(Process(cron, b"cron", uid=1000, oom_score_adj=-900))
    host.look(CRON)
    assert host.value(CRON) == 0
    refused = host.look(CRON)
    assert refused is not None
    assert refused.result == "refused"


def test_a_process_that_becomes_roots_is_judged_anew(host: Host) -> None:
    """A rule must not protect it before, and a later one raises it meanwhile."""
    protecting = Rule(0, (b"cron",), Terms(Value("exact", -900)), "p.yaml", 1)
    raising = Rule(1, (b"cron",), Terms(Value("exact", 100)), "p.yaml", 2)
    host.reconciler.adopt(Policy(rules=(protecting, raising)))
    host.start(12, b"cron", uid=1000)
    for _ in range(2):
        host.look(12)
    assert host.value(12) == 100
    host.proc.process(Process(Identity(12, 2), b"cron", oom_score_adj=100))
    host.look(12)
    assert host.value(12) == -900


def test_impostors_take_no_place_from_watched_parents(tmp_path: Path) -> None:
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
    assert host.reconciler.managed.watched == {200}
    host.proc.end(200)
    host.look(200)
    assert not host.reconciler.managed.watched
    host.kernel.close()


def test_only_parents_that_a_rule_protects_are_watched(host: Host) -> None:
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
    assert host.reconciler.managed.watched == {200}


@pytest.mark.parametrize("cgroup", [CRON_SERVICE, SESSION, MANAGER, "/"])
@pytest.mark.parametrize("value", [-900, -899, -1])
def test_a_pass_finds_what_no_fork_tells(host: Host, cgroup: str, value: int) -> None:
    """An orphan of a user's has the value, or one that the floor lets it choose; it loses both."""
    host.start(11, b"job", uid=1000, value=value, cgroup=cgroup)
    host.kernel.floors[11] = -900
    (outcome,) = host.sweep()
    assert (outcome.result, outcome.change.cause) == ("applied", "restore")
    assert (host.value(11), host.kernel.floor(11)) == (0, 0)
    assert host.sweep() == []


def test_events_alone_read_no_value_that_no_rule_asks_for(host: Host) -> None:
    """That would be a read more for each program that starts; a fork tells, or the next pass finds it."""
    host.start(11, b"job", uid=1000, value=-900, cgroup=SESSION)
    assert host.look(11) is None
    assert host.value(11) == -900


@pytest.mark.parametrize("value", [0, 300])
def test_a_pass_finds_a_floor_that_is_not_the_processs_own(host: Host, value: int) -> None:
    """It raised itself, to lower itself again when memory is short. Its value stays."""
    host.start(11, b"job", uid=1000, value=value, cgroup=SESSION)
    host.kernel.floors[11] = -900
    (outcome,) = host.sweep()
    assert "inherited the right to lower itself" in sentence(outcome)
    assert (host.value(11), host.kernel.floor(11)) == (value, 0)
    assert host.sweep() == []


def test_a_process_whose_floor_was_checked_is_checked_again_when_it_becomes_a_users(host: Host) -> None:
    """While it was root's, the floor was its own."""
    host.start(11, b"job", value=0, cgroup=SESSION)
    host.kernel.floors[11] = -900
    assert host.sweep() == []
    host.proc.process(Process(Identity(11, 2), b"job", uid=1000, cgroup=SESSION))
    host.look(11)
    assert len(host.sweep()) == 1
    assert host.kernel.floor(11) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_who_becomes_a_users_without_an_event_has_its_floor_checked_again(host: Host) -> None:
    """Events may be lost, and where there are none, passes alone find it."""
    host.start(11, b"job", value=0, cgroup=SESSION)
    host.kernel.floors[11] = -900
    assert host.sweep() == []
    host.proc.process(Process(Identity(11, 2), b"job", uid=1000, cgroup=SESSION))
    os.chown(host.proc.root / "11", 1000, -1)
    assert len(host.sweep()) == 1
    assert host.kernel.floor(11) == 0


def test_a_floor_that_could_not_be_raised_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger had no room for its entry."""
    host.start(11, b"job", uid=1000, value=0, cgroup=SESSION)
    host.kernel.floors[11] = -900

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(host.ledger, "record", full)
    assert [one.result for one in host.sweep()] == ["denied"]
    monkeypatch.undo()
    assert [one.result for one in host.sweep()] == ["applied"]
    assert host.kernel.floor(11) == 0


def test_ordinary_processes_are_not_written_to(host: Host) -> None:
    """Whether a floor is inherited is tried by a write that the kernel refuses, once for each process."""
    writes = len(host.kernel.writes)
    for pid, uid in ((11, 1000), (12, 0)):
        host.start(pid, b"shell", uid=uid, cgroup=SESSION)
    host.sweep()
    host.sweep()
    assert len(host.kernel.writes) == writes
    assert host.kernel.refused.count(11) == 1
    assert 12 not in host.kernel.refused


@pytest.mark.parametrize(
    ("uid", "cgroup", "in_container"),
    [
        pytest.param(1000, "/system.slice/app.service", False, id="OOMScoreAdjust= of a unit with User="),
        pytest.param(1000, "/kubepods.slice/kubepods-pod1.slice/cri-1.scope", True, id="a Guaranteed pod"),
        pytest.param(0, SESSION, False, id="root's"),
        pytest.param(33, "/system.slice/apache2.service", False, id="a system user's in a system service"),
    ],
)
def test_a_pass_leaves_alone_what_has_the_value_by_itself(
    host: Host, uid: int, cgroup: str, *, in_container: bool
) -> None:
    """Neither events nor passes take anything from it, nor does a restore."""
    host.start(11, b"own", uid=uid, value=-900, cgroup=cgroup, in_container=in_container)
    assert host.sweep() == []
    host.reconciler.adopt(Policy())
    assert [subject(outcome.change) for outcome in host.sweep()] == [f"cron[{CRON}]"]
    assert host.value(11) == -900


def test_a_pid_namespace_that_a_user_made_is_no_container(host: Host) -> None:
    """Neither in a session nor in a service that was given the value."""
    for pid, cgroup in ((11, SESSION), (12, CRON_SERVICE), (13, MANAGER)):
        host.start(pid, b"job", uid=1000, value=-900, cgroup=cgroup, in_container=True)
    host.sweep()
    assert [host.value(pid) for pid in (11, 12, 13)] == [0, 0, 0]


def test_a_service_that_its_user_moves_processes_into_explains_nothing(host: Host, tmp_path: Path) -> None:
    """`Delegate=yes` with `User=`: systemd gives that user the cgroup, and moves his processes there."""
    (tmp_path / "system.slice" / "app.service").mkdir(parents=True)
    (tmp_path / "system.slice" / "app.service").chmod(0o777)
    host.kernel.cgroups = CgroupFolders(str(tmp_path))
    host.start(11, b"job", uid=1000, value=-900, cgroup="/system.slice/app.service")
    host.sweep()
    assert host.value(11) == 0


def test_what_root_started_with_a_value_keeps_it(host: Host) -> None:
    """`choom -n -900 -- runuser -u alice server`: root's shell has another value, and lives."""
    host.start(11, b"bash", cgroup=SESSION)
    host.start(12, b"runuser", parent=11, value=-900, cgroup=SESSION)
    host.start(13, b"server", parent=12, uid=1000, value=-900, cgroup=SESSION)
    host.start(14, b"worker", parent=13, uid=1000, value=-900, cgroup=SESSION)
    assert host.sweep() == []
    host.proc.end(11)  # then nothing tells it from what runuser inherited
    host.sweep()
    assert [host.value(pid) for pid in (12, 13, 14)] == [-900, 0, 0]


@pytest.mark.parametrize("parent_uid", [0, 1000])
def test_a_trusted_ancestor_that_a_user_started_grants_nothing(host: Host, parent_uid: int) -> None:
    """`sudo --askpass` is root's, and runs a program of its caller's."""
    host.start(11, b"bash", uid=parent_uid, cgroup=SESSION)
    host.start(12, b"sudo", parent=11, value=-900, cgroup=SESSION)
    host.start(13, b"askpass", parent=12, uid=1000, value=-900, cgroup=SESSION)
    host.sweep()
    assert host.value(13) == (-900 if parent_uid == 0 else 0)


def test_a_child_of_a_managed_process_is_found_by_it(host: Host) -> None:
    """It gets what that one had, also where others had more."""
    host.start(20, b"same", value=-100, cgroup=CRON_SERVICE)
    host.look(20)
    host.start(21, b"sh", parent=20, value=-900, cgroup=SESSION)
    host.start(22, b"job", parent=21, uid=1000, value=-900, cgroup=SESSION)
    host.sweep()
    assert host.value(22) == -100


def test_what_a_sibling_has_says_nothing_of_a_child(host: Host) -> None:
    """Its parent has a value of its own, so this may be its own, too; whoever is examined first."""
    rule = Rule(0, (b"hog",), Terms(Value("exact", 800)), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule, *POLICY.rules)))
    host.start(20, b"hog")
    host.look(20)
    host.start(21, b"make", parent=20, value=900)
    for pid, value in ((22, 900), (23, 800)):
        host.start(pid, b"cc", parent=21, value=value)
    host.reconciler.managed.forget_forks()
    for pid in (22, 23):
        host.look(pid)
    assert (host.value(22), host.value(23)) == (900, 800)


def test_children_that_inherit_on_purpose_keep_it(host: Host) -> None:
    """Though another rule gives the same value, and takes it from its children."""
    rule = Rule(0, (b"build",), Terms(Value("exact", -900), children="inherit"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule, *POLICY.rules)))
    host.start(20, b"build", cgroup=SESSION)
    host.look(20)
    host.start(21, b"sh", parent=20, uid=1000, value=-900, cgroup=SESSION)
    host.start(22, b"cc", parent=21, uid=1000, value=-900, cgroup=SESSION)
    assert host.sweep() == []
    host.proc.end(20)
    host.sweep()
    assert (host.value(21), host.value(22)) == (0, 0)


def test_what_only_rules_that_let_children_inherit_gave_is_taken_from_nobody(host: Host) -> None:
    """It outlives the process that it was given to."""
    rule = Rule(0, (b"build",), Terms(Value("exact", -700), children="inherit"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule, *POLICY.rules)))
    host.start(20, b"build", cgroup=SESSION)
    host.look(20)
    host.ledger.protections.forget({-900})
    host.start(21, b"cc", uid=1000, value=-700, cgroup=SESSION)
    assert host.sweep() == []


def test_a_rule_of_its_own_does_not_take_an_inherited_value_for_the_processs_own(host: Host) -> None:
    """Restored, it has what the protected process had."""
    rule = Rule(0, (b"job",), Terms(Value("at_most", -500), trust="name"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule, *POLICY.rules)))
    host.start(11, b"job", uid=1000, value=-900, cgroup=SESSION)
    host.sweep()
    assert (host.value(11), host.kernel.floor(11)) == (-500, -500)
    host.reconciler.adopt(Policy(rules=POLICY.rules))
    host.sweep()
    assert (host.value(11), host.kernel.floor(11)) == (0, 0)


def test_what_was_given_is_known_as_long_as_somebody_may_have_it(host: Host) -> None:
    """Its process ends, and a whole pass finds nobody; then an administrator may use the value again."""
    host.proc.end(CRON)
    host.start(11, b"job", uid=1000, value=-900, cgroup=SESSION)
    host.sweep()
    assert host.value(11) == 0
    host.start(12, b"job", uid=1000, value=-900, cgroup=SESSION)
    host.sweep()
    assert host.value(12) == 0
    for is_known in (True, True, False):
        assert bool(host.ledger.protections) is is_known
        host.sweep()
    host.start(13, b"job", uid=1000, value=-900, cgroup=SESSION)
    assert host.sweep() == []


def test_the_next_process_with_a_pid_has_children_of_its_own(host: Host) -> None:
    """The value that its children inherit from it is not the one that was set for the process before it."""
    host.proc.end(CRON)
    host.start(CRON, b"manager")
    host.reconciler.managed.on_fork(1, CRON, 2)
    host.reconciler.managed.on_fork(CRON, 11, 3)
    host.start(11, b"service", parent=CRON, value=-900)
    host.look(11)
    assert host.value(11) == -900


def test_the_next_process_with_a_pid_takes_no_place_from_watched_parents(host: Host) -> None:
    """Though its fork was lost, and no rule is about it."""
    rule = Rule(0, (b"main",), Terms(Value("exact", -500), scope="main"), "p.yaml", 1)
    host.reconciler.adopt(Policy(rules=(rule,)))
    host.start(200, b"main")
    host.look(200)
    assert host.reconciler.managed.watched == {200}
    host.proc.end(200)
    host.start(200, b"other", uid=1000)
    host.look(200)
    assert not host.reconciler.managed.watched


def test_a_fork_that_is_reported_late_loses_no_original(host: Host) -> None:
    """The child was examined and is in the ledger by then."""
    host.inherit(11, b"postgres", uid=0)
    host.look(11)
    host.reconciler.managed.on_fork(CRON, 11, 1)
    assert 11 in {one.pid for one in host.ledger.processes}
    host.reconciler.adopt(Policy())
    host.look(11)
    assert host.value(11) == 0
