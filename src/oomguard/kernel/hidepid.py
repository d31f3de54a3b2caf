"""Whether /proc hides processes from those who do not own them (hidepid=, proc(5))."""

from typing import TYPE_CHECKING

from oomguard.kernel.mountinfo import parse_mounts

if TYPE_CHECKING:
    from oomguard.kernel.procfs import Procfs

ROOT_GROUP = 0
"""The group that sees everything where gid= names no other."""

_OFF = ("", "0", "off")


def observe_privileged_group(procfs: "Procfs") -> int | None:
    """Return the one group that sees all processes of this host, None if everybody does.

    Asked of the first process: our own /proc may be another mount, which a sandbox made.
    """
    mountinfo = procfs.init_mounts()
    return ROOT_GROUP if mountinfo is None else parse_privileged_group(mountinfo)  # None: hidden even from us


def parse_privileged_group(mountinfo: bytes) -> int | None:
    """Return the same, from the mountinfo of a process that sees the host's /proc."""
    options: list[str] = []
    for mount in parse_mounts(mountinfo):
        if mount.point == "/proc":
            options = mount.options if mount.kind == "proc" else []
    found = dict(option.partition("=")[::2] for option in options)
    if found.get("hidepid", "") in _OFF:
        return None
    return int(found.get("gid", ROOT_GROUP))
