"""Reads and writes sysctls, and reads the memory figures that limit them."""

import errno
import os
import re
from collections.abc import Iterable
from contextlib import suppress

from oomguard.core.overcommit import KNOBS, MODE, Memory, mismatch
from oomguard.core.sysctl import SYSCTLS
from oomguard.kernel.proc_files import SHORTAGE
from oomguard.kernel.procfs import Procfs

_VALUE_LIMIT = 4096
"""Bytes to read of a sysctl: the kernel allocates as many (fs/proc/proc_sysctl.c:proc_sys_call_handler)."""

_ABSENT = (errno.ENOENT, errno.EOPNOTSUPP, 524)
"""A kernel may have the file, and not what it is about, such as huge pages (mm/hugetlb.c). 524 is ENOTSUPP,
which has no name outside the kernel."""


def observe_sysctls(procfs: Procfs, names: Iterable[str]) -> dict[str, int]:
    """Return the named sysctls, their partners and the overcommit knobs, without those this kernel lacks.

    OSError: one cannot be read.
    """
    wanted = set(names)
    wanted |= {partner for name in wanted if (partner := SYSCTLS[name].partner)}
    if wanted.intersection(KNOBS):
        wanted.update(KNOBS)
    return {name: value for name in sorted(wanted) if (value := read_sysctl(procfs, name)) is not None}


def read_sysctl(procfs: Procfs, name: str) -> int | None:
    """Return one sysctl, None if this kernel lacks it. OSError: it cannot be read, or is no number."""
    try:
        return int(procfs.read(SYSCTLS[name].path, _VALUE_LIMIT))
    except ValueError as error:  # something else is mounted over it
        raise OSError(errno.EINVAL, "it is no number") from error
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def write_sysctl(procfs: Procfs, name: str, value: int) -> int | None:
    """Write one sysctl, and return the value that the kernel set, None if it cannot be read back.

    OSError: nothing is written; EACCES: not root; EROFS: read-only /proc/sys; EINVAL: out of range. A
    difference may also come from another writer, so it counts only if a second write ends the same. Values
    that the kernel may grant in part are written once: a second write is expensive and gets no more.
    """
    made = _write_once(procfs, name, value)
    if made != value and not SYSCTLS[name].granted_less:
        with suppress(OSError):  # the first try took effect
            made = _write_once(procfs, name, value)
    return made


def _write_once(procfs: Procfs, name: str, value: int) -> int | None:
    procfs.write(SYSCTLS[name].path, b"%d\n" % value)
    with suppress(OSError):
        return read_sysctl(procfs, name)
    return None


def must_be_writable(procfs: Procfs, name: str) -> None:
    """Raise the OSError that any write to a sysctl would raise; write nothing."""
    os.close(os.open(SYSCTLS[name].path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=procfs.fd))


def observe_overcommit(procfs: Procfs, names: Iterable[str]) -> tuple[dict[str, int], Memory | None]:
    """Return `observe_sysctls` and `observe_memory`, read again if they contradict each other.

    Then one may have changed in between.
    """
    names = set(names)
    for _ in range(2):
        actual = observe_sysctls(procfs, names)
        memory = observe_memory(procfs)
        if memory is None or MODE not in actual or mismatch(memory, actual) is None:
            break
    return actual, memory


def observe_memory(procfs: Procfs) -> Memory | None:
    """Return the figures that overcommit depends on, None if they cannot be read.

    /proc may have only processes (`subset=pid`), and lxcfs, which serves meminfo in a container, may have
    ended; or a sandbox hides it by an empty file. OSError: in a shortage.
    """
    try:
        return parse_meminfo(procfs.read("meminfo"))
    except OSError as error:
        if error.errno in SHORTAGE:
            raise
    except (KeyError, ValueError, IndexError):  # what no kernel writes
        pass
    return None


def parse_meminfo(raw: bytes) -> Memory:
    """Parse the figures in /proc/meminfo that the commit limit depends on.

    `Hugetlb` counts huge pages of every size (since Linux 4.16, mm/hugetlb.c:hugetlb_report_meminfo), as the
    limit does; the other fields count those of the default size.
    """
    fields = meminfo_fields(raw)
    page_kib = fields.get(b"Hugepagesize", 0)
    pages, surplus = fields.get(b"HugePages_Total", 0), fields.get(b"HugePages_Surp", 0)
    return Memory(
        total_kib=fields[b"MemTotal"],
        swap_total_kib=fields.get(b"SwapTotal", 0),
        hugetlb_kib=fields.get(b"Hugetlb", pages * page_kib),
        commit_limit_kib=fields.get(b"CommitLimit", 0),
        committed_kib=fields.get(b"Committed_AS", 0),
        huge_pages=pages - surplus,
        huge_page_kib=page_kib,
        surplus_pages=surplus,
        available_kib=fields.get(b"MemAvailable", fields[b"MemTotal"]),
        swap_free_kib=fields.get(b"SwapFree", 0),
    )


def observe_kills(procfs: Procfs) -> int | None:
    """Return how many processes the OOM killer has killed since boot (/proc/vmstat, since 4.13)."""
    try:
        raw = procfs.read("vmstat")
    except FileNotFoundError:
        return None
    found = re.search(rb"^oom_kill (\d+)$", raw, re.MULTILINE)
    return None if found is None else int(found[1])


def meminfo_fields(raw: bytes) -> dict[bytes, int]:
    """Parse /proc/meminfo (fs/proc/meminfo.c). Its unit, kB, is KiB."""
    split = (line.partition(b":") for line in raw.splitlines())
    return {key: int(rest.split()[0]) for key, _, rest in split}
