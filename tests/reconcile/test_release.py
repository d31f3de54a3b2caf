"""A process is asked for its rule a last time before that is forgotten, whichever way it goes."""

from collections.abc import Callable

import pytest

from fakeproc import FakeProc
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

PROCESS = Process(Identity(50, 9), b"victim")
RULE = Rule(0, (b"victim",), Terms(Value("exact", 500)), "a.yaml", 1)


def look(reconciler: Reconciler) -> None:
    """Look at the process as it is now."""
    handle = reconciler.procfs.open(50)
    assert handle is not None
    with handle:
        reconciler.next_change(handle, "exec")


def die(reconciler: Reconciler, proc: FakeProc) -> None:
    """Have it dead, and not waited for."""
    proc.process(PROCESS, state="Z")
    look(reconciler)


def rename(reconciler: Reconciler, proc: FakeProc) -> None:
    """Give it another name."""
    proc.process(PROCESS._replace(comm=b"other"))
    look(reconciler)


def vanish(reconciler: Reconciler, _proc: FakeProc) -> None:
    """Have it gone when it is looked at."""
    reconciler.managed.on_exit(50)


def vanish_unseen(reconciler: Reconciler, _proc: FakeProc) -> None:
    """Have it gone at a pass."""
    reconciler.managed.keep_only(set())


def reload(reconciler: Reconciler, proc: FakeProc) -> None:
    """Take another policy, and then have the process gone: the hook outlives the policy."""
    reconciler.adopt(Policy(rules=(RULE,)))
    look(reconciler)
    vanish(reconciler, proc)


@pytest.mark.parametrize("way", [die, rename, vanish, vanish_unseen, reload])
def test_rule_is_known_until_the_last_moment(
    proc: FakeProc, procfs: Procfs, way: Callable[[Reconciler, FakeProc], None]
) -> None:
    """The kernel's log says who died after it happened; by then the process may have been looked at again."""
    proc.process(PROCESS)
    reconciler = Reconciler(Policy(rules=(RULE,)), Ledger(), procfs)
    look(reconciler)
    asked: list[int | None] = []
    reconciler.managed.before_release = lambda: asked.append(reconciler.managed.rule_of.get(50))
    look(reconciler)
    assert asked == []
    way(reconciler, proc)
    assert asked == [0]
    assert 50 not in reconciler.managed.rule_of


@pytest.mark.parametrize("is_reported", [False, True])
def test_rule_of_an_earlier_process_is_not_that_of_the_next_with_its_pid(
    proc: FakeProc, procfs: Procfs, *, is_reported: bool
) -> None:
    """Whether or not its fork is reported first: what the kernel killed was the earlier one."""
    proc.process(PROCESS)
    rules = (RULE, RULE._replace(number=1, names=(b"next",)))
    reconciler = Reconciler(Policy(rules=rules), Ledger(), procfs)
    reconciler.process(50, "start", 0.0)
    managed, asked = reconciler.managed, list[int | None]()
    managed.before_release = lambda: asked.append(managed.rule_of.get(50))
    proc.process(Process(Identity(50, 10), b"next"))
    if is_reported:
        managed.on_fork(1, 50, 1)
        assert (managed.rule_of, managed.matched) == ({}, 0)
    look(reconciler)
    assert (asked, managed.rule_of, managed.matched) == ([0], {50: 1}, 1)
