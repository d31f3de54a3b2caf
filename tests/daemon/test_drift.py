"""Foreign writes to kept values, on the real kernel."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.core.process import Identity
from oomguard.daemon.drift import Drift, DriftWatch
from oomguard.kernel.inotify import Inotify
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import write_sysctl

DROP_CACHES = "/proc/sys/vm/drop_caches"
MAX_QUEUED_EVENTS = "/proc/sys/fs/inotify/max_queued_events"
SWAPPINESS = Path("/proc/sys/vm/swappiness")


@pytest.fixture
def drift() -> Iterator[DriftWatch]:
    """Return a watch over the real /proc."""
    procfs = Procfs()
    watch = DriftWatch(procfs)
    assert watch.open()
    yield watch
    watch.close()
    procfs.close()


def write_value(pid: int, value: int) -> None:
    """Write a process's value as somebody else would."""
    Path(f"/proc/{pid}/oom_score_adj").write_text(f"{value}\n")


def test_a_write_names_the_process(drift: DriftWatch, sleeper: Identity) -> None:
    """The daemon then looks at that process alone."""
    drift.watch_process(sleeper)
    write_value(sleeper.pid, 300)
    assert drift.read() == (False, {sleeper.pid}, False)


def test_more_writes_than_the_kernel_queues_are_told(drift: DriftWatch, sleeper: Identity) -> None:
    """Equal events in a row are one, so two processes take turns."""
    with subprocess.Popen(["sleep", "60"]) as other:
        files = []
        for pid in (sleeper.pid, other.pid):
            process = drift._procfs.identity(pid)
            assert process is not None
            drift.watch_process(process)
            files.append(os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY))
        for turn in range(int(Path(MAX_QUEUED_EVENTS).read_text()) + 1):
            os.pwrite(files[turn % 2], b"300", 0)
        for file in files:
            os.close(file)
        other.kill()
    assert any(drift.read().lost for _ in range(1000))


def test_a_denied_write_of_our_own_wakes_nobody(drift: DriftWatch, sleeper: Identity) -> None:
    """Or each would lead to another, and a value that cannot be written would take a whole processor."""
    procfs = Procfs()
    drift.watch_process(sleeper)
    handle = procfs.open(sleeper.pid)
    assert handle is not None
    with handle, pytest.raises(OSError, match="Invalid argument"):
        handle.write_oom_score_adj(2000)
    if os.access(SWAPPINESS, os.W_OK):
        drift.watch_sysctls({"vm.swappiness"})
        with pytest.raises(OSError, match="Invalid argument"):
            write_sysctl(procfs, "vm.swappiness", -1)
    assert drift.read() == (False, set(), False)
    procfs.close()


@pytest.mark.skipif(
    not os.access(DROP_CACHES, os.W_OK), reason="dropping caches takes root on a writable /proc/sys"
)
def test_watches_outlive_drop_caches(drift: DriftWatch, sleeper: Identity) -> None:
    """The kernel drops dentries that nothing holds, and watches with them; these are held."""
    drift.watch_process(sleeper)
    drift.watch_sysctls(["vm.swappiness"])
    Path(DROP_CACHES).write_text("2\n")
    write_value(sleeper.pid, 300)
    SWAPPINESS.write_text(SWAPPINESS.read_text())
    assert drift.read() == (True, {sleeper.pid}, False)


@pytest.mark.skipif(not os.access(SWAPPINESS, os.W_OK), reason="needs root and a writable /proc/sys")
def test_a_write_to_the_partner_of_a_sysctl_is_noticed(drift: DriftWatch) -> None:
    """It zeroes the sysctl, whose own file shows no write."""
    ratio, size = Path("/proc/sys/vm/dirty_background_ratio"), Path("/proc/sys/vm/dirty_background_bytes")
    in_force, zeroed = (ratio, size) if int(ratio.read_text()) else (size, ratio)
    drift.watch_sysctls([f"vm.{zeroed.name}"])
    in_force.write_text(in_force.read_text())
    assert drift.read().sysctls


