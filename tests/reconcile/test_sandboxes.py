"""PID namespaces and cgroups that anybody can make, and those of containers, on the real kernel."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from oomguard.core.policy import Policy
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.slow_reads import patient_reads
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from running import wait_until

PERSON = 23456
NAME = "oomg-sandboxed"
RULE = Rule(0, (NAME.encode(),), Terms(Value("exact", 800)), "p.yaml", 1)

CODE = f"import time; open('/proc/self/comm', 'w').write({NAME!r}); time.sleep(60)"
AS_PERSON = ["setpriv", f"--reuid={PERSON}", f"--regid={PERSON}", "--clear-groups"]
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
PYTHON = ["/usr/bin/python3", "-c"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes cgroups and users' processes, as root can")


class Stage:
    """Programs in namespaces and cgroups."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.procfs = Procfs(slow_reads=patient_reads())
        stack.callback(self.procfs.close)
        self._made = 0

    def cgroup(self, below: Path | None = None, *, owner: int = 0) -> Path:
        """Make a cgroup."""
        self._made += 1
        folder = (below or self._mount()) / f"oomguard-test-{os.getpid()}-{self._made}"
        folder.mkdir()
        self._stack.callback(folder.rmdir)
        self._stack.callback(wait_until, lambda: not (folder / "cgroup.procs").read_text(), "an empty cgroup")
        os.chown(folder, owner, owner)
        return folder

    def _mount(self) -> Path:
        mount = self.procfs.cgroups.mount
        if mount is None or not os.access(mount, os.W_OK):
            pytest.skip("cannot make a cgroup here")
        return Path(mount)

    def users_manager(self) -> Path:
        """Make the cgroup of the person's service manager."""
        folder = self._mount()
        for name in ("user.slice", f"user-{PERSON}.slice", f"user@{PERSON}.service"):
            folder /= name
            if not folder.exists():
                folder.mkdir()
                self._stack.callback(folder.rmdir)
        os.chown(folder, PERSON, PERSON)
        return folder

    def run(self, command: list[str], *, within: Path | None = None, inner: Path | None = None) -> int:
        """Run a command and return the pid of the process called NAME, below it or itself.

        It starts in the cgroup `within`; `inner` is where a runtime then puts the process.
        """
        if within is not None:
            command = ["sh", "-c", f'echo 0 > {within}/cgroup.procs; exec "$@"', "sh", *command]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        wait_until(lambda: process.poll() is not None or self._named(process.pid) != 0, f"{command}")
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.skip(f"does not run here: {process.stderr.read().decode().strip()}")
        pid = self._named(process.pid)
        self._stack.callback(os.kill, pid, 9)
        if inner is not None:
            (inner / "cgroup.procs").write_text(str(pid))
        return pid

    def _named(self, pid: int) -> int:
        try:
            if Path(f"/proc/{pid}/comm").read_text() == f"{NAME}\n":
                return pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0
        return next((found for child in children if (found := self._named(int(child)))), 0)

    def deep_cgroup(self, top: Path) -> int:
        """Make a cgroup whose path is longer than the kernel prints; return where pids are written."""
        name = "x" * 250
        at = os.open(top, os.O_RDONLY)
        self._stack.callback(os.close, at)
        for _ in range(17):
            os.mkdir(name, dir_fd=at)
            self._stack.callback(os.rmdir, name, dir_fd=at)
            at = os.open(name, os.O_RDONLY, dir_fd=at)
            self._stack.callback(os.close, at)
        procs = os.open("cgroup.procs", os.O_RDWR, dir_fd=at)
        self._stack.callback(os.close, procs)
        self._stack.callback(wait_until, lambda: not os.pread(procs, 99, 0), "an empty cgroup")
        return procs

    def value(self, pid: int, rule: Rule = RULE) -> int | None:
        """Return what the rule sets the process to; None if it leaves it alone, or must."""
        reconciler = Reconciler(Policy(rules=(rule,)), Ledger(), self.procfs)
        handle = self.procfs.open(pid)
        assert handle is not None
        with handle:
            change = reconciler.next_change(handle, "start")
        return None if change is None or change.obstacle is not None else change.after


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Return an empty stage."""
    with ExitStack() as stack:
        yield Stage(stack)


def test_nobody_leaves_a_raising_rule_by_a_namespace(stage: Stage) -> None:
    """Neither one known by name nor one known by user."""
    pid = stage.run([*AS_PERSON, "unshare", "-Ur", *UNSHARE[1:], *PYTHON, CODE])
    assert stage.value(pid) == 800
    by_user = RULE._replace(names=(), terms=RULE.terms._replace(users=("p",), uids=(PERSON,)))
    assert stage.value(pid, by_user) == 800


def test_nor_by_a_namespace_within_a_namespace(stage: Stage) -> None:
    """However deep, and whoever of its makers is in a cgroup of root's."""
    deep = [*AS_PERSON, "unshare", "-Ur", *UNSHARE[1:], *UNSHARE, *UNSHARE, *PYTHON, CODE]
    assert stage.value(stage.run(deep, within=stage.cgroup())) == 800


