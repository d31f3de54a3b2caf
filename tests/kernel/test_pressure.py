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
    observe_stalled_percent,
    open_trigger,
    parse_some,
    short_cgroups,
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


def found(root: Path) -> list[tuple[str, Left]]:
    """Return the cgroups that are short."""
    search = short_cgroups(Memcg("/", str(root), is_v2=True), HOST, 1.0)
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


def test_each_cgroup_at_its_limit_is_found(tmp_path: Path) -> None:
    """Not those above that stall with it, nor one at its limit in which nothing stalls."""
    cgroup(tmp_path / "system.slice", percent=30, limit=4000, used=900)
    cgroup(tmp_path / "system.slice" / "web.service", percent=0, limit=100, used=100)
    cgroup(tmp_path / "system.slice" / "db.service", percent=30, limit=500, used=495, files=5, swap="0")
    cgroup(tmp_path / "user.slice", percent=2, limit=50, used=50, swap="0")
    assert found(tmp_path) == [
        ("/user.slice", Left(0, 50 * 1024, 0, 0)),
        ("/system.slice/db.service", Left(10 * 1024, 500 * 1024, 0, 0)),
    ]


def test_a_cgroup_with_room_or_reclaimable_files_is_not_short(tmp_path: Path) -> None:
    """It only reads much."""
    cgroup(tmp_path / "a.service", percent=30, limit=500, used=500, files=400, swap="0")
    cgroup(tmp_path / "b.service", percent=30, limit=500, used=100, swap="0")
    cgroup(tmp_path / "c.service", percent=30)
    assert found(tmp_path) == []


def test_swap_that_a_cgroup_may_use_counts(tmp_path: Path) -> None:
    """As far as the host has it."""
    cgroup(tmp_path / "a.service", percent=30, limit=500, used=500)
    assert found(tmp_path) == []
    (tmp_path / "a.service" / "memory.swap.max").write_text(f"{100 * MIB}\n")
    (tmp_path / "a.service" / "memory.swap.current").write_text(f"{90 * MIB}\n")
    assert len(found(tmp_path)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_a_user_makes_below_a_delegated_cgroup_is_not_looked_at(tmp_path: Path) -> None:
    """Limits of any size, thousands of cgroups, and paths longer than the kernel takes."""
    user = tmp_path / "user@1000.service"
    cgroup(user, percent=30, limit=4000, used=100)
    cgroup(user / "mine", percent=99, limit=1, used=1, swap="0")
    os.chown(user, 1000, 1000)
    cgroup(tmp_path / "db.service", percent=30, limit=500, used=500, swap="0")
    assert [path for path, _ in found(tmp_path)] == ["/db.service"]


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


def test_many_cgroups_are_not_all_looked_at(tmp_path: Path) -> None:
    """Each is a step, so that a value never waits for long."""
    for number in range(1100):
        cgroup(tmp_path / f"{number}", percent=30)
    steps = sum(1 for _ in short_cgroups(Memcg("/", str(tmp_path), is_v2=True), HOST, 1.0))
    assert steps == 1100, "those of one folder"


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
