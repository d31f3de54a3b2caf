"""The ledger says what happened: whoever set a value last keeps it, whatever was tried or restored before."""

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_sysctl_groups import START as GROUP_START
from test_sysctl_groups import STRICT, Failing

from fakeproc import FakeProc
from floors import FakePrivilege, FlooredKernel
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import open_hosts_ledger, read_ledger
from oomguard.reconcile.once import repeat_until_quiet
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder, open_state_folder
from running import Program, oom_score_adj

PID = 10
NAME = "vm.swappiness"
PAIR = ("vm.dirty_background_ratio", "vm.dirty_background_bytes")


def asking(value: int) -> Policy:
    """Return a policy that gives the process and the sysctls a value."""
    rule = Rule(0, (b"worker",), Terms(Value("exact", value), trust="name"), "p.yaml", 1)
    names = (NAME, PAIR[1])
    return Policy(sysctls=tuple(SysctlSetting(name, value, "p.yaml", 1) for name in names), rules=(rule,))


class Host:
    """A tree, and one-shot verbs on it as the command line has them."""

    def __init__(self, proc: FakeProc, folder: StateFolder) -> None:
        self.proc, self.folder = proc, folder
        proc.process(Process(Identity(PID, PID), b"worker", oom_score_adj=5))
        for name, value in {NAME: 60, PAIR[0]: 50, PAIR[1]: 0}.items():
            proc.sysctl(name, value)
        self.kernel = FlooredKernel(str(proc.root), FakePrivilege(is_permitted=False))

    def bring(self, policy: Policy) -> dict[object, tuple[str, str]]:
        """Open the ledger, bring everything to a policy, and return what became of what, and its cause."""
        ledger = open_hosts_ledger(self.folder, self.kernel)
        outcomes, _ = repeat_until_quiet(
            Reconciler(policy, ledger, self.kernel), "policy" if policy.rules else "restore"
        )
        ledger.close()
        return {
            getattr(outcome.change, "name", PID): (outcome.result, outcome.change.cause)
            for outcome in outcomes
        }

    def apply(self, value: int) -> dict[object, tuple[str, str]]:
        """Apply a policy."""
        return self.bring(asking(value))

    def restore(self) -> dict[object, tuple[str, str]]:
        """Restore."""
        return self.bring(Policy())

    def follow(self, path: Iterable[int | None]) -> None:
        """Apply values one after the other; None restores."""
        for value in path:
            self.bring(Policy() if value is None else asking(value))

    def by_hand(self, value: int) -> None:
        """Set all values as an administrator would."""
        self.proc.set_oom_score_adj(PID, value)
        self.proc.sysctl(NAME, value)
        self.kernel.write(f"sys/{PAIR[1].replace('.', '/')}", b"%d\n" % value)

    @property
    def values(self) -> tuple[int, int, int, int]:
        """What the process and the sysctls have."""
        found = self.proc.sysctls()
        return self.proc.oom_score_adj(PID), found[NAME], found[PAIR[0]], found[PAIR[1]]


START = (5, 60, 50, 0)


@pytest.fixture
def host(proc: FakeProc, folder: StateFolder) -> Iterator[Host]:
    """Return a host with a process, a sysctl and a pair of sysctls."""
    made = Host(proc, folder)
    yield made
    made.kernel.close()


def test_what_is_set_by_hand_after_a_restore_is_the_next_original(host: Host) -> None:
    """Not what was there before the first apply."""
    host.apply(300)
    host.restore()
    assert host.values == START
    host.by_hand(50)
    host.apply(300)
    host.restore()
    assert host.values == (50, 50, 0, 50)


def test_the_same_value_set_by_hand_after_a_restore_stays(host: Host) -> None:
    """Nobody but the administrator set it."""
    host.apply(300)
    host.restore()
    host.by_hand(300)
    assert host.restore() == {}
    assert host.values == (300, 300, 0, 300)


