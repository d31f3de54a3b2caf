"""The state folder: whose it is, who may write, and what is never followed."""

import errno
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mounts import read_only
from oomguard.core.entry import Entry
from oomguard.core.errors import OomguardError
from oomguard.core.process import Identity
from oomguard.diagnose.this_host import ThisHost
from oomguard.reconcile.ledger import open_ledger, read_ledger
from oomguard.reconcile.state_folder import (
    StateFolder,
    find_state_folder,
    how_to_stop,
    open_state_folder,
    require_state_folder,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")


def test_it_is_made_for_everyone_to_read_and_its_owner_to_write(tmp_path: Path) -> None:
    """Parents, too, whatever the umask allows beyond that."""
    before = os.umask(0)
    try:
        opened = open_state_folder(str(tmp_path / "deep" / "state"))
    finally:
        os.umask(before)
    assert opened is not None
    for folder in (tmp_path / "deep", tmp_path / "deep" / "state"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert os.umask(0o022) == 0o022
    opened.close()


def test_one_that_is_not_there_is_none_to_a_reader(tmp_path: Path) -> None:
    """And is not made."""
    assert find_state_folder(str(tmp_path / "state")) is None
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_one_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Its ledger decides what restore writes."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(
        OomguardError, match=f"mode {mode:04o} makes the state folder writable by others"
    ) as caught:
        open_state_folder(str(tmp_path / "state"))
    assert "chmod 755" in caught.value.hint


@needs_root
def test_one_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Even if it is root who asks."""
    (tmp_path / "state").mkdir(mode=0o755)
    os.chown(tmp_path / "state", 65534, -1)
    with pytest.raises(OomguardError, match="must belong to uid 0, got uid 65534") as caught:
        open_state_folder(str(tmp_path / "state"))
    assert caught.value.hint == "run this as uid 65534, or use another --state-dir"


def test_a_file_in_its_place_is_an_error_to_read(tmp_path: Path) -> None:
    """No traceback."""
    (tmp_path / "state").write_text("")
    with pytest.raises(OomguardError, match="cannot use it as the state folder") as caught:
        open_state_folder(str(tmp_path / "state"))
    assert "--state-dir" in caught.value.hint


def test_there_is_one_writer(folder: StateFolder) -> None:
    """The second is told which process is the first, and the way out."""
    folder.lock()
    second = open_state_folder(folder.path)
    assert second is not None
    with pytest.raises(OomguardError, match=f"already runs here, as pid {os.getpid()}") as caught:
        second.lock()
    assert caught.value.hint == f"stop the daemon first: kill {os.getpid()}"
    second.close()


@pytest.mark.parametrize(
    ("cgroup", "command"),
    [
        ("0::/system.slice/oomguard.service\n", "systemctl stop oomguard"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "kill 812"),
        (None, "systemctl stop oomguard"),
    ],
)
def test_how_to_stop_a_daemon_depends_on_what_runs_it(
    cgroup: str | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one in the host's own folder that somebody started in a terminal."""
    if cgroup is not None:
        (tmp_path / "812").mkdir()
        (tmp_path / "812" / "cgroup").write_text(cgroup)
    monkeypatch.setattr("oomguard.reconcile.state_folder._PROC", str(tmp_path))
    assert how_to_stop("812") == command


def test_a_lock_ends_with_its_holder(folder: StateFolder) -> None:
    """However that ends; what is left of its file does not matter."""
    code = (
        "import os, signal, sys; from oomguard.reconcile.state_folder import open_state_folder;"
        "open_state_folder(sys.argv[1]).lock(); print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code, folder.path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(OomguardError, match=f"as pid {holder.pid}"):
            folder.lock()
        holder.kill()
    folder.lock()
    assert (Path(folder.path) / "lock").read_text() == f"{os.getpid()}\n"


def test_a_file_system_without_locks_is_said(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as NFS without its lock daemon."""

    def no_locks(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(OomguardError, match="lock: cannot be locked: No locks available") as caught:
        folder.lock()
    assert caught.value.hint == "use another --state-dir, on a local file system"
    assert os.listdir("/proc/self/fd") == descriptors


@pytest.mark.parametrize("name", ["lock", "ledger"])
def test_a_symbolic_link_is_not_followed(folder: StateFolder, tmp_path: Path, name: str) -> None:
    """It is an error that says so, and its target stays as it is."""
    target = tmp_path / "target"
    target.write_text("precious")
    (Path(folder.path) / name).symlink_to(target)
    with pytest.raises(OomguardError, match=f"{name}: is a symbolic link") as caught:
        if name == "lock":
            folder.lock()
        else:
            open_ledger(folder, boot_id="", is_alive=lambda _: True)
    assert "remove" in caught.value.hint
    assert target.read_text() == "precious"
    if name == "ledger":
        with pytest.raises(OomguardError, match="is a symbolic link"):
            read_ledger(folder, boot_id="")


def test_a_link_where_the_new_ledger_is_written_is_not_followed(folder: StateFolder, tmp_path: Path) -> None:
    """Neither is the one beside it."""
    target = tmp_path / "target"
    target.write_text("precious")
    (Path(folder.path) / ".ledger.new").symlink_to(target)
    with pytest.raises(OomguardError, match="ledger: cannot be written"):
        open_ledger(folder, boot_id="", is_alive=lambda _: True)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["lock", "ledger"])
def test_a_folder_in_the_place_of_a_file_is_an_error_to_read(folder: StateFolder, name: str) -> None:
    """No traceback."""
    (Path(folder.path) / name).mkdir()
    with pytest.raises(OomguardError, match=f"{name}: cannot be used: Is a directory"):
        if name == "lock":
            folder.lock()
        else:
            open_ledger(folder, boot_id="", is_alive=lambda _: True)


def test_a_file_is_replaced_as_a_whole(folder: StateFolder) -> None:
    """Who holds the old one reads it to its end; nothing is left beside the new one."""
    folder.replace("status.json", b"old", mode=0o644)
    path = Path(folder.path) / "status.json"
    with path.open("rb") as old:
        folder.replace("status.json", b"new" * 100_000, mode=0o644)
        assert old.read() == b"old"
    assert folder.read("status.json") == b"new" * 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(folder.path) == ["status.json"]


def test_a_file_that_is_not_there_reads_as_none_and_needs_no_removing(folder: StateFolder) -> None:
    """Both are what is to be expected of a first start."""
    assert folder.read("status.json") is None
    folder.remove("status.json")


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: read_ledger(folder, boot_id=""),
        lambda folder: ThisHost(folder.path).read_status(),
    ],
)
def test_a_file_without_end_is_an_error(folder: StateFolder, read: Callable[[StateFolder], object]) -> None:
    """A user's daemon has a folder of its own, which root may ask for; a hole takes no space."""
    for name in ("ledger", "status.json"):
        with open(f"{folder.path}/{name}", "wb") as file:
            file.truncate(1 << 40)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, limits[1]))  # so that a failure harms nobody
    try:
        with pytest.raises(OomguardError, match="cannot be used: File too large"):
            read(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("name", ["lock", "ledger", "status.json"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_an_error_and_keeps_nobody_waiting(
    folder: StateFolder, name: str, kind: str
) -> None:
    """A FIFO without a writer would block whoever opens it to read, one without a reader a writer."""
    path = f"{folder.path}/{name}"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: it has no end
        except PermissionError:
            pytest.skip("no devices can be made here")
    signal.alarm(20)
    try:
        if name == "lock":
            with suppress(OomguardError):
                folder.lock()  # a lock needs no content
        else:
            with pytest.raises(OomguardError, match=r"is not a regular file|cannot be used"):
                folder.read(name)
        if name == "ledger":
            with pytest.raises(OomguardError, match=r"is not a regular file|cannot be used"):
                open_ledger(folder, boot_id="", is_alive=lambda _: True)
        if name == "status.json":
            folder.replace(name, b"x")
            assert folder.read(name) == b"x"
    finally:
        signal.alarm(0)


def test_a_folder_that_was_removed_is_made_anew(folder: StateFolder) -> None:
    """For everyone to read, whatever the umask, and locked as it was."""
    folder.lock()
    shutil.rmtree(folder.path)
    before = os.umask(0o077)
    try:
        folder.replace("status.json", b"x", mode=0o644)
    finally:
        os.umask(before)
    assert Path(folder.path, "status.json").read_bytes() == b"x"
    assert stat.S_IMODE(Path(folder.path).stat().st_mode) == 0o755
    second = open_state_folder(folder.path)
    with pytest.raises(OomguardError, match="already runs here"):
        second.lock()
    second.close()


@pytest.mark.parametrize("place", ["a file", "another writer", "a folder that others may write"])
def test_a_folder_that_cannot_be_made_anew_is_an_error_of_its_own(folder: StateFolder, place: str) -> None:
    """Not one that looks as if a process had ended; and what is there by now is left alone."""
    folder.lock()
    shutil.rmtree(folder.path)
    other = None
    if place == "a file":
        Path(folder.path).write_text("x")
    elif place == "another writer":
        other = open_state_folder(folder.path)
        other.lock()
    else:
        os.mkdir(folder.path)
        os.chmod(folder.path, 0o777)
    descriptors = os.listdir("/proc/self/fd")
    for write in (lambda: folder.replace("ledger", b""), lambda: folder.open_file("ledger", os.O_WRONLY)):
        with pytest.raises(OSError, match=folder.path) as caught:
            write()
        assert caught.value.errno == errno.ESTALE
    assert os.listdir("/proc/self/fd") == descriptors  # it will be tried again and again
    if other is not None:
        other.close()


def test_a_ledger_that_was_removed_with_its_folder_is_whole_again(folder: StateFolder) -> None:
    """Soon after the next entry, or at the end of the next pass."""
    ledger = open_ledger(folder, boot_id="b", is_alive=lambda _: True)
    ledger.record(Identity(10, 1), Entry(0, 5))
    shutil.rmtree(folder.path)
    ledger.compact()
    assert read_ledger(folder, boot_id="b").processes == {Identity(10, 1): Entry(0, 5)}
    shutil.rmtree(folder.path)
    ledger.record(Identity(11, 1), Entry(0, 6))
    ledger.flush()
    assert read_ledger(folder, boot_id="b").processes.keys() == {Identity(10, 1), Identity(11, 1)}
    ledger.close()


def test_without_a_folder_nothing_more_is_recorded_until_there_is_one(folder: StateFolder) -> None:
    """What would be written to a file that nobody finds could not be restored."""
    ledger = open_ledger(folder, boot_id="b", is_alive=lambda _: True)
    ledger.record(Identity(10, 1), Entry(0, 5))
    shutil.rmtree(folder.path)
    Path(folder.path).write_text("x")  # as where the folders above are read-only
    ledger.flush()
    with pytest.raises(OSError, match=folder.path) as caught:
        ledger.record(Identity(11, 1), Entry(0, 6))
    assert caught.value.errno == errno.ESTALE
    assert ledger.entry(Identity(11, 1)) is None
    Path(folder.path).unlink()
    ledger.record(Identity(11, 1), Entry(0, 6))
    found = read_ledger(folder, boot_id="b")
    assert (found.ignored_lines, found.processes) == (0, {Identity(11, 1): Entry(0, 6)})
    ledger.compact()
    assert read_ledger(folder, boot_id="b").processes.keys() == {Identity(10, 1), Identity(11, 1)}
    ledger.close()


def test_a_folder_that_was_moved_is_made_anew_with_its_ledger(folder: StateFolder, tmp_path: Path) -> None:
    """Or a second daemon could start beside this one, and a restore would find nothing."""
    folder.lock()
    ledger = open_ledger(folder, boot_id="b", is_alive=lambda _: True)
    ledger.record(Identity(10, 1), Entry(0, 5))
    os.rename(folder.path, tmp_path / "moved")
    ledger.compact()
    second = open_state_folder(folder.path)
    with pytest.raises(OomguardError, match="already runs here"):
        second.lock()
    assert read_ledger(second, boot_id="b").processes == {Identity(10, 1): Entry(0, 5)}
    second.close()
    ledger.close()


def test_a_file_in_its_place_is_the_same_error_for_readers_and_writers(tmp_path: Path) -> None:
    """It is no folder. Only who writes may choose another."""
    (tmp_path / "state").write_text("")
    for opens, hint in ((open_state_folder, "choose one"), (find_state_folder, "use the --state-dir of")):
        why = "cannot use it as the state folder: Not a directory"
        with pytest.raises(OomguardError, match=why) as caught:
            opens(str(tmp_path / "state"))
        assert caught.value.hint.startswith(hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_what_a_user_may_not_look_into_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """Root's folder in a folder of root's alone."""
    (tmp_path / "private").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        require_state_folder(str(tmp_path / "private/state"))
        with pytest.raises(OomguardError, match="Permission denied") as caught:
            find_state_folder(str(tmp_path / "private/state"))
    finally:
        os.seteuid(0)
    assert caught.value.hint == "run this as its owner, or as root"


def test_a_read_only_file_system_is_named_as_the_cause(tmp_path: Path) -> None:
    """Nobody put the lock there, and to remove it would not help."""
    folder = open_state_folder(str(tmp_path / "state"))
    with read_only(tmp_path / "state"):
        again = open_state_folder(str(tmp_path / "state"))
        with pytest.raises(OomguardError, match="lock: cannot be used: Read-only file system") as caught:
            again.lock()
        again.close()
    assert caught.value.hint == "make its file system writable"
    folder.close()
