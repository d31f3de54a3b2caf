"""The host that a case takes place on: its memory, its sysctls and its users."""

import os
import re
from collections.abc import Mapping
from itertools import count
from typing import Any

from oomguard.core.host import Host
from oomguard.core.overcommit import ADMIN_RESERVE, HUGE_PAGES, RATIO, USER_RESERVE
from oomguard.core.sysctl import SYSCTLS
from oomguard.policy.users import Users

_FIRST_SERVICE_UID = 100
_KNOWN_USERS = {"root": 0, "daemon": 1, "bin": 2, "sys": 3, "nobody": 65534}
_DEFAULT_KIB = 16 << 20
_HUGE_PAGE_KIB = 2048
DEFAULTS = {
    RATIO: 50,
    ADMIN_RESERVE: 8192,
    USER_RESERVE: 131072,
    "vm.oom_dump_tasks": 1,
    "vm.swappiness": 60,
    "vm.min_free_kbytes": 67584,
    "vm.watermark_scale_factor": 10,
    "vm.watermark_boost_factor": 15000,
    "vm.vfs_cache_pressure": 100,
    "vm.page-cluster": 3,
    "vm.max_map_count": 65530,
    "vm.mmap_min_addr": 65536,
    "vm.dirty_ratio": 20,
    "vm.dirty_background_ratio": 10,
    "vm.dirty_expire_centisecs": 3000,
    "vm.dirty_writeback_centisecs": 500,
    "vm.dirtytime_expire_seconds": 43200,
    "vm.extfrag_threshold": 500,
    "vm.compaction_proactiveness": 20,
    "vm.compact_unevictable_allowed": 1,
    "vm.min_unmapped_ratio": 1,
    "vm.min_slab_ratio": 5,
    "vm.stat_interval": 1,
    "vm.memory_failure_recovery": 1,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.keys.root_maxbytes": 25_000_000,
}
"""Kernel defaults that are not 0 (Linux 6.12); three of them depend on the host's memory."""


class CaseUsers(Users):
    """The users of a case file: those it names, a few that every host has, and services."""

    def __init__(self, uids: Mapping[str, int]) -> None:
        super().__init__(os.devnull)
        self._uids = {**_KNOWN_USERS, **uids}
        taken = {*self._uids.values()}
        self._free = (uid for uid in count(_FIRST_SERVICE_UID) if uid not in taken)

    def uid(self, user: str | int) -> int:
        """Return the uid of a user; of one that is not known, the next free one that a service may have."""
        if isinstance(user, int):
            return user
        if user not in self._uids:
            self._uids[user] = next(self._free)
        return self._uids[user]

    def subuids(self, _user: str | int) -> list[int]:
        """Return no subordinate uids."""
        return []


def meminfo_of(facts: Mapping[str, Any], sysctls: Mapping[str, int]) -> dict[str, int]:
    """Return the figures of /proc/meminfo, in KiB, from the keys of `host:`."""

    def amount(key: str, default: int) -> int:
        return facts[key].size_bytes >> 10 if key in facts else default

    total, pages = amount("memory", _DEFAULT_KIB), sysctls.get(HUGE_PAGES, 0)
    return {
        "MemTotal": total,
        "MemAvailable": amount("available", total),
        "SwapTotal": amount("swap", 0),
        "Committed_AS": amount("committed", 0),
        "HugePages_Total": pages,
        "Hugepagesize": _HUGE_PAGE_KIB,
        "Hugetlb": amount("huge_pages", 0) + pages * _HUGE_PAGE_KIB,
    }


def host_of(facts: Mapping[str, Any], meminfo: dict[str, int]) -> Host:
    """Return the facts of a host with this memory, from the keys of `host:`."""
    hugetlb = meminfo["Hugetlb"]
    return Host(
        memory_kib=meminfo["MemTotal"],
        swap_kib=meminfo["SwapTotal"],
        hugetlb_kib=hugetlb,
        other_hugetlb_kib=hugetlb - meminfo["HugePages_Total"] * _HUGE_PAGE_KIB,
        huge_page_kib=_HUGE_PAGE_KIB,
        hostname=facts.get("hostname", "localhost"),
        kernel=facts.get("kernel") or None,
        is_container=facts.get("container", False),
    )


def has_sysctl(kernel: str, name: str) -> bool:
    """Return whether a kernel of this release has a sysctl; "" has all."""
    since = SYSCTLS[name].since
    return not (kernel and since) or _version(kernel) >= _version(since)


def _version(release: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", release)[:2]]
