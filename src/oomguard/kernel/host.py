"""Observes the facts of this host that a policy may depend on."""

import os
from typing import TYPE_CHECKING

from oomguard.core.host import Host
from oomguard.kernel.sysctl import observe_memory

if TYPE_CHECKING:
    from oomguard.kernel.procfs import Procfs

_HOST_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of the host's own (include/linux/proc_ns.h: PROC_PID_INIT_INO)."""


def observe_host(procfs: "Procfs") -> Host | None:
    """Return the facts of this host, None if /proc has no meminfo."""
    memory = observe_memory(procfs)
    if memory is None:
        return None
    system = os.uname()
    surplus = memory.surplus_pages * memory.huge_page_kib
    pool = memory.huge_pages * memory.huge_page_kib
    return Host(
        memory_kib=memory.total_kib,
        swap_kib=memory.swap_total_kib,
        hugetlb_kib=memory.hugetlb_kib - surplus,
        other_hugetlb_kib=memory.hugetlb_kib - surplus - pool,
        huge_page_kib=memory.huge_page_kib,
        hostname=system.nodename,
        kernel=system.release,
        is_container=_is_in_container(),
    )


def _is_in_container() -> bool:
    """Return whether oomguard sees only the processes of a container."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino != _HOST_PID_NAMESPACE
    except OSError:
        return False
