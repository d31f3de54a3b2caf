"""The kernel's log, /dev/kmsg: one record for each read, oldest first (Documentation/ABI/testing/dev-kmsg).

If kernel.dmesg_restrict is 1, as on Debian, opening it takes CAP_SYSLOG; reading an open descriptor does not.
"""

import errno
import os
import stat
from collections.abc import Iterator

from oomguard.core.errors import OomguardError

DEVICE = "/dev/kmsg"

_RECORD_LIMIT = 8192
"""PRINTK_MESSAGE_MAX is 2048 since 6.4, CONSOLE_EXT_LOG_MAX was 8192; a shorter read fails with EINVAL."""
_NUMBER = os.makedev(1, 11)
_STDIN = 0
_IN_A_CONTAINER = "run on the host: most containers have no kernel log"


def open_kernel_log(path: str = DEVICE) -> int:
    """Open the log at its oldest record. Reads do not block."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise OomguardError(
            f"{path} cannot be opened: {error.strerror}", hint="run as root: kernel.dmesg_restrict is 1"
        ) from error
    except OSError as error:
        raise OomguardError(f"{path} cannot be opened: {error.strerror}", hint=_IN_A_CONTAINER) from error
    if not _is_kernel_log(fd):
        os.close(fd)
        raise OomguardError(f"{path} is not the kernel's log here", hint=_IN_A_CONTAINER)
    return fd


def inherited_kernel_log() -> int | None:
    """Return standard input if it is the log, and make it non-blocking; None if it is anything else.

    With systemd's StandardInput=file:/dev/kmsg, a service can read the log without the right to open it.
    """
    try:
        if not _is_kernel_log(_STDIN):
            return None
    except OSError:
        return None
    os.set_blocking(_STDIN, False)
    return _STDIN


def _is_kernel_log(fd: int) -> bool:
    """Compare the device number: in a container, /dev/kmsg often is /dev/null or a console."""
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _NUMBER


def skip_to_end(fd: int) -> None:
    """Skip all records so far."""
    os.lseek(fd, 0, os.SEEK_END)


def records(fd: int) -> Iterator[bytes]:
    """Yield every record up to now, as `prio,seq,usec,flags;text` and a newline, then lines of ` KEY=value`.

    Records that were overwritten before they were read are skipped.
    """
    while True:
        try:
            record = os.read(fd, _RECORD_LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue
            raise
        if not record:
            return
        yield record
