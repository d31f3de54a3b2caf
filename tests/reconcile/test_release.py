"""A process is asked for its rule a last time before that is forgotten, whichever way it goes."""

from collections.abc import Callable

import pytest

from fakeproc import FakeProc
from oomguard.core.policy import Policy, Rule, Terms, Value
from oomguard.core.process import Identity, Process
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.planner import Planner

PROCESS = Process(Identity(50, 9), b"victim")
RULE = Rule(0, (b"victim",), Terms(Value("exact", 500)), "a.yaml", 1)


def look(planner: Planner) -> None:
    """Look at the process as it is now."""
    handle = planner.procfs.open(50)
    assert handle is not None
    with handle:
        planner.process_change(handle, "exec")


def die(planner: Planner, proc: FakeProc) -> None:
    """Have it dead, and not waited for."""
    proc.process(PROCESS, state="Z")
    look(planner)


def rename(planner: Planner, proc: FakeProc) -> None:
    """Give it another name."""
    proc.process(PROCESS._replace(comm=b"other"))
    look(planner)


def vanish(planner: Planner, _proc: FakeProc) -> None:
    """Have it gone when it is looked at."""
    planner.forget(50)


def vanish_unseen(planner: Planner, _proc: FakeProc) -> None:
    """Have it gone at a pass."""
    planner.forget_all_but(set())


@pytest.mark.parametrize("way", [die, rename, vanish, vanish_unseen])
def test_rule_is_known_until_the_last_moment(
    proc: FakeProc, procfs: Procfs, way: Callable[[Planner, FakeProc], None]
) -> None:
    """The kernel's log says who died after it happened; by then the process may have been looked at again."""
    proc.process(PROCESS)
    planner = Planner(Policy(rules=(RULE,)), Ledger(), procfs)
    look(planner)
    asked: list[int | None] = []
    planner.before_release = lambda: asked.append(planner.rule_of.get(50))
    look(planner)
    assert asked == []
    way(planner, proc)
    assert asked == [0]
    assert 50 not in planner.rule_of
