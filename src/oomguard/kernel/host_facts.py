"""Observes the facts of this host that a policy may depend on."""

import os

from oomguard.core.host import Host
from oomguard.kernel.own import is_in_initial_namespace
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import observe_memory


def observe_host(procfs: Procfs) -> Host:
    """Return the facts of this host; without meminfo, the sizes are not known."""
    system, memory = os.uname(), observe_memory(procfs)
    host = Host(hostname=system.nodename, kernel=system.release, is_container=is_in_container())
    if memory is None:
        return host
    hugetlb = memory.hugetlb_kib - memory.surplus_pages * memory.huge_page_kib
    return host._replace(
        memory_kib=memory.total_kib,
        swap_kib=memory.swap_total_kib,
        hugetlb_kib=hugetlb,
        other_hugetlb_kib=hugetlb - memory.huge_pages * memory.huge_page_kib,
        huge_page_kib=memory.huge_page_kib,
    )


def is_in_container() -> bool:
    """Return whether this process sees only the processes of a container."""
    return not is_in_initial_namespace("pid")
