"""Memory cgroups: a tree that looks like theirs, in both versions."""

import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.errors import OomguardError
from oomguard.kernel.memcg import (
    CGROUPS_LIMIT,
    Memcg,
    ancestors,
    children,
    count_cgroups,
    group_killed_with,
    members,
    members_by_cgroup,
    open_memcg,
    read_limits,
    read_used_bytes,
)
from oomguard.kernel.mountinfo import Mount, find_cgroups, parse_mounts
from oomguard.kernel.procfs import Procfs
from oomguard.oom.badness import CgroupLimits

V1 = b"30 20 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
V2 = b"31 20 0:27 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
PIDS = b"32 20 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"


def find_memory(raw: bytes) -> Mount | None:
    """Return the mount of the memory controller."""
    return find_cgroups(parse_mounts(BytesIO(raw)), "memory")


def test_with_version_1_mounted_that_is_where_memory_is() -> None:
    """On a hybrid host the unified hierarchy has no memory controller."""
    v1 = Mount("/sys/fs/cgroup/memory", "/", "cgroup", ["rw", "memory"], "0:26", ["rw", "nosuid"])
    v2 = Mount("/sys/fs/cgroup/unified", "/", "cgroup2", ["rw", "nsdelegate"], "0:27", ["rw"])
    assert find_memory(PIDS + V2 + V1) == v1
    assert find_memory(PIDS + V2) == v2
    assert find_memory(PIDS) is None


def test_a_mount_point_with_a_space_is_found() -> None:
    """The kernel escapes it."""
    raw = b"31 20 0:27 /k\\134x /mnt/c\\040g rw - cgroup2 none rw\n"
    assert find_memory(raw) == Mount("/mnt/c g", "/k\\x", "cgroup2", ["rw"], "0:27", ["rw"])


def make(mount: Path, path: str, **files: str) -> None:
    """Make a cgroup with these files; `_` stands for a dot."""
    folder = mount / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1).replace("__", ".")).write_text(content)


