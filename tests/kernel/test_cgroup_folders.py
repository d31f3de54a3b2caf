"""Which cgroups only root can have made."""

import os
from io import BytesIO
from pathlib import Path

import pytest

from oomguard.kernel.cgroup_folders import CgroupFolders, parse_systemd_mount

USER = 23456

LINE = "31 25 0:27 {root} {point} rw,nosuid shared:9 - {kind} cgroup rw,{options}\n"
UNIFIED = LINE.format(root="/", point="/sys/fs/cgroup/unified", kind="cgroup2", options="nsdelegate")
LEGACY = LINE.format(root="/", point="/sys/fs/cgroup/systemd", kind="cgroup", options="xattr,name=systemd")
MEMORY = LINE.format(root="/", point="/sys/fs/cgroup/memory", kind="cgroup", options="memory")
PART = LINE.format(root="/a", point="/mnt", kind="cgroup2", options="nsdelegate")


@pytest.mark.parametrize(
    ("mountinfo", "found"),
    [
        (UNIFIED, "/sys/fs/cgroup/unified"),
        (MEMORY + UNIFIED + LEGACY, "/sys/fs/cgroup/systemd"),
        (PART + UNIFIED, "/sys/fs/cgroup/unified"),
        (PART + MEMORY, None),
        ("", None),
    ],
)
def test_the_hierarchy_of_systemd_is_found(mountinfo: str, found: str | None) -> None:
    """The one that `parse_cgroup` reads the path of, mounted whole."""
    assert parse_systemd_mount(BytesIO(mountinfo.encode())) == found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return folders like those of cgroups, root's so far."""
    if os.geteuid() != 0:
        pytest.skip("folders of root's take root")
    (tmp_path / "system.slice/x.service/own/deep").mkdir(parents=True)
    tmp_path.chmod(0o755)
    return tmp_path


def test_what_root_made_is_roots(tree: Path) -> None:
    """As far as it can be seen: not outside of the own cgroup namespace, nor without a mount."""
    folders = CgroupFolders(str(tree))
    assert folders.are_roots("/")
    assert folders.are_roots("/system.slice/x.service/own/deep")
    assert folders.are_roots("/../../elsewhere") is None
    assert folders.are_roots("/gone/for/long") is None
    assert CgroupFolders(None).are_roots("/system.slice/x.service") is None
    (tree / ("a/" * 80)).mkdir(parents=True)
    assert folders.are_roots("/a" * 60)
    assert folders.are_roots("/a" * 80) is None, "root of a container can nest thousands"


@pytest.mark.parametrize("how", ["owned", "writable by its group", "writable by all"])
def test_what_is_below_a_users_cgroup_is_not(tree: Path, how: str) -> None:
    """However deep, and whoever owns it; the user's cgroup itself has its name from root."""
    service = tree / "system.slice/x.service"
    if how == "owned":
        os.chown(service, USER, USER)
    else:
        service.chmod(0o775 if "group" in how else 0o757)
    folders = CgroupFolders(str(tree))
    assert folders.are_roots("/system.slice/x.service")
    assert folders.are_roots("/system.slice/x.service/own") is False
    assert folders.are_roots("/system.slice/x.service/own/deep") is False
    assert folders.are_roots("/system.slice/x.service/gone/too") is False


def test_a_cgroup_deeper_than_a_path_can_be_is_a_users(tree: Path) -> None:
    """Root makes none; and no call takes its path."""
    name = "x" * 200
    at = os.open(tree, os.O_RDONLY)
    for _ in range(22):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    folders = CgroupFolders(str(tree))
    assert folders.are_roots(f"/{name}" * 10)
    assert folders.are_roots(f"/{name}" * 22) is False