def test_what_a_runtime_put_into_a_cgroup_is_a_container(stage: Stage) -> None:
    """Its maker stays outside. Only a rule with `containers: true` is for it."""
    pid = stage.run([*UNSHARE, *PYTHON, CODE], inner=stage.cgroup())
    assert stage.value(pid) is None
    assert stage.value(pid, RULE._replace(terms=RULE.terms._replace(containers=True))) == 800


def test_a_containers_child_and_its_sandbox_are_in_the_container(stage: Stage) -> None:
    """The namespace's first process tells of the former, its maker of the latter."""
    container = stage.cgroup()
    runtime = [*UNSHARE, "sh", "-c", f'echo 0 > {container}/cgroup.procs; "$@"; true', "sh"]
    assert stage.value(stage.run([*runtime, *PYTHON, CODE])) is None
    assert stage.value(stage.run([*runtime, *UNSHARE, *PYTHON, CODE])) is None


def test_a_cgroup_below_a_users_is_no_containers(stage: Stage) -> None:
    """As a service with Delegate= and User= makes them, and rootless runtimes; root gives containers such."""
    inner = stage.cgroup(stage.cgroup(owner=PERSON))
    rootless = [*AS_PERSON, "unshare", "-Ur", *UNSHARE[1:], *PYTHON, CODE]
    assert stage.value(stage.run(rootless, inner=inner)) == 800
    assert stage.value(stage.run([*UNSHARE, *PYTHON, CODE], inner=inner)) is None


def test_an_orphan_is_no_container(stage: Stage) -> None:
    """Whoever ends the maker of a namespace makes no runtime of init."""
    pid = stage.run([*UNSHARE[:3], *PYTHON, CODE], inner=stage.cgroup())
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(parent, 9)
    wait_until(lambda: f"\nPPid:\t{parent}\n" not in Path(f"/proc/{pid}/status").read_text(), "an orphan")
    if "\nPPid:\t1\n" not in Path(f"/proc/{pid}/status").read_text():
        pytest.skip("orphans have another parent than init here")
    assert stage.value(pid) == 800
    protecting = RULE._replace(terms=RULE.terms._replace(value=Value("exact", -1)))
    assert stage.value(pid, protecting) is None, "it may be a container's root that lost its runtime"


def test_a_container_stays_one_when_its_runtime_ends(stage: Stage) -> None:
    """What was a container once is one for as long as it lives."""
    pid = stage.run([*UNSHARE[:3], *PYTHON, CODE], inner=stage.cgroup())
    assert stage.value(pid) is None
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(parent, 9)
    wait_until(lambda: f"\nPPid:\t{parent}\n" not in Path(f"/proc/{pid}/status").read_text(), "an orphan")
    assert stage.value(pid) is None


def test_nobody_leaves_a_raising_rule_by_a_cgroup_too_deep_to_be_read(stage: Stage) -> None:
    """The kernel prints no path of over 4,095 bytes: it cuts it, or before 6.18 or so says ENAMETOOLONG."""
    users = stage.users_manager()
    deep = stage.deep_cgroup(users)
    pid = stage.run([*AS_PERSON, *PYTHON, CODE])
    os.write(deep, str(pid).encode())
    with suppress(OSError):
        assert all(len(line) < 4200 for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    terms = RULE.terms._replace(units=(f"user@{PERSON}.service",))
    assert stage.value(pid, RULE._replace(names=(), terms=terms)) == 800
    terms = RULE.terms._replace(cgroups=("/user.slice/*",), value=Value("exact", -1))
    assert stage.value(pid, RULE._replace(terms=terms)) is None
    assert stage.value(pid) == 800