@pytest.fixture
def mount(proc: FakeProc, tmp_path: Path) -> Path:
    """Mount an empty version 2 tree."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_text(f"31 20 0:27 / {folder} rw - cgroup2 none rw\n")
    return folder


def test_a_cgroup_is_named_by_its_path_or_by_its_folder(procfs: Procfs, mount: Path) -> None:
    """As /proc/PID/cgroup has it, as one would list it, and with a slash too many."""
    make(mount, "/a.slice/b.service")
    expected = Memcg("/a.slice/b.service", f"{mount}/a.slice/b.service", is_v2=True)
    for named in ("/a.slice/b.service", "a.slice/b.service/", f"{mount}/a.slice/b.service"):
        assert open_memcg(procfs, named) == expected
    assert [one.path for one in ancestors(expected)] == ["/a.slice", "/"]


def test_a_path_below_the_mounted_root_is_not_one_that_begins_like_it(
    procfs: Procfs, proc: FakeProc, mount: Path
) -> None:
    """As where a container sees its own part of the tree."""
    (proc.root / "self/mountinfo").write_text(f"31 20 0:27 /docker/abc {mount} rw - cgroup2 none rw\n")
    make(mount, "/a.slice")
    assert open_memcg(procfs, "/docker/abc/a.slice").path == "/a.slice"
    with pytest.raises(OomguardError, match=r"/docker/abcd: no such memory cgroup \(.*/docker/abcd\)"):
        open_memcg(procfs, "/docker/abcd")


@pytest.mark.parametrize("path", ["/none", "/../../etc/none"])
def test_a_cgroup_that_is_not_there_is_an_error(procfs: Procfs, mount: Path, path: str) -> None:
    """It names where it looked, which never is outside of the tree."""
    with pytest.raises(OomguardError, match="no such memory cgroup") as caught:
        open_memcg(procfs, path)
    assert str(mount) in caught.value.message


def test_the_limits_of_version_2(procfs: Procfs, mount: Path) -> None:
    """`max` is none, and the root has no such file."""
    make(mount, "/a", memory_max="4096\n", memory_current="17\n")
    make(mount, "/b", memory_max="max\n")
    (mount / "a" / "memory.swap.max").write_text("0\n")
    a = open_memcg(procfs, "/a")
    assert read_limits(a, host_swappiness=10) == CgroupLimits(4096, swap=0, swappiness=10)
    assert read_used_bytes(a) == 17
    assert read_limits(open_memcg(procfs, "/b"), host_swappiness=10).memory is None
    assert read_limits(open_memcg(procfs, "/"), host_swappiness=10).memory is None


def test_the_limits_of_version_1(tmp_path: Path) -> None:
    """It has a swappiness of its own, and writes no limit as a very large number."""
    for name, text in {
        "memory.limit_in_bytes": "8192",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.swappiness": "0",
        "memory.usage_in_bytes": "18",
    }.items():
        (tmp_path / name).write_text(f"{text}\n")
    memcg = Memcg("/a", str(tmp_path), is_v2=False)
    assert read_limits(memcg, host_swappiness=10) == CgroupLimits(8192, swappiness=0)
    assert read_used_bytes(memcg) == 18


def test_members_come_in_the_order_of_the_scan(procfs: Procfs, mount: Path) -> None:
    """A cgroup before those in it; in each, as the kernel lists them."""
    make(mount, "/a", cgroup_procs="30\n10\n0\n")
    make(mount, "/a/x", cgroup_procs="50\n")
    make(mount, "/a/x/deep", cgroup_procs="20\n")
    make(mount, "/other", cgroup_procs="99\n")
    found = members(open_memcg(procfs, "/a"))
    assert found[:2] == [30, 10]
    assert found[2:] == [50, 20]


def test_cgroups_without_end_take_little_memory(tmp_path: Path) -> None:
    """A user can make them below a cgroup that root has limited, and let it be short."""
    here = tmp_path
    for _ in range(4):
        here /= "d" * 240
    here.mkdir(parents=True)
    for number in range(1500):
        (tmp_path / f"{number}-{'c' * 200}").mkdir()
        (here / f"{number}-{'c' * 200}").mkdir()
    tracemalloc.start()
    try:
        for folder in (tmp_path, here):
            memcg = Memcg("/", str(folder), is_v2=True)
            read = sum(1 for _ in members_by_cgroup(memcg, CGROUPS_LIMIT))
            assert read == (CGROUPS_LIMIT + 1 if folder is tmp_path else 1)
            assert len(children(memcg, CGROUPS_LIMIT)) in (0, read - 1), "none if this is not root's"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert len(members(Memcg("/", str(tmp_path), is_v2=True))) == 0
    assert sum(1 for _ in members_by_cgroup(Memcg("/", str(tmp_path), is_v2=True))) == 3005


def test_a_group_dies_with_the_highest_that_says_so(procfs: Procfs, mount: Path) -> None:
    """memory.oom.group, up to where memory ran out and no further."""
    for path, group in {"/a": "1", "/a/b": "1", "/a/b/c": "0"}.items():
        make(mount, path)
        (mount / path.lstrip("/") / "memory.oom.group").write_text(f"{group}\n")
    assert group_killed_with(open_memcg(procfs, "/"), "/a/b/c") == "/a"
    assert group_killed_with(open_memcg(procfs, "/a/b"), "/a/b/c") == "/a/b"
    assert group_killed_with(open_memcg(procfs, "/a/b/c"), "/a/b/c") == ""
    assert group_killed_with(open_memcg(procfs, "/a/b"), "/abc") == ""


def test_a_cgroup_with_the_name_of_a_file_is_no_group(procfs: Procfs, mount: Path) -> None:
    """Any user can make it below one of the user manager without the memory controller."""
    (mount / "a" / "b" / "memory.oom.group").mkdir(parents=True)
    (mount / "a" / "memory.oom.group").write_text("1\n")
    assert group_killed_with(open_memcg(procfs, "/"), "/a/b") == "/a"


@pytest.mark.parametrize(
    ("root", "count"), [(Memcg("/", "", is_v2=False), 40), (Memcg("/", "", is_v2=True), 64)]
)
def test_cgroups_are_counted_without_a_walk(
    proc: FakeProc, procfs: Procfs, tmp_path: Path, root: Memcg, count: int
) -> None:
    """Version 1 counts them in /proc/cgroups, version 2 in its root."""
    make(tmp_path, "/", cgroup_stat="nr_descendants 64\nnr_subsys_memory 60\nnr_dying_descendants 12\n")
    (proc.root / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t40\t1\n")
    assert count_cgroups(procfs, root._replace(folder=str(tmp_path))) == count
