"""Capabilities, read, dropped and raised on the real kernel: those of the thread that runs the tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomguard.kernel.capability import (
    CAP_DAC_OVERRIDE,
    CAP_SYS_RESOURCE,
    drop_effective,
    effective,
    has,
    own_sets,
    parse_effective,
)

FULL = 0x1FFFFFFFFFF


@pytest.fixture
def capable() -> Iterator[None]:
    """Skip without CAP_DAC_OVERRIDE in effect; check that the test leaves all as it was."""
    before = own_sets()
    if not has(before.effective, CAP_DAC_OVERRIDE):
        pytest.skip("this user does not have CAP_DAC_OVERRIDE")
    with effective(CAP_DAC_OVERRIDE):  # and afterwards what was effective before
        yield
    assert own_sets() == before


@pytest.fixture
def others_file(tmp_path: Path, capable: None) -> Path:
    """Return a file that belongs to somebody else, who lets nobody in."""
    path = tmp_path / "private"
    path.touch(mode=0o600)
    try:
        os.chown(path, 4711, 4711)
    except PermissionError:
        pytest.skip("giving a file away takes CAP_CHOWN")
    return path


def status(effective_set: int) -> bytes:
    """Return lines of /proc/PID/status as fs/proc/array.c:task_cap writes them."""
    return b"Name:\tCapEff:\nCapInh:\t0000000000000000\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t0\n" % (
        FULL,
        effective_set,
    )


def test_the_effective_set_is_read_from_status() -> None:
    """Neither the permitted set beside it nor a process called like the line is taken for it."""
    assert parse_effective(status(1 << 34)) == 1 << 34


@pytest.mark.parametrize(
    ("mask", "held"), [(0, False), (1 << 24, True), (FULL, True), (FULL & ~(1 << 24), False)]
)
def test_a_set_holds_a_capability_or_not(mask: int, held: bool) -> None:
    """Each is one bit; others do not count."""
    assert has(mask, CAP_SYS_RESOURCE) is held


def test_status_and_the_system_call_agree() -> None:
    """Both halves of the 64 bits are where they belong."""
    raw = Path("/proc/thread-self/status").read_bytes()
    assert own_sets().effective == parse_effective(raw)


@pytest.mark.usefixtures("capable")
def test_a_dropped_capability_stays_permitted() -> None:
    """Only so can it be raised again; the others are left alone."""
    before = own_sets()
    drop_effective(CAP_DAC_OVERRIDE)
    assert own_sets() == before._replace(effective=before.effective & ~(1 << CAP_DAC_OVERRIDE))


def test_the_kernel_honours_what_is_dropped_and_raised(others_file: Path) -> None:
    """Root without the capability is refused, in the block is not, and after it is again."""
    drop_effective(CAP_DAC_OVERRIDE)
    with pytest.raises(PermissionError):
        others_file.write_text("before")
    with effective(CAP_DAC_OVERRIDE) as raised:
        assert raised
        others_file.write_text("within")
    with pytest.raises(PermissionError):
        others_file.write_text("after")


@pytest.mark.usefixtures("capable")
def test_a_capability_that_was_raised_before_stays_so() -> None:
    """A block in a block does not lower what the outer one raised."""
    drop_effective(CAP_DAC_OVERRIDE)
    with effective(CAP_DAC_OVERRIDE):
        with effective(CAP_DAC_OVERRIDE):
            pass
        assert has(own_sets().effective, CAP_DAC_OVERRIDE)
    assert not has(own_sets().effective, CAP_DAC_OVERRIDE)


@pytest.mark.usefixtures("capable")
def test_a_failure_in_the_block_lowers_it_too() -> None:
    """The write that needed it may be refused all the same."""
    drop_effective(CAP_DAC_OVERRIDE)
    with pytest.raises(ProcessLookupError), effective(CAP_DAC_OVERRIDE):
        raise ProcessLookupError
    assert not has(own_sets().effective, CAP_DAC_OVERRIDE)


def test_what_is_not_permitted_is_not_raised() -> None:
    """It is said, not raised as an error: the caller goes on without."""
    before = own_sets()
    missing = next((number for number in range(63) if not has(before.permitted, number)), None)
    assert missing is not None, "the kernel knows some 41 capabilities"
    with effective(missing) as raised:
        assert not raised
        assert own_sets() == before