def test_a_process_is_watched_once(drift: DriftWatch, sleeper: Identity) -> None:
    """Asking again changes nothing."""
    drift.watch_process(sleeper)
    drift.watch_process(sleeper)
    assert drift.processes == 1


def test_a_recycled_pid_is_watched_anew(drift: DriftWatch, sleeper: Identity) -> None:
    """The old watch hangs on a process that is gone, and would never tell anything."""
    drift.watch_process(Identity(sleeper.pid, 1))
    drift.watch_process(sleeper)
    write_value(sleeper.pid, 300)
    assert drift.processes == 1
    assert drift.read().pids == {sleeper.pid}


def test_a_process_that_is_gone_is_not_watched(drift: DriftWatch) -> None:
    """It may end between any two steps."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    drift.watch_process(Identity(process.pid, 1))
    assert drift.processes == 0


def test_a_process_that_is_hidden_is_not_watched(
    drift: DriftWatch, sleeper: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hidepid=1, one that has just become another user's."""

    def hidden(*_: object, **__: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "open", hidden)
    drift.watch_process(sleeper)
    assert drift.processes == 0
    assert not drift.full


def test_the_dead_are_let_go(drift: DriftWatch, sleeper: Identity) -> None:
    """Their descriptors are closed, one process after the other: thousands at once would take 0.1 s."""
    before = len(os.listdir("/proc/self/fd"))
    drift.watch_process(sleeper)
    assert drift.others(dict([sleeper])) == []
    assert drift.others({}) == drift.others({sleeper.pid: 0}) == [sleeper.pid]
    drift.forget(sleeper.pid)
    drift.forget(sleeper.pid)
    assert drift.processes == 0
    assert len(os.listdir("/proc/self/fd")) == before
    assert drift.read() == Drift(sysctls=False, pids=set(), lost=False), "nobody wrote anything"


def test_sysctls_no_longer_kept_are_let_go(drift: DriftWatch) -> None:
    """A policy without them has no use for their watches."""
    drift.watch_sysctls(["vm.swappiness", "vm.panic_on_oom"])
    drift.watch_sysctls(["vm.swappiness"])
    assert len(drift) == 1


def test_running_out_of_descriptors_is_told_and_survived(drift: DriftWatch, sleeper: Identity) -> None:
    """The pass finds what cannot be watched; nothing is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        drift.watch_process(sleeper)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "no file descriptor is left" in drift.full
    drift.retry()
    assert drift.full == ""


def test_running_out_of_watches_is_told_and_survived(
    drift: DriftWatch, sleeper: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel answers ENOSPC at fs.inotify.max_user_watches, which all of root's programs share."""

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "add_descriptor", no_room)
    before = len(os.listdir("/proc/self/fd"))
    drift.watch_process(sleeper)
    assert "max_user_watches" in drift.full
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_user_can_multiply_takes_no_watch_from_what_is_protected(
    drift: DriftWatch, sleeper: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor from a sysctl: where there are no more watches, the oldest of what is only raised is given up."""
    room = 2
    add, remove = Inotify.add_descriptor, Inotify.rm_watch

    def add_if_room(inotify: Inotify, fd: int, mask: int) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room -= 1
        return add(inotify, fd, mask)

    def remove_and_make_room(inotify: Inotify, wd: int) -> None:
        nonlocal room
        room += 1
        remove(inotify, wd)

    monkeypatch.setattr(Inotify, "add_descriptor", add_if_room)
    monkeypatch.setattr(Inotify, "rm_watch", remove_and_make_room)
    own = Procfs().identity(os.getpid())
    assert own is not None
    parent = Procfs().identity(os.getppid())
    assert parent is not None
    drift.watch_process(sleeper)
    drift.watch_process(own)
    drift.watch_process(parent)
    assert "max_user_watches" in drift.full
    assert not drift.watches(parent.pid)
    drift.watch_process(parent, yields=False)
    assert [drift.watches(one.pid) for one in (sleeper, own, parent)] == [False, True, True]
    drift.watch_sysctls(["vm.swappiness"])
    assert [drift.watches(one.pid) for one in (own, parent)] == [False, True]
    assert len(drift) == 2
