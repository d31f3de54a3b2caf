"""Which processes are in a container."""

import os
import tracemalloc

import pytest

from fakeproc import FakeProc
from oomguard.core.process import Identity, Process
from oomguard.kernel.container import Containers
from oomguard.kernel.procfs import ProcessHandle, Procfs

SHIM, INIT, INNER = 20, 21, 22
RUNTIME, CONTAINER = "/system.slice/containerd.service", "/system.slice/docker-1.scope"


def container(proc: FakeProc) -> None:
    """Run a container with a service manager, which makes cgroups of its own, and the runtime."""
    proc.process(Process(Identity(SHIM, 1), b"shim", cgroup=RUNTIME))
    proc.process(Process(Identity(INIT, 1), b"init", parent_pid=SHIM, cgroup=CONTAINER), namespaces=2)
    inner = Process(Identity(INNER, 1), b"x", parent_pid=INIT, cgroup=f"{CONTAINER}/system.slice/x.service")
    proc.process(inner, namespaces=2)


def in_container(procfs: Procfs, pid: int) -> bool | None:
    """Return what the handle says."""
    handle = procfs.open(pid)
    assert handle is not None
    with handle:
        return handle.in_container


def test_a_containers_processes_are_told_by_its_first(proc: FakeProc, procfs: Procfs) -> None:
    """Wherever they live in there; and so is what entered it from outside."""
    container(proc)
    entered = Process(Identity(23, 1), b"exec", parent_pid=SHIM, cgroup=CONTAINER)
    proc.process(entered, namespaces=2)
    sandbox = Process(
        Identity(24, 1), b"chromium", parent_pid=INNER, cgroup=f"{CONTAINER}/system.slice/x.service"
    )
    proc.process(sandbox, namespaces=3)
    assert [in_container(procfs, pid) for pid in (SHIM, INIT, INNER, 23, 24)] == [
        False,
        True,
        True,
        True,
        True,
    ]


def test_containers_that_come_and_go_for_months_take_little_memory() -> None:
    """Nothing says when their processes end."""
    containers = Containers()
    tracemalloc.start()
    try:
        for number in range(20_000):
            containers._remember({300_000 + number: 4_000_000 + number})
            assert containers._known
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


def test_who_enters_a_container_and_stays_in_his_cgroup_is_not_in_it(proc: FakeProc, procfs: Procfs) -> None:
    """As nsenter(1) does; what it starts is judged by it."""
    container(proc)
    session = "/user.slice/user-1000.slice/session-1.scope"
    proc.process(Process(Identity(30, 1), b"nsenter", cgroup=session))
    proc.process(Process(Identity(31, 1), b"sh", parent_pid=30, cgroup=session), namespaces=2)
    proc.process(Process(Identity(32, 1), b"x", parent_pid=31, cgroup=session), namespaces=2)
    assert not in_container(procfs, 31)
    assert not in_container(procfs, 32)


def test_root_makes_containers_with_cgroups_that_belong_to_their_own_root(
    proc: FakeProc, procfs: Procfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As unprivileged LXC and `systemd-nspawn -U` do. A user's, or a setuid program's, is a sandbox."""
    monkeypatch.setattr(procfs.cgroups, "are_roots", lambda _path: False)
    payload = "/lxc.payload.web/init.scope"
    makers = (
        Process(Identity(40, 1), b"[lxc monitor]", cgroup="/lxc.monitor.web"),
        Process(Identity(50, 1), b"bwrap", uid=1000, cgroup="/lxc.monitor.web"),
        Process(Identity(70, 1), b"mapped", in_user_namespace=True, cgroup="/lxc.monitor.web"),
    )
    for maker in makers:
        proc.process(maker)
        pid = maker.identity.pid + 1
        init = Process(Identity(pid, 1), b"init", parent_pid=maker.identity.pid, uid=100_000, cgroup=payload)
        proc.process(init, namespaces=2)
    assert [in_container(procfs, pid) for pid in (41, 51, 71)] == [True, False, False]


def test_a_tree_made_to_mislead_is_followed_for_a_while_only(proc: FakeProc, procfs: Procfs) -> None:
    """Too deep, in a circle, or without a parent: none is a container."""
    container(proc)
    for pid in range(100, 300):
        parent = INIT if pid == 100 else pid - 1
        proc.process(Process(Identity(pid, 1), b"x", parent_pid=parent, cgroup="/a"), namespaces=2)
    assert not in_container(procfs, 170)
    assert in_container(procfs, 110)
    assert in_container(procfs, 170), "followed to one that is known by now"
    assert not in_container(procfs, 299)
    opened: set[int] = set()
    handle, one = procfs.open(299), Containers()
    assert handle is not None
    with handle:

        def open_process(pid: int) -> ProcessHandle | None:
            opened.add(len(os.listdir("/proc/self/fd")))
            return procfs.open(pid)

        before = len(os.listdir("/proc/self/fd"))
        assert not one.hold(handle, open_process)
    assert max(opened) <= before + 1, "an ancestor is held open only until its parent is"
    proc.process(Process(Identity(400, 1), b"x", parent_pid=401), namespaces=2)
    proc.process(Process(Identity(401, 1), b"x", parent_pid=400), namespaces=2)
    proc.process(Process(Identity(402, 1), b"x", parent_pid=999), namespaces=2)
    assert in_container(procfs, 400) is in_container(procfs, 402) is None
