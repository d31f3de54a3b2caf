"""A restore while processes start: nobody keeps a value by being forked at the right moment."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fakeproc import FakeKernel, FakeProc
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.kernel.proc_files import GONE
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.once import LONGEST_SECONDS, repeat_until_quiet
from oomguard.reconcile.reconciler import Reconciler
from running import wait_until

PARENT = Identity(10, 10)
GIVEN = 300


class Forking(FakeKernel):
    """A tree whose process 10 forks a child behind each list of pids, with the value that it has then."""

    tree: FakeProc
    children = 0
    limit = 1_000_000
    lives = True

    def pids(self) -> list[int]:
        """Return the pids, and fork."""
        found = super().pids()
        if self.children < self.limit:
            self.children += 1
            child = Identity(100 + self.children, 1000)
            value = self.tree.oom_score_adj(PARENT.pid)
            if self.lives:
                self.tree.process(Process(child, b"worker", parent_pid=PARENT.pid, oom_score_adj=value))
            else:
                found.append(child.pid)
        return found


@pytest.fixture
def forking(proc: FakeProc) -> Iterator[Forking]:
    """Return the tree, with the parent as oomguard left it."""
    proc.process(Process(PARENT, b"worker", oom_score_adj=GIVEN))
    opened = Forking(str(proc.root))
    opened.tree = proc
    yield opened
    opened.close()


def restorer(procfs: Procfs) -> Reconciler:
    """Return what restores the parent."""
    ledger = Ledger()
    ledger.record(PARENT, Entry(0, GIVEN, None, 11))
    return Reconciler(Policy(), ledger, procfs)


def test_what_is_forked_behind_the_list_is_restored_as_well(proc: FakeProc, forking: Forking) -> None:
    """The first child has the value that its parent loses a moment later."""
    forking.limit = 5
    outcomes, is_complete = repeat_until_quiet(restorer(forking), "restore")
    assert is_complete
    assert [(outcome.result, outcome.change.after) for outcome in outcomes] == [("applied", 0)] * len(
        outcomes
    )
    assert len(outcomes) >= 2
    assert set(proc.oom_score_adjs().values()) == {0}


def test_it_gives_up_on_what_never_ends(forking: Forking) -> None:
    """On processes that start and end before they are examined: each may have forked one that lives."""
    forking.lives = False
    times = iter(range(10_000))
    _, is_complete = repeat_until_quiet(restorer(forking), "restore", lambda: float(next(times)))
    assert not is_complete
    assert next(times) <= 4 * LONGEST_SECONDS


def test_a_denied_change_is_reported_once_and_ends_it(proc: FakeProc, forking: Forking) -> None:
    """It would be denied in the next pass, too."""
    forking.limit = 0
    proc.sysctl("vm.swappiness", 10)
    reconciler = restorer(forking)
    reconciler.ledger.record("vm.swappiness", Entry(60, 10))

    def write(path: str, text: bytes) -> None:
        raise PermissionError(13, f"{path}: {text!r}")

    forking.write = write  # type: ignore[method-assign]
    outcomes, is_complete = repeat_until_quiet(reconciler, "restore")
    assert is_complete
    assert [outcome.result for outcome in outcomes] == ["denied", "applied"]


FORKER = """
import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
open("/proc/self/comm", "w").write("oomg-forker")
end = time.monotonic() + 20
print(flush=True)
while time.monotonic() < end:
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    time.sleep(0.001)
"""


def test_a_real_process_that_forks_all_the_time_leaves_none_behind() -> None:
    """About a thousand children a second, each for three seconds, on the real kernel."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKER], stdout=subprocess.PIPE, start_new_session=True
    ) as forker:
        assert forker.stdout is not None
        forker.stdout.readline()
        try:
            procfs = Procfs()
            handle = procfs.open(forker.pid)
            assert handle is not None
            with handle:
                own = handle.read_oom_score_adj()
                ledger = Ledger()
                ledger.record(handle.identity, Entry(own, 900, None, procfs.now_ticks()))
                handle.write_oom_score_adj(900)
            wait_until(lambda: values(procfs).count(900) > 20, "children with its value")
            outcomes, is_complete = repeat_until_quiet(Reconciler(Policy(), ledger, procfs), "restore")
            found = values(procfs)
            assert is_complete
            assert len(outcomes) > 20
            assert len(found) > 20
            assert set(found) == {own}
            procfs.close()
        finally:
            os.killpg(forker.pid, signal.SIGKILL)


def values(procfs: Procfs) -> list[int]:
    """Return the values of all processes that are called as the forker."""
    found = []
    for handle in procfs.processes():
        with suppress(*GONE):
            if handle.comm == b"oomg-forker":
                found.append(handle.read_oom_score_adj())
    return found
