"""What the host has at a path that somebody else chose."""

import ctypes
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.kernel.host_file import find, find_program, is_users_mount

USER = 23456

MOUNTINFO = Path("/proc/self/mountinfo")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that only root changes, with a program in it."""
    if os.geteuid() != 0:
        pytest.skip("files of root's take root")
    with tempfile.TemporaryDirectory(dir="/run", prefix="oomg-") as made:
        path = Path(made)
        path.chmod(0o755)
        (path / "bin").mkdir()
        (path / "bin" / "x").touch(mode=0o755)
        yield path


def test_a_file_of_roots_is_found(folder: Path) -> None:
    """The very file, which nobody else can change."""
    program = folder / "bin" / "x"
    found = find(str(program), MOUNTINFO.read_bytes().splitlines())
    assert found is not None
    assert os.path.samestat(found.status, program.stat())
    assert found.only_root_changes


@pytest.mark.parametrize("weak", ["bin/x", "bin", "."])
@pytest.mark.parametrize("how", ["a user's", "writable"])
def test_a_file_is_as_safe_as_each_folder_above(folder: Path, weak: str, how: str) -> None:
    """And as itself."""
    if how == "writable":
        (folder / weak).chmod(0o777)
    else:
        os.chown(folder / weak, USER, USER)
    found = find(str(folder / "bin" / "x"), [])
    assert found is not None
    assert not found.only_root_changes


@pytest.mark.parametrize(
    "path", ["", "x", "relative/x", "/run//x", "/run/../x", "memfd:x", "/gone/x", "/a\0b"]
)
def test_what_is_no_path_of_a_file_is_not_found(path: str) -> None:
    """As the kernel prints what has no path here."""
    assert find(path, []) is None


def test_no_link_is_followed(folder: Path) -> None:
    """A process with mounts of its own has a path that is a link on the host, and may lead anywhere."""
    (folder / "link").symlink_to(folder / "bin")
    assert find(str(folder / "link" / "x"), []) is None


def mounts(*, kind: str, point: str, over: str = "") -> list[bytes]:
    """Return a mountinfo with a mount at `point`, and one of ext4 at `over`."""
    line = "31 25 0:27 / {} rw - {} x rw\n"
    lines = line.format("/", "ext4") + line.format(point, kind)
    return (lines + (line.format(over, "ext4") if over else "")).encode().splitlines()


@pytest.mark.parametrize("kind", ["fuse", "fuse.sshfs", "autofs"])
def test_where_a_program_answers_nothing_is_looked_at(folder: Path, kind: str) -> None:
    """Not below the mount; in what is mounted there already it is."""
    path, point = str(folder / "bin" / "x"), str(folder)
    assert find(path, mounts(kind="ext4", point=point)) is not None
    assert find(path, mounts(kind=kind, point=point)) is None
    assert find(path, mounts(kind=kind, point=point, over=point)) is not None


def test_what_automount_has_mounted_is_looked_at(folder: Path) -> None:
    """One level below an indirect map."""
    mounted = mounts(kind="autofs", point=str(folder), over=str(folder / "bin"))
    assert find(str(folder / "bin" / "x"), mounted) is not None
    assert find(str(folder / "other" / "x"), mounted) is None


SYSTEM = """\
25 1 8:2 / / rw - ext4 /dev/sda2 rw
26 25 0:5 / /run rw,nosuid,nodev - tmpfs tmpfs rw
27 25 8:2 /nix/store /nix/store ro,nosuid,nodev - ext4 /dev/sda2 rw
28 25 7:1 / /snap/x ro,nodev - squashfs /dev/loop1 ro
29 25 8:9 / /home rw,nosuid - ext4 /dev/sda9 rw
"""
STICK = "31 26 8:17 / /run/media/alice/my\\040stick rw,nosuid,nodev - ext4 /dev/sdb1 rw\n"


@pytest.mark.parametrize(
    ("path", "is_users"),
    [
        ("/usr/sbin/sshd", False),
        ("/nix/store/x/bin/sshd", False),  # the file system of /, shown once more
        ("/snap/x/bin/sshd", False),
        ("/homes/sshd", False),
        ("/run/media/alice/my stick/sshd", True),
        ("/run/media/alice/other/sshd", True),
        ("/home/alice/sshd", True),
    ],
)
def test_what_a_user_may_have_mounted_is_not_roots(path: str, *, is_users: bool) -> None:
    """A disk of one's own has any files, of any owner: udisks mounts it without a password, but `nosuid`."""
    assert is_users_mount(path, (SYSTEM + STICK).encode().splitlines()) is is_users
    assert not is_users_mount(path, []), "a tree without mounts"


def test_a_program_of_roots_on_a_users_disk_vouches_for_nothing(folder: Path) -> None:
    """It is the host's file at that path, and root's by its owner."""
    copy = folder / "bin" / "sleep"
    copy.write_bytes(Path("/bin/sleep").read_bytes())
    copy.chmod(0o755)
    stick = SYSTEM + STICK.replace("/run/media/alice/my\\040stick", str(folder))
    with subprocess.Popen([copy, "60"]) as process:
        fd = os.open(f"/proc/{process.pid}", os.O_RDONLY)
        for mounts_of_init, is_roots in ((SYSTEM.replace("nosuid", "rw"), True), (stick, False)):
            lines = mounts_of_init.encode().splitlines()
            program = find_program(fd, "exe", MOUNTINFO.read_bytes().splitlines(), lines)
            assert program is not None
            assert program.is_hosts
            assert program.only_root_changes is is_roots
        os.close(fd)
        process.kill()


LOOK = """
import os, sys
from oomguard.kernel.host_file import find
path = sys.argv[1]
print(os.lstat(path) if sys.argv[2] == "plainly" else find(path, open("/proc/self/mountinfo", "rb")))
"""


@pytest.mark.parametrize("plainly", [True, False])
def test_nothing_is_mounted_for_a_path_that_a_user_chose(folder: Path, *, plainly: bool) -> None:
    """On the kernel's own autofs: a plain look asks its daemon, and waits."""
    reader, writer = os.pipe()
    with subprocess.Popen(["/bin/sleep", "60"], process_group=0) as daemon:
        options = f"fd={writer},pgrp={daemon.pid},minproto=5,maxproto=5,indirect".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"test", os.fsencode(folder / "bin"), b"autofs", 0, options) != 0:
            pytest.skip(f"no autofs here: {os.strerror(ctypes.get_errno())}")
        os.close(writer)
        command = [
            sys.executable,
            "-c",
            LOOK,
            str(folder / "bin" / "evil" / "x"),
            "plainly" if plainly else "",
        ]
        looking = subprocess.Popen(command)
        try:
            if plainly:
                assert select.select([reader], [], [], 20)[0]
                assert looking.poll() is None
            else:
                assert looking.wait(20) == 0
                assert not select.select([reader], [], [], 0)[0]
        finally:
            looking.kill()
            looking.wait()
            os.close(reader)
            libc.umount2(os.fsencode(folder / "bin"), 0)
            daemon.kill()
