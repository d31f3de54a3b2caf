"""Pressure stall information, and cgroups at their limit."""

import errno
import os
from pathlib import Path

import pytest

from oomguard.core.sample import Left
from oomguard.kernel.floor import Privilege
from oomguard.kernel.memcg import Memcg, members
from oomguard.kernel.pressure import (
    WINDOW_SECONDS,
    limited_cgroups,
    observe_stalled_percent,
    open_trigger,
    parse_some,
    why_not,
)
from oomguard.kernel.procfs import Procfs

MIB = 1024 * 1024
HOST = Left(8_000_000, 16_000_000, 500_000, 1_000_000)


def pressure(percent: float) -> str:
    """Return a file of pressure."""
    lines = [
        f"{kind} avg10={share:.2f} avg60=0.00 avg300=0.00 total=1"
        for kind, share in (("some", percent), ("full", 0))
    ]
    return "\n".join([*lines, ""])


def cgroup(
    folder: Path,
    *,
    percent: float,
    limit: int | None = None,
    used: int = 0,
    files: int = 0,
    swap: str = "max",
) -> None:
    """Make what looks like a cgroup; sizes are MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.pressure").write_text(pressure(percent))
    (folder / "memory.max").write_text("max\n" if limit is None else f"{limit * MIB}\n")
    (folder / "memory.current").write_text(f"{used * MIB}\n")
    (folder / "memory.stat").write_text(f"anon 1\nactive_file {files * MIB}\ninactive_file 0\n")
    (folder / "memory.swap.max").write_text(f"{swap}\n")


def found(root: Path, *, stalled_percent: float = 1.0, is_v2: bool = True) -> list[tuple[str, Left]]:
    """Return the cgroups with a limit that stall."""
    search = limited_cgroups(Memcg("/", str(root), is_v2=is_v2), HOST, stalled_percent=stalled_percent)
    while True:
        try:
            next(search)
        except StopIteration as end:
            return [(memcg.path, left) for memcg, left in end.value]


def test_the_share_of_some_is_read() -> None:
    """Not of `full`, in which all tasks stall."""
    assert parse_some(pressure(12.34).encode()) == 12.34
    assert parse_some(b"full avg10=1.00 avg60=0.00 avg300=0.00 total=1\n") is None
    assert parse_some(b"") is None


def test_each_cgroup_with_a_limit_is_found(tmp_path: Path) -> None:
    """With what is left in it; of all, or of those in which tasks stall."""
    cgroup(tmp_path / "system.slice", percent=30, limit=4000, used=900)
    cgroup(tmp_path / "system.slice" / "web.service", percent=0, limit=100, used=100)
    cgroup(tmp_path / "system.slice" / "db.service", percent=30, limit=500, used=495, files=5, swap="0")
    cgroup(tmp_path / "user.slice", percent=2, limit=50, used=50, swap="0")
    assert found(tmp_path) == [
        ("/system.slice", Left(3100 * 1024, 4000 * 1024, 500_000, 1_000_000)),
        ("/user.slice", Left(0, 50 * 1024, 0, 0)),
        ("/system.slice/db.service", Left(10 * 1024, 500 * 1024, 0, 0)),
    ]
    names = [path for path, _ in found(tmp_path, stalled_percent=0)]
    assert sorted(names)[:2] == ["/system.slice", "/system.slice/db.service"]
    assert sorted(names)[2:] == ["/system.slice/web.service", "/user.slice"]


def test_version_1_has_limits_too(tmp_path: Path) -> None:
    """Without pressure; its figures with `total_` count what is below, and swap is limited with memory."""
    folder = tmp_path / "docker"
    folder.mkdir()
    stat = f"cache 1\nactive_file 7\ntotal_swap {30 * MIB}\ntotal_active_file {20 * MIB}\n"
    sizes = {"memory.limit_in_bytes": 100, "memory.usage_in_bytes": 70, "memory.memsw.limit_in_bytes": 150}
    for name, mib in sizes.items():
        (folder / name).write_text(f"{mib * MIB}\n")
    (folder / "memory.stat").write_text(stat)
    (folder / "memory.swappiness").write_text("60\n")
    expected = Left(50 * 1024, 100 * 1024, 20 * 1024, 50 * 1024)
    assert found(tmp_path, stalled_percent=0, is_v2=False) == [("/docker", expected)]
    assert found(tmp_path, is_v2=False) == []


def test_reclaimable_files_are_left(tmp_path: Path) -> None:
    """Without a limit there is no answer."""
    cgroup(tmp_path / "a.service", percent=30, limit=500, used=500, files=400, swap="0")
    cgroup(tmp_path / "b.service", percent=30)
    assert found(tmp_path) == [("/a.service", Left(400 * 1024, 500 * 1024, 0, 0))]


def test_swap_that_a_cgroup_may_use_counts(tmp_path: Path) -> None:
    """As far as the host has it."""
    cgroup(tmp_path / "a.service", percent=30, limit=500, used=500)
    assert found(tmp_path) == [("/a.service", Left(0, 500 * 1024, 500_000, 1_000_000))]
    (tmp_path / "a.service" / "memory.swap.max").write_text(f"{100 * MIB}\n")
    (tmp_path / "a.service" / "memory.swap.current").write_text(f"{90 * MIB}\n")
    assert found(tmp_path) == [("/a.service", Left(0, 500 * 1024, 10 * 1024, 100 * 1024))]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_a_user_makes_below_a_delegated_cgroup_is_not_looked_at(tmp_path: Path) -> None:
    """Limits of any size, thousands of cgroups, and paths longer than the kernel takes."""
    user = tmp_path / "user@1000.service"
    cgroup(user, percent=30, limit=4000, used=100)
    cgroup(user / "mine", percent=99, limit=1, used=1, swap="0")
    os.chown(user, 1000, 1000)
    cgroup(tmp_path / "db.service", percent=30, limit=500, used=500, swap="0")
    assert sorted(path for path, _ in found(tmp_path)) == ["/db.service", "/user@1000.service"]


def test_paths_that_are_too_long_hide_nothing(tmp_path: Path) -> None:
    """Of each other cgroup what is left is known."""
    cgroup(tmp_path / "db.service", percent=30, limit=500, used=500, swap="0")
    root, here = os.getcwd(), tmp_path / "deep.service"
    cgroup(here, percent=30)
    os.chdir(here)
    try:
        for _ in range(25):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
            for name, text in (("memory.pressure", pressure(30)), ("memory.max", "1"), ("cgroup.procs", "7")):
                with open(name, "w") as file:
                    file.write(text)
    finally:
        os.chdir(root)
    assert [path for path, _ in found(tmp_path)] == ["/db.service"]
    assert members(Memcg("/", str(tmp_path), is_v2=True))


def test_cgroups_with_the_names_of_files_hide_nothing(tmp_path: Path) -> None:
    """Where the memory controller is not enabled, root of a container can make them."""
    for name in ("memory.pressure", "memory.max", "memory.current", "memory.stat", "memory.swap.max"):
        (tmp_path / "pod" / name).mkdir(parents=True)
    cgroup(tmp_path / "db.service", percent=30, limit=500, used=500, swap="0")
    for percent in (0.0, 10.0):
        assert [path for path, _ in found(tmp_path, stalled_percent=percent)] == ["/db.service"]


def test_many_cgroups_are_not_all_looked_at(tmp_path: Path) -> None:
    """Each is a step, so that a value never waits for long."""
    for number in range(1100):
        cgroup(tmp_path / f"{number}", percent=30)
    steps = sum(1 for _ in limited_cgroups(Memcg("/", str(tmp_path), is_v2=True), HOST))
    assert steps == 1000


def test_a_trigger_is_registered_and_does_not_fire_by_itself() -> None:
    """A kernel without pressure information says how to get it."""
    real = Procfs()
    try:
        fd = open_trigger(real, 10, WINDOW_SECONDS, Privilege())
    except OSError as error:
        assert why_not(error)
        pytest.skip(why_not(error))
    finally:
        real.close()
    os.close(fd)


def test_without_pressure_information_there_is_no_share(procfs: Procfs) -> None:
    """As with psi=0."""
    assert observe_stalled_percent(procfs) is None
    with pytest.raises(FileNotFoundError):
        open_trigger(procfs, 10, WINDOW_SECONDS, Privilege())
    assert why_not(OSError(errno.ENOENT, "")) == why_not(OSError(errno.EOPNOTSUPP, ""))
    assert "psi=1" in why_not(OSError(errno.EOPNOTSUPP, ""))
    assert "CAP_SYS_RESOURCE" in why_not(OSError(errno.EPERM, ""))
