"""Real processes that move between real cgroups, under a rule that raises by `cgroup`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from oomguard.core.policy import Policy
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

USER = 23456
NAME = f"oomguard-test-{os.getpid()}"
MOVER = f"""
import os, sys
os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER})
for line in sys.stdin:
    if line.strip():
        open(line.strip(), "w").write(str(os.getpid()))
    print("done", flush=True)
"""


class Mover:
    """A user's program that writes its pid to each file named on its standard input."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-c", MOVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._program.pid
        self.move("")

    def move(self, tasks: Path | str) -> None:
        """Have it write its pid to a file; nothing if there is none."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{tasks}\n")
        self._program.stdin.flush()
        assert self._program.stdout.readline() == "done\n"

    def end(self) -> None:
        """End it."""
        with self._program:
            self._program.kill()


@contextmanager
def cgroups(mount: str) -> Iterator[tuple[Path, Path, Path]]:
    """Make two cgroups of the user's, below one that is, too; and one of root's."""
    top, roots = Path(mount, NAME), Path(mount, f"{NAME}-roots")
    made = [top, top / "in", top / "out", roots]
    try:
        for folder in made:
            folder.mkdir()
        for folder in made[:3]:
            os.chown(folder, USER, USER)
            os.chown(folder / "cgroup.procs", USER, USER)
        yield made[1], made[2], roots
    finally:
        for folder in reversed(made):
            with suppress(FileNotFoundError):
                folder.rmdir()


@pytest.fixture
def procfs() -> Iterator[Procfs]:
    """Open the real /proc."""
    opened = Procfs()
    yield opened
    opened.close()


def test_a_process_leaves_a_raising_rule_if_root_moves_it_and_not_by_moving_itself(procfs: Procfs) -> None:
    """The owners of the cgroups' folders tell who can have moved it."""
    mount = procfs.cgroups.mount
    if os.geteuid() != 0 or mount is None or not os.access(mount, os.W_OK):
        pytest.skip("making cgroups takes root, and a writable hierarchy")
    rule = Rule(0, (), Terms(Value("exact", 700), cgroups=(f"/{NAME}/in",)), "p", 1)
    reconciler = Reconciler(Policy(rules=(rule,)), Ledger(), procfs)
    with cgroups(mount) as (inside, outside, roots):
        mover = Mover()
        value = Path(f"/proc/{mover.pid}/oom_score_adj")
        before = value.read_text()
        try:
            (inside / "cgroup.procs").write_text(str(mover.pid))
            assert reconciler.process(mover.pid, "exec", 0.0) is not None
            assert value.read_text() == "700\n"
            mover.move(outside / "cgroup.procs")
            assert f"/{NAME}/out\n" in Path(f"/proc/{mover.pid}/cgroup").read_text()
            assert reconciler.process(mover.pid, "resync", 1.0, in_pass=True) is None
            value.write_text(before)
            assert reconciler.process(mover.pid, "resync", 2.0, in_pass=True) is not None
            assert value.read_text() == "700\n"
            (roots / "cgroup.procs").write_text(str(mover.pid))
            assert reconciler.process(mover.pid, "resync", 3.0, in_pass=True) is not None
            assert value.read_text() == before
        finally:
            mover.end()
