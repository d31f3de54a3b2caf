"""Parsing what anyone may have chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeproc import HOSTILE_NAMES, stat_line
from oomguard.kernel.proc_files import (
    PF_KTHREAD,
    Stat,
    Status,
    parse_arguments,
    parse_stat,
)


@pytest.mark.parametrize("comm", HOSTILE_NAMES, ids=repr)
def test_no_name_can_forge_a_field_of_stat(comm: bytes) -> None:
    """What counts is behind the last parenthesis, and no name comes after it."""
    found = parse_stat(stat_line(comm, state="R", parent=42, flags=PF_KTHREAD | 1, start=1234))
    assert found[:-1] == Stat(comm, "R", 42, PF_KTHREAD | 1, 1, 1234)[:-1]
    assert found.is_kernel_thread


@given(
    st.binary(max_size=15),
    st.sampled_from("RSDZTtXI"),
    st.integers(0, 2**22),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**22),
    st.integers(0, 2**64 - 1),
)
def test_stat_gives_back_what_the_kernel_put_in(
    comm: bytes, state: str, parent: int, flags: int, threads: int, start: int
) -> None:
    """For any name and any numbers."""
    line = stat_line(comm, state=state, parent=parent, flags=flags, threads=threads, start=start)
    assert parse_stat(line)[:-1] == Stat(comm, state, parent, flags, threads, start)[:-1]


@given(
    st.binary(max_size=15).filter(lambda comm: b"\n" not in comm),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 4),
    st.lists(st.integers(1, 2**22), min_size=1, max_size=32),
    st.lists(st.integers(0, 2**32 - 1), max_size=100),
)
def test_status_gives_the_uids_and_the_depth(
    comm: bytes, uids: tuple[int, int, int, int], pids: list[int], groups: list[int]
) -> None:
    """The real and the saved of four uids, and one pid for each namespace."""
    raw = (
        b"Name:\t%b\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t1\nPPid:\t1\nUid:\t" % comm
        + b"\t".join(b"%d" % uid for uid in uids)
        + b"\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t"
        + b"".join(b"%d " % group for group in groups)
        + b"\nNStgid:\t1\nNSpid:\t"
        + b"\t".join(b"%d" % pid for pid in pids)
        + b"\nNSpgid:\t1\nVmPeak:\t     100 kB\n"
    )
    status = Status(raw)
    assert (status.parent_pid, status.uids, status.namespace_depth) == (1, (uids[0], uids[2]), len(pids))


def test_a_status_without_namespaces_is_the_hosts() -> None:
    """A kernel without PID namespaces prints no NSpid."""
    status = Status(b"Name:\tx\nPPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t0\t0\t0\t0\n")
    assert (status.parent_pid, status.uids, status.namespace_depth) == (9, (1, 3), 0)


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        (b"", ()),
        (b"\0", (b"",)),
        (b"sleep\x0060\0", (b"sleep", b"60")),
        (b"nginx: master process", (b"nginx: master process",)),
        (b"title\0\0\0\0", (b"title",)),
        (b"a\0\0b\0", (b"a", b"", b"b")),
        (b"\xff\n\x1b\0", (b"\xff\n\x1b",)),
    ],
)
def test_arguments_are_split_at_nul_and_nowhere_else(raw: bytes, arguments: tuple[bytes, ...]) -> None:
    """A title that a program wrote over its arguments may be padded, or lack its NUL."""
    assert parse_arguments(raw) == arguments


@given(
    st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")), min_size=1).filter(
        lambda arguments: arguments[-1] != b""
    )
)
def test_any_arguments_come_back(arguments: list[bytes]) -> None:
    """For any that a program can be given."""
    assert parse_arguments(b"".join(argument + b"\0" for argument in arguments)) == tuple(arguments)
