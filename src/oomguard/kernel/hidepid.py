"""Whether /proc hides processes of other users (hidepid=, proc(5))."""

import os
from collections.abc import Iterable
from contextlib import suppress

from oomguard.kernel.mountinfo import parse_mounts
from oomguard.kernel.own import INITIAL_NAMESPACES
from oomguard.kernel.procfs import Procfs

ROOT_GROUP = 0
"""The group that sees all processes if there is no gid=."""

_OFF = ("", "0", "off")


def observe_privileged_group(procfs: Procfs) -> int | None:
    """Return the group that sees all processes of this host, None if everybody does.

    PID 1's mounts decide, because a sandbox may have given this process another /proc. If they are hidden,
    it is this /proc that hides them.
    """
    mountinfo = procfs.init_mounts()
    if mountinfo is not None:
        return parse_privileged_group(mountinfo)
    return parse_privileged_group(procfs.own_mounts()) or ROOT_GROUP


def hides_processes(procfs: Procfs) -> bool:
    """Return whether this /proc hides other users' processes from us."""
    return parse_privileged_group(procfs.own_mounts()) is not None and procfs.init_mounts() is None


def may_be_hidden(procfs: Procfs, pid: int) -> bool:
    """Return whether a process that is not in this /proc may be alive: with hidepid=2, it may be hidden.

    The null signal (kill(2)) tells, because hidepid= hides nothing from signals.
    """
    return not procfs.shows_init() and hides_processes(procfs) and _exists(pid)


def has_ended(procfs: Procfs, pid: int) -> bool:
    """Return whether this pid of the host, not in this /proc, is known to belong to no process.

    Only the host's own PID namespace knows all its pids.
    """
    hosts = f"pid:[{INITIAL_NAMESPACES['pid']}]"
    with suppress(OSError):
        return os.readlink("self/ns/pid", dir_fd=procfs.fd) == hosts and not _exists(pid)
    return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def parse_privileged_group(mountinfo: Iterable[bytes]) -> int | None:
    """Return the same, from the lines of the mountinfo of a process that sees the host's /proc."""
    options: list[str] = []
    for mount in parse_mounts(mountinfo):
        if mount.point == "/proc":
            options = mount.options if mount.kind == "proc" else []
    found = dict(option.partition("=")[::2] for option in options)
    if found.get("hidepid", "") in _OFF:
        return None
    return int(found.get("gid", ROOT_GROUP))
