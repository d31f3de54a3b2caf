"""Sysctls and meminfo: parsing, a tree made for tests, and briefly the kernel's own."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fakeproc import FakeKernel, FakeProc
from oomguard.core.overcommit import KNOBS, Memory, commit_limit_kib
from oomguard.core.sysctl import SYSCTLS
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import (
    observe_memory,
    observe_overcommit,
    observe_sysctls,
    parse_meminfo,
    read_sysctl,
    write_sysctl,
)

REAL = Procfs()

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/proc/sys/vm/swappiness", os.W_OK),
    reason="sysctls of the host may be written by root only",
)


@contextmanager
def kept(*names: str) -> Iterator[dict[str, int]]:
    """Put sysctls of this host back as they were, whatever happens."""
    lock = os.open("/proc/sys/vm", os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of these tests at once would keep each other's values
    before = {name: value for name in names if (value := read_sysctl(REAL, name)) is not None}
    try:
        yield before
    finally:
        # The one of a pair that counts zeroes the other, which may not take a 0 itself.
        for name, value in sorted(before.items(), key=lambda item: item[1] == 0):
            if read_sysctl(REAL, name) != value:
                write_sysctl(REAL, name, value)
        os.close(lock)


# Parsing


def test_meminfo_is_read_by_its_keys() -> None:
    """Whatever else there is, and in whatever order."""
    raw = (
        b"MemTotal:       16384000 kB\nMemFree:         1 kB\nSwapTotal:       2048 kB\n"
        b"CommitLimit:     8194048 kB\nCommitted_AS:    4096 kB\nHugePages_Total:      10\n"
        b"HugePages_Free:        0\nHugePages_Surp:        3\nHugepagesize:       2048 kB\n"
        b"DirectMap1G:    1 kB\nMemAvailable:    9000000 kB\n"
    )
    assert parse_meminfo(raw) == Memory(16384000, 2048, 20480, 8194048, 4096, 7, 2048, 9000000, 3)


def test_huge_pages_of_every_size_count() -> None:
    """Those of the default size are told in pages, all of them in KiB (since Linux 4.16)."""
    raw = b"MemTotal: 9 kB\nHugePages_Total: 1\nHugepagesize: 2048 kB\nHugetlb: 2099200 kB\n"
    assert parse_meminfo(raw).hugetlb_kib == 2099200


def test_meminfo_without_swap_and_huge_pages_has_none() -> None:
    """A kernel built without them prints no such lines."""
    raw = b"MemTotal: 100 kB\nCommitLimit: 50 kB\nCommitted_AS: 1 kB\n"
    assert parse_meminfo(raw) == Memory(100, 0, 0, 50, 1, available_kib=100)


# A tree made for tests


def test_a_sysctl_this_kernel_lacks_is_left_out(proc: FakeProc, procfs: Procfs) -> None:
    """It is no error to ask."""
    proc.sysctl("vm.swappiness", 60)
    assert observe_sysctls(procfs, ["vm.swappiness", "vm.page-cluster"]) == {"vm.swappiness": 60}
    assert read_sysctl(procfs, "vm.page-cluster") is None


def test_the_partner_is_observed_with_a_sysctl(proc: FakeProc, procfs: Procfs) -> None:
    """Writing one zeroes the other, so both count."""
    proc.sysctl("vm.dirty_ratio", 20)
    proc.sysctl("vm.dirty_bytes", 0)
    assert observe_sysctls(procfs, ["vm.dirty_bytes"]) == {"vm.dirty_bytes": 0, "vm.dirty_ratio": 20}


def test_one_overcommit_knob_brings_them_all(proc: FakeProc, procfs: Procfs) -> None:
    """The limit is calculated from all of them."""
    for number, name in enumerate(KNOBS):
        proc.sysctl(name, number)
    assert observe_sysctls(procfs, ["vm.overcommit_memory"]).keys() == set(KNOBS)


def test_what_contradicts_itself_is_read_once_more(proc: FakeProc) -> None:
    """A ratio that changes between the two readings makes no refusal."""

    class Busy(FakeKernel):
        def read(self, path: str, limit: int = 65536) -> bytes:
            if path == "meminfo":
                proc.sysctl("vm.overcommit_ratio", 80)
            return super().read(path, limit)

    proc.sysctl("vm.overcommit_memory", 0)
    proc.sysctl("vm.overcommit_ratio", 50)
    knobs, memory = observe_overcommit(Busy(str(proc.root)), ["vm.overcommit_memory"])
    assert memory is not None
    assert commit_limit_kib(memory, knobs) == memory.commit_limit_kib


def test_a_proc_with_pids_only_has_no_memory(proc: FakeProc, procfs: Procfs) -> None:
    """`mount -o subset=pid` hides meminfo."""
    assert observe_memory(procfs) is not None
    (proc.root / "meminfo").unlink()
    assert observe_memory(procfs) is None


@pytest.mark.parametrize("text", ["", "MemTotal\n", "MemTotal: much kB\n", "MemFree: 1 kB\n"])
def test_what_no_kernel_writes_is_no_memory(proc: FakeProc, text: str) -> None:
    """A sandbox or a container may have another file in its place."""
    (proc.root / "meminfo").write_text(text)
    with closing(Procfs(str(proc.root))) as procfs:
        assert observe_memory(procfs) is None


class Refusing(FakeKernel):
    """A kernel that does not let one file be read."""

    path, code = "", 0

    def read(self, path: str, limit: int = 65536) -> bytes:
        """Read a file, unless it is the one."""
        if path == self.path:
            raise OSError(self.code, os.strerror(self.code))
        return super().read(path, limit)


@pytest.mark.parametrize(
    ("path", "code", "is_absent"),
    [
        ("sys/vm/nr_hugepages", errno.EOPNOTSUPP, True),
        ("sys/vm/nr_hugepages", 524, True),
        ("sys/vm/nr_hugepages", errno.EACCES, False),
        ("sys/vm/nr_hugepages", errno.ENFILE, False),
        ("meminfo", errno.ENOTCONN, True),
        ("meminfo", errno.ENOMEM, False),
    ],
)
def test_what_a_host_lacks_is_not_what_cannot_be_read_now(
    proc: FakeProc, path: str, code: int, *, is_absent: bool
) -> None:
    """A kernel without huge pages has their files; lxcfs may have ended."""
    proc.sysctl("vm.nr_hugepages", 0)
    kernel = Refusing(str(proc.root))
    kernel.path, kernel.code = path, code
    read = (
        (lambda: observe_memory(kernel))
        if path == "meminfo"
        else lambda: read_sysctl(kernel, "vm.nr_hugepages")
    )
    if is_absent:
        assert read() is None
    else:
        with pytest.raises(OSError, match=os.strerror(code)):
            read()


def test_a_write_returns_what_the_kernel_made_of_it(proc: FakeProc, procfs: Procfs) -> None:
    """Unless it is only what somebody else wrote in the same moment."""
    proc.sysctl("vm.nr_hugepages", 0)
    proc.sysctl("vm.swappiness", 60)
    assert write_sysctl(procfs, "vm.nr_hugepages", 14) == 14
    for name in ("vm.nr_hugepages", "vm.swappiness"):
        proc.grant(name, 13)
        assert write_sysctl(procfs, name, 14) == 13
    (proc.root / "granted" / "vm.swappiness").unlink()

    class Interrupted(FakeKernel):
        def write(self, path: str, text: bytes) -> None:
            super().write(path, text)
            if not (proc.root / "interrupted").exists():
                (proc.root / "interrupted").touch()
                proc.sysctl("vm.swappiness", 5)

    assert write_sysctl(Interrupted(str(proc.root)), "vm.swappiness", 12) == 12


# The kernel


def test_every_sysctl_of_the_table_reads_as_an_integer_in_its_range() -> None:
    """The rows agree with the kernel that runs these tests, where it has them and they may be read."""
    found = 0
    for name, row in SYSCTLS.items():
        try:
            value = read_sysctl(REAL, name)
        except PermissionError:
            continue
        if value is not None:
            found += 1
            assert row.low <= value <= row.high or (row.partner and value == 0), name
    assert found > 10


@needs_root
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vm.dirty_bytes", 0),
        ("vm.dirty_bytes", 8191),
        ("vm.dirty_background_bytes", 0),
        ("vm.stat_interval", SYSCTLS["vm.stat_interval"].high + 1),
        ("vm.laptop_mode", SYSCTLS["vm.laptop_mode"].high + 1),
        ("kernel.keys.root_maxkeys", 0),
        ("kernel.keys.root_maxbytes", 0),
    ],
)
def test_what_a_policy_must_not_say_is_denied_by_the_kernel(name: str, value: int) -> None:
    """Whatever its pages and ticks are."""
    row = SYSCTLS[name]
    assert not row.low <= value <= row.high
    with kept(name, row.partner or name), pytest.raises(OSError, match="Invalid argument"):
        write_sysctl(REAL, name, value)


def test_the_commit_limit_is_computed_as_the_kernel_does() -> None:
    """From meminfo and the knobs, to within the page it rounds to."""
    memory = observe_memory(REAL)
    assert memory is not None
    knobs = observe_sysctls(REAL, ["vm.overcommit_memory"])
    assert abs(commit_limit_kib(memory, knobs) - memory.commit_limit_kib) <= 4


@needs_root
@pytest.mark.parametrize("size_kib", [2048, 1048576])
def test_the_commit_limit_is_computed_beside_huge_pages_of_any_size(size_kib: int) -> None:
    """With every kind of limit, and two pages, if the kernel has that size and grants them."""
    pool = Path(f"/sys/kernel/mm/hugepages/hugepages-{size_kib}kB/nr_hugepages")
    if not pool.exists():
        pytest.skip(f"no huge pages of {size_kib} KiB on this machine")
    if read_sysctl(REAL, "vm.overcommit_memory") == 2:
        pytest.skip("strict accounting is in force: a limit is not to be played with")
    before = pool.read_text()
    with kept("vm.overcommit_ratio", "vm.overcommit_kbytes"):
        try:
            pool.write_text(f"{int(before) + 2}\n")
            if pool.read_text() == before:
                pytest.skip(f"no memory for a huge page of {size_kib} KiB")
            for name, value in (("ratio", 37), ("kbytes", 1_000_003), ("ratio", 0), ("ratio", 250)):
                write_sysctl(REAL, f"vm.overcommit_{name}", value)
                knobs, memory = observe_overcommit(REAL, ["vm.overcommit_memory"])
                assert memory is not None
                assert memory.hugetlb_kib >= size_kib
                assert abs(commit_limit_kib(memory, knobs) - memory.commit_limit_kib) <= 4
        finally:
            pool.write_text(before)


@needs_root
def test_a_sysctl_of_this_host_is_written_and_put_back() -> None:
    """One that is harmless for the moment that it takes."""
    with kept("vm.swappiness") as before:
        other = before["vm.swappiness"] + (1 if before["vm.swappiness"] < 100 else -1)
        write_sysctl(REAL, "vm.swappiness", other)
        assert int(Path("/proc/sys/vm/swappiness").read_text()) == other
    assert read_sysctl(REAL, "vm.swappiness") == before["vm.swappiness"]


@needs_root
def test_a_value_out_of_range_is_refused_and_changes_nothing() -> None:
    """The kernel says EINVAL."""
    with kept("vm.swappiness") as before:
        with pytest.raises(OSError, match="Invalid argument"):
            write_sysctl(REAL, "vm.swappiness", 100_000)
        assert read_sysctl(REAL, "vm.swappiness") == before["vm.swappiness"]


@needs_root
@pytest.mark.parametrize(
    ("ratio", "absolute", "amount"),
    [
        ("vm.overcommit_ratio", "vm.overcommit_kbytes", 1_000_000),
        ("vm.dirty_background_ratio", "vm.dirty_background_bytes", 100_000_000),
    ],
)
def test_the_kernel_zeroes_the_partner_of_what_is_written(ratio: str, absolute: str, amount: int) -> None:
    """The table's pairs are the kernel's: each way, and the value of before comes back by its own."""
    if read_sysctl(REAL, "vm.overcommit_memory") == 2:
        pytest.skip("strict accounting is in force: a limit is not to be played with")
    with kept(ratio, absolute) as before:
        assert SYSCTLS[ratio].partner == absolute
        assert SYSCTLS[absolute].partner == ratio
        write_sysctl(REAL, absolute, amount)
        assert (read_sysctl(REAL, ratio), read_sysctl(REAL, absolute)) == (0, amount)
        write_sysctl(REAL, ratio, 37)
        assert (read_sysctl(REAL, ratio), read_sysctl(REAL, absolute)) == (37, 0)
    assert {name: read_sysctl(REAL, name) for name in before} == before


@needs_root
def test_writing_what_is_there_zeroes_no_partner_of_dirty_ratio() -> None:
    """mm/page-writeback.c asks whether the value changed; mm/util.c and the background pair do not ask."""
    if read_sysctl(REAL, "vm.overcommit_memory") == 2:
        pytest.skip("strict accounting is in force: a limit is not to be played with")
    with kept("vm.overcommit_ratio", "vm.overcommit_kbytes", "vm.dirty_ratio", "vm.dirty_bytes"):
        write_sysctl(REAL, "vm.overcommit_ratio", 41)
        write_sysctl(REAL, "vm.overcommit_kbytes", 0)
        assert read_sysctl(REAL, "vm.overcommit_ratio") == 0
        write_sysctl(REAL, "vm.dirty_bytes", 1_000_000_000)
        write_sysctl(REAL, "vm.dirty_ratio", 0)
        assert read_sysctl(REAL, "vm.dirty_bytes") == 1_000_000_000


def test_the_tree_made_for_tests_zeroes_partners_as_the_kernel_does(proc: FakeProc, procfs: Procfs) -> None:
    """What the laws about sysctls stand on."""
    for name, value in {
        "vm.overcommit_ratio": 41,
        "vm.overcommit_kbytes": 0,
        "vm.dirty_ratio": 0,
        "vm.dirty_bytes": 100,
    }.items():
        proc.sysctl(name, value)
    write_sysctl(procfs, "vm.overcommit_kbytes", 0)
    write_sysctl(procfs, "vm.dirty_ratio", 0)
    assert proc.sysctls() == {
        "vm.overcommit_ratio": 0,
        "vm.overcommit_kbytes": 0,
        "vm.dirty_ratio": 0,
        "vm.dirty_bytes": 100,
    }
    write_sysctl(procfs, "vm.dirty_ratio", 30)
    assert proc.sysctls()["vm.dirty_bytes"] == 0
