"""The kernel's log as a device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oomguard.core.errors import OomguardError
from oomguard.kernel.dev_kmsg import inherited_kernel_log, open_kernel_log, records, skip_to_end
from oomguard.oom.kmsg import Record, parse_record

needs_log = pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg cannot be read here")


def test_record_is_parsed_without_what_follows_it() -> None:
    """Its first line is what was said; the others are keys of devices."""
    raw = "4,3578,34791100,-;a\\x0ab \\x5c \\xc3\\xa4\n SUBSYSTEM=pci\n DEVICE=+pci:0000\n"
    assert parse_record(raw) == Record(34791100, "a\nb \\ ä", is_kernels=True)


@pytest.mark.parametrize(
    ("priority", "is_kernels"), [(0, True), (7, True), (8, False), (12, False), (30, False)]
)
def test_only_facility_kern_is_the_kernels(priority: int, is_kernels: bool) -> None:
    """The kernel gives what programs write another facility."""
    record = parse_record(f"{priority},1,2,-;Killed process 7 (a)")
    assert record is not None
    assert record.is_kernels is (priority < 8)


@pytest.mark.parametrize("raw", ["", "a", "4,1,2", "4,1,2,-", "-4,1,2,-;a", "4;a", "\n4,1,2,-;a"])
def test_other_text_is_no_record(raw: str) -> None:
    """It is not taken for one."""
    assert parse_record(raw) is None


@needs_log
def test_records_are_read_up_to_now() -> None:
    """From the oldest on, or only what comes, and it never waits."""
    fd = open_kernel_log()
    try:
        first = next(records(fd))
        assert parse_record(first.decode("utf-8", "surrogateescape")) is not None
        skip_to_end(fd)
        assert len(list(records(fd))) < 10
    finally:
        os.close(fd)


def test_log_that_cannot_be_opened_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    """A container may have none."""
    with pytest.raises(OomguardError) as caught:
        open_kernel_log(str(tmp_path / "kmsg"))
    assert "kmsg cannot be opened" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("path", [os.devnull, __file__])
def test_what_is_called_so_and_is_not_the_log_is_refused(path: str) -> None:
    """Containers have /dev/null in its place, which cannot be waited for."""
    with pytest.raises(OomguardError) as caught:
        open_kernel_log(path)
    assert "is not the kernel's log here" in caught.value.message


def test_standard_input_is_the_log_only_if_it_is() -> None:
    """Not a terminal, a pipe, a file or nothing."""
    code = "from oomguard.kernel.dev_kmsg import inherited_kernel_log as log; print(log())"
    for stdin in (os.devnull, __file__, "/dev/kmsg"):
        if not os.access(stdin, os.R_OK):
            continue
        with open(stdin, "rb") as file:
            done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, check=True)
        assert done.stdout.strip() == (b"0" if stdin == "/dev/kmsg" else b"None")
    closed = ["sh", "-c", f"exec 0<&-; exec {sys.executable} -c '{code}'"]
    done = subprocess.run(closed, capture_output=True, check=True)
    assert done.stdout.strip() == b"None"
    assert inherited_kernel_log() in (None, 0)
