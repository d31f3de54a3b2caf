"""inotify on the real kernel, on ordinary folders and on /proc."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.core.process import Identity
from oomguard.kernel.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_MODIFY,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    Inotify,
)

DROP_CACHES = "/proc/sys/vm/drop_caches"
MAX_QUEUED_EVENTS = "/proc/sys/fs/inotify/max_queued_events"


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    """Return a queue that is closed at the end."""
    opened = Inotify()
    yield opened
    opened.close()


def raise_value(pid: int, value: int) -> None:
    """Write a process's value as somebody else would."""
    Path(f"/proc/{pid}/oom_score_adj").write_text(f"{value}\n")


def test_writes_and_renames_in_a_folder_are_told_by_name(inotify: Inotify, tmp_path: Path) -> None:
    """An in-place edit closes a written file; an editor's rename moves one in."""
    wd = inotify.add_watch(str(tmp_path), IN_CLOSE_WRITE | IN_MOVED_TO)
    (tmp_path / "policy.yaml").write_text("rules: []\n")
    (tmp_path / "policy.yaml").rename(tmp_path / "neu-ä.yaml")
    assert [(event.wd, event.mask, event.name) for event in inotify.read(timeout=0)] == [
        (wd, IN_CLOSE_WRITE, "policy.yaml"),
        (wd, IN_MOVED_TO, "neu-ä.yaml"),
    ]


def test_a_link_that_is_swapped_is_told_by_name(inotify: Inotify, tmp_path: Path) -> None:
    """As configuration tools switch versions: a new link is made and renamed over the one in use."""
    (tmp_path / "policy.yaml").symlink_to("version-1")
    wd = inotify.add_watch(str(tmp_path), IN_CREATE | IN_MOVED_TO)
    (tmp_path / "new").symlink_to("version-2")
    (tmp_path / "new").rename(tmp_path / "policy.yaml")
    found = [(event.wd, event.mask, event.name) for event in inotify.read(timeout=0)]
    assert found == [(wd, IN_CREATE, "new"), (wd, IN_MOVED_TO, "policy.yaml")]


def test_a_queue_that_runs_over_says_so(inotify: Inotify, tmp_path: Path) -> None:
    """Of no watch (-1), and last: what comes after it is told again once the queue was read."""
    with open(MAX_QUEUED_EVENTS) as file:
        most = int(file.read())
    if most > 100_000:
        pytest.skip(f"this machine queues {most} events")
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    wd, _ = inotify.add_watch(str(first), IN_ATTRIB), inotify.add_watch(str(second), IN_ATTRIB)
    for _ in range(most // 2 + 1):  # the same event twice in a row is told once
        os.utime(first)
        os.utime(second)
    events = []
    while batch := [*inotify.read_some()]:
        events += batch
    assert len(events) == most + 1
    assert events[-1][:2] == (-1, IN_Q_OVERFLOW)
    os.utime(first)
    assert [*inotify.read_some()] == [(wd, IN_ATTRIB, 0, 0)]


def test_reading_an_empty_queue_does_not_wait(inotify: Inotify) -> None:
    """There is nothing, and that is the answer."""
    assert not [*inotify.read_some()]


def test_a_foreign_write_to_oom_score_adj_is_told(inotify: Inotify, sleeper: Identity) -> None:
    """The kernel tells of writes to proc files made through the same mount."""
    fd = os.open(f"/proc/{sleeper.pid}/oom_score_adj", os.O_PATH)
    try:
        wd = inotify.add_descriptor(fd, IN_MODIFY)
        raise_value(sleeper.pid, 300)
        assert [found for found, *_ in inotify.read_some()] == [wd]
    finally:
        os.close(fd)


def is_told_after_dropping_caches(inotify: Inotify, pid: int, wd: int, value: int) -> bool:
    """Drop the kernel's caches, change the value, and return whether the watch said so.

    A dentry that was looked up lately, as any `ps` does, outlives one drop.
    """
    Path(DROP_CACHES).write_text("2\n")
    inotify.read_some()
    raise_value(pid, value)
    return [found for found, *_ in inotify.read_some()] == [wd]


@pytest.mark.skipif(
    not os.access(DROP_CACHES, os.W_OK), reason="dropping caches takes root on a writable /proc/sys"
)
@pytest.mark.parametrize("held", [True, False])
def test_a_watch_outlives_drop_caches_only_while_its_file_is_held(
    inotify: Inotify, sleeper: Identity, *, held: bool
) -> None:
    """Without the descriptor the dentry goes, and the watch with it: the reason that one is held."""
    fd = os.open(f"/proc/{sleeper.pid}/oom_score_adj", os.O_PATH)
    wd = inotify.add_descriptor(fd, IN_MODIFY)
    if not held:
        os.close(fd)
    told = [is_told_after_dropping_caches(inotify, sleeper.pid, wd, value) for value in range(400, 430)]
    assert told == [True] * 30 if held else not told[-1]
    if held:
        os.close(fd)


def test_a_watch_that_is_not_there_cannot_be_removed(inotify: Inotify) -> None:
    """The kernel's answer comes as an OSError."""
    with pytest.raises(OSError, match="Invalid argument"):
        inotify.rm_watch(4711)


def test_nothing_is_started_to_find_libc() -> None:
    """The package would search for it with a child process, and load the modules for that."""
    code = (
        "import sys; started = []\n"
        "sys.addaudithook(lambda event, _: started.append(event) if 'fork' in event or 'spawn' in event"
        " or event in ('subprocess.Popen', 'os.exec', 'os.system') else None)\n"
        "from oomguard.kernel.inotify import Inotify\n"
        "Inotify().close()\n"
        "assert not started, started\n"
        "assert not sys.modules.keys() & {'subprocess', 'shutil', 'ctypes.util'}\n"
        "import ctypes.util\n"
        "assert ctypes.util.__file__\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