def test_what_could_not_be_written_and_was_set_by_hand_stays(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a read-only /proc/sys, and where another user's process is denied."""

    def deny(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(FlooredKernel, "write", deny)
        patch.setattr("floors._Handle.write_oom_score_adj", deny)
        assert {result for result, _ in host.apply(300).values()} == {"denied"}
    found = read_ledger(host.folder, boot_id="fake-boot")
    assert (found.sysctls, found.processes) == ({}, {})
    host.by_hand(300)
    assert host.restore() == {}
    assert host.values == (300, 300, 0, 300)


def test_an_earlier_value_set_by_hand_stays(host: Host) -> None:
    """Another one was set by oomguard since."""
    host.apply(300)
    host.apply(200)
    host.by_hand(300)
    assert host.restore() == {}
    assert host.values == (300, 300, 0, 300)


def test_what_a_restore_left_alone_is_oomguards_no_more(host: Host) -> None:
    """Set to oomguard's value by hand later, it is not restored by the next."""
    host.apply(300)
    host.by_hand(77)
    host.restore()
    host.by_hand(300)
    assert host.restore() == {}
    assert host.values == (300, 300, 0, 300)


def test_drift_is_what_something_else_changed_after_oomguard_set_it(host: Host) -> None:
    """Neither a first value, nor one after a restore, nor one that was never written."""
    assert {cause for _, cause in host.apply(300).values()} == {"policy"}
    host.by_hand(7)
    assert {cause for _, cause in host.apply(300).values()} == {"drift"}
    host.restore()
    host.by_hand(7)
    assert {cause for _, cause in host.apply(300).values()} == {"policy"}


def test_a_child_that_inherited_an_earlier_value_gets_its_parents_original(host: Host) -> None:
    """Though its parent has another by now, and a rule asks for just the value that it has."""
    ledger = open_hosts_ledger(host.folder, host.kernel)
    ledger.record(Identity(PID, PID), Entry(5, 200, 300))
    ledger.close()
    host.proc.set_oom_score_adj(PID, 200)
    host.proc.process(Process(Identity(20, 20), b"child", parent_pid=PID, oom_score_adj=300))
    children = Rule(0, (b"child",), Terms(Value("exact", 300)), "p.yaml", 1)
    host.bring(Policy(rules=(children, asking(200).rules[0]._replace(number=1))))
    assert host.proc.oom_score_adjs() == {PID: 200, 20: 300}
    host.restore()
    assert host.proc.oom_score_adjs() == {PID: 5, 20: 5}


# Killed after any write


def killed_after(writes: int, work: Callable[[], None]) -> bool:
    """Do something in a child that ends, as if killed, after so many writes and renames; tell if it did."""
    child = os.fork()
    if child == 0:
        left = itertools.count(writes - 1, -1)

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **options: Any) -> Any:
                result = call(*arguments, **options)
                if next(left) == 0:
                    os._exit(9)
                return result

            return called

        try:
            os.write, os.pwrite, os.rename = dying(os.write), dying(os.pwrite), dying(os.rename)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return os.waitstatus_to_exitcode(status) == 9


PATHS = [(300,), (300, 200), (300, None), (300, 200, None), (300, 5, 60)]


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("then", ["restore", "by hand"])
def test_whatever_write_it_is_killed_after_every_original_is_found(
    tmp_path: Path, path: tuple[int | None, ...], then: str
) -> None:
    """And where none is to be restored, what an administrator sets next stays. None is a restore."""
    writes = 0
    is_killed = True
    while is_killed:
        writes += 1
        place = tmp_path / str(writes)
        host = Host(FakeProc(place / "proc"), open_state_folder(str(place / "state")))
        is_killed = killed_after(writes, partial(host.follow, path))
        if then == "restore":
            host.restore()
            assert host.values == START, f"after {writes} writes"
        else:
            open_hosts_ledger(host.folder, host.kernel).close()  # as the daemon does when it starts again
            if host.values == START:
                host.by_hand(300)
                host.restore()
                assert host.values == (300, 300, 0, 300), f"after {writes} writes"
        host.folder.close()
        host.kernel.close()
    assert writes > 10


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_whatever_write_it_is_killed_after_a_real_process_gets_its_value_back(
    tmp_path: Path, path: tuple[int | None, ...]
) -> None:
    """On the real kernel, where a value is written by one system call."""
    program = Program(tmp_path, f"og-facts-{os.getpid()}")
    procfs = Procfs()
    pid = program.start()
    try:
        own = oom_score_adj(pid)
        writes = 0
        is_killed = True
        while is_killed:
            writes += 1
            folder = open_state_folder(str(tmp_path / f"state-{writes}"))
            is_killed = killed_after(writes, partial(bring, procfs, folder, pid, *path))
            bring(procfs, folder, pid, None)
            assert oom_score_adj(pid) == own, f"after {writes} writes"
            folder.close()
        assert writes > 5
    finally:
        program.end()
        procfs.close()


def bring(procfs: Procfs, folder: StateFolder, pid: int, *path: int | None) -> None:
    """Bring one real process to values one after the other; None is its own."""
    name = Path(f"/proc/{pid}/comm").read_bytes().strip()
    for value in path:
        terms = Terms(Value("exact", 0 if value is None else value), trust="name")
        policy = Policy(rules=() if value is None else (Rule(0, (name,), terms, "p.yaml", 1),))
        ledger = open_hosts_ledger(folder, procfs)
        reconciler = Reconciler(policy, ledger, procfs)
        reconciler.process(pid, "policy" if policy.rules else "restore", 0.0, in_pass=True)
        ledger.close()


@pytest.mark.parametrize("fail_at", [0, 2, 3, 4])
def test_whatever_write_of_a_group_it_is_killed_after_all_of_it_is_restored(
    tmp_path: Path, fail_at: int
) -> None:
    """Limit, mode, a reserve and huge pages; also while they are taken back, as a write was denied."""
    writes = 0
    is_killed = True
    while is_killed:
        writes += 1
        place = tmp_path / str(writes)
        proc, folder = FakeProc(place / "proc"), open_state_folder(str(place / "state"))
        for name, value in GROUP_START.items():
            proc.sysctl(name, value)
        with closing(Failing(str(proc.root))) as kernel:
            kernel.fail_at = fail_at
            is_killed = killed_after(writes, partial(bring_group, kernel, folder, STRICT, Policy()))
            kernel.fail_at = 0
            bring_group(kernel, folder, Policy())
        assert proc.sysctls() == GROUP_START, f"after {writes} writes"
        folder.close()
    assert writes > 10


def bring_group(kernel: Procfs, folder: StateFolder, *policies: Policy) -> None:
    """Bring the sysctls to policies one after the other, with the ledger opened for each."""
    for policy in policies:
        ledger = open_hosts_ledger(folder, kernel)
        list(Reconciler(policy, ledger, kernel).sysctls("policy" if policy.sysctls else "restore", 0.0))
        ledger.close()
