"""The sysctls a policy may set, one row each, and how they depend on each other.

Ranges are the kernel's (kernel/sysctl.c:vm_table and the handlers in mm/, Linux 6.12). If kernels differ,
the widest is given: an older kernel denies other values with EINVAL.
"""

from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Unit = Literal["", "bytes", "kB", "huge pages"]

INT_MAX = 2**31 - 1
ULONG_MAX = 2**64 - 1

COMMIT = "commit"
"""The sysctls that decide how much memory may be promised."""

DIRTY = "dirty"
"""The sysctls that decide when dirty pages are written."""


class Sysctl(NamedTuple):
    """A sysctl: its full name, its values and their meaning.

    `partner` is the knob that the kernel zeroes when this one is written. `since` is the first kernel with
    it, "" if every kernel in use has it. Rows of one `group` are written together or not at all.
    `granted_less` is why the kernel may grant less than was written, "" if it does not. No spelling hint
    suggests a `hazard`. The kernel rejects values from 1 to below `least_above_zero`. `unit` is what the
    number counts if it is a size; `of_ram`: it can be a share of RAM. A `choice` has no order: a higher
    value is not more of the same.
    """

    name: str
    low: int
    high: int
    summary: str
    partner: str = ""
    since: str = ""
    group: str = ""
    granted_less: str = ""
    hazard: bool = False
    least_above_zero: int = 0
    unit: "Unit" = ""
    of_ram: bool = False
    choice: bool = False

    @property
    def path(self) -> str:
        """Its file below the /proc root: `sys/vm/swappiness`."""
        return "sys/" + self.name.replace(".", "/")

    @property
    def has_order(self) -> bool:
        """Whether a value can be a bound. Not if 0 turns something off, or turns another sysctl on."""
        return not (self.choice or self.partner or self.least_above_zero or self.high <= 2)


SYSCTLS: dict[str, Sysctl] = {
    row.name: row
    for row in (
        Sysctl(
            "vm.overcommit_memory", 0, 2, "0 heuristic, 1 always grant, 2 strict accounting", group=COMMIT
        ),
        Sysctl(
            "vm.overcommit_ratio",
            0,
            INT_MAX,
            "percent of RAM that may be promised in mode 2; writing it zeroes overcommit_kbytes",
            partner="vm.overcommit_kbytes",
            group=COMMIT,
        ),
        Sysctl(
            "vm.overcommit_kbytes",
            0,
            ULONG_MAX,
            "KiB that may be promised in mode 2; writing it zeroes overcommit_ratio",
            partner="vm.overcommit_ratio",
            since="3.14",
            group=COMMIT,
            unit="kB",
        ),
        Sysctl(
            "vm.panic_on_oom",
            0,
            2,
            "0 kill, 1 panic when the whole host is out, 2 panic on any OOM",
            hazard=True,
        ),
        Sysctl(
            "vm.oom_kill_allocating_task",
            0,
            1,
            "1 kills the task that asked instead of the worst one",
            hazard=True,
        ),
        Sysctl("vm.oom_dump_tasks", 0, 1, "1 prints the task table in OOM reports"),
        Sysctl(
            "vm.admin_reserve_kbytes",
            0,
            ULONG_MAX,
            "KiB kept for root in mode 2",
            since="3.10",
            group=COMMIT,
            unit="kB",
            of_ram=True,
        ),
        Sysctl(
            "vm.user_reserve_kbytes",
            0,
            ULONG_MAX,
            "KiB kept for a user's recovery in mode 2",
            since="3.10",
            group=COMMIT,
            unit="kB",
            of_ram=True,
        ),
        Sysctl("vm.swappiness", 0, 200, "how readily anonymous memory is swapped (up to 100 before 5.8)"),
        Sysctl("vm.min_free_kbytes", 0, INT_MAX, "KiB the kernel keeps free", unit="kB", of_ram=True),
        Sysctl("vm.watermark_scale_factor", 1, 3000, "distance between watermarks, in 1/10,000 of memory"),
        Sysctl("vm.watermark_boost_factor", 0, INT_MAX, "reclaim after fragmentation, 1/10,000", since="5.0"),
        Sysctl("vm.vfs_cache_pressure", 0, INT_MAX, "how readily dentries and inodes are reclaimed"),
        Sysctl("vm.page-cluster", 0, 31, "swap read-ahead, as a power of two of pages"),
        Sysctl("vm.max_map_count", 0, INT_MAX, "memory mappings a process may have"),
        Sysctl("vm.mmap_min_addr", 0, ULONG_MAX, "lowest address a process may map", unit="bytes"),
        Sysctl(
            "vm.dirty_ratio",
            0,
            100,
            "percent of memory dirty before writers block",
            "vm.dirty_bytes",
            group=DIRTY,
        ),
        Sysctl(
            "vm.dirty_bytes",
            0,
            ULONG_MAX,
            "bytes dirty before writers block",
            "vm.dirty_ratio",
            group=DIRTY,
            unit="bytes",
            of_ram=True,
        ),
        Sysctl(
            "vm.dirty_background_ratio",
            0,
            100,
            "percent of memory dirty before write-back starts",
            "vm.dirty_background_bytes",
            group=DIRTY,
        ),
        Sysctl(
            "vm.dirty_background_bytes",
            0,
            ULONG_MAX,
            "bytes dirty before write-back starts",
            "vm.dirty_background_ratio",
            group=DIRTY,
            unit="bytes",
            of_ram=True,
        ),
        Sysctl("vm.dirty_expire_centisecs", 0, INT_MAX, "age at which dirty pages are written, in 1/100 s"),
        Sysctl("vm.dirty_writeback_centisecs", 0, INT_MAX, "interval of write-back, in 1/100 s", choice=True),
        Sysctl("vm.dirtytime_expire_seconds", 0, INT_MAX, "age at which lazy timestamps are written"),
        Sysctl("vm.extfrag_threshold", 0, 1000, "fragmentation above which memory is compacted"),
        Sysctl("vm.compaction_proactiveness", 0, 100, "effort of background compaction", since="5.9"),
        Sysctl("vm.compact_unevictable_allowed", 0, 1, "whether locked pages may be compacted"),
        Sysctl(
            "vm.percpu_pagelist_high_fraction",
            0,
            INT_MAX,
            "0 or at least 8: per-CPU page lists hold up to 1/N of a zone",
            since="5.14",
            least_above_zero=8,
        ),
        Sysctl(
            "vm.zone_reclaim_mode",
            0,
            7,
            "NUMA: reclaim here before allocating elsewhere (bits 1, 2, 4)",
            choice=True,
        ),
        Sysctl("vm.min_unmapped_ratio", 0, 100, "NUMA: percent of a zone unmapped before reclaim"),
        Sysctl("vm.min_slab_ratio", 0, 100, "NUMA: percent of a zone in slab before reclaim"),
        Sysctl(
            "vm.nr_hugepages",
            0,
            ULONG_MAX,
            "huge pages in the pool; the kernel may grant fewer",
            group=COMMIT,
            granted_less="no more free memory in one piece: reserve huge pages early in the boot "
            "(hugepages= on the kernel's command line), or free memory and write the number again",
            unit="huge pages",
            of_ram=True,
        ),
        Sysctl(
            "vm.nr_overcommit_hugepages",
            0,
            ULONG_MAX,
            "huge pages beyond the pool",
            group=COMMIT,
            unit="huge pages",
            of_ram=True,
        ),
        Sysctl(
            "vm.hugetlb_shm_group", 0, INT_MAX, "group that may use huge pages in shared memory", choice=True
        ),
        Sysctl("vm.stat_interval", 1, INT_MAX, "seconds between updates of VM statistics"),
        Sysctl("vm.laptop_mode", 0, INT_MAX, "seconds to batch disk writes", choice=True),
        Sysctl("vm.unprivileged_userfaultfd", 0, 1, "whether any user may handle page faults", since="5.2"),
        Sysctl("vm.memory_failure_early_kill", 0, 1, "kill users of a corrupted page at once", hazard=True),
        Sysctl(
            "vm.memory_failure_recovery",
            0,
            1,
            "recover from memory failure instead of panicking",
            hazard=True,
        ),
        Sysctl(
            "kernel.panic",
            -1,
            INT_MAX,
            "seconds until reboot after a panic; 0 hangs, -1 reboots at once",
            hazard=True,
            choice=True,
        ),
        Sysctl(
            "kernel.panic_on_oops",
            0,
            1,
            "1 panics on a kernel bug (oops) instead of going on without the task",
            hazard=True,
        ),
        Sysctl("kernel.keys.root_maxkeys", 0, INT_MAX, "keys that root may own"),
        Sysctl("kernel.keys.root_maxbytes", 0, INT_MAX, "bytes that root's keys may take", unit="bytes"),
    )
}


def after_writing(actual: "Mapping[str, int]", writes: "Mapping[str, int]") -> dict[str, int]:
    """Return the `actual` sysctls after some writes. Each zeroes its partner, unless that is written, too."""
    final = dict(actual)
    for name, value in writes.items():
        final[name] = value
        partner = SYSCTLS[name].partner
        if partner and partner not in writes:
            final[partner] = 0
    return final


KUBELET = {
    "vm.overcommit_memory": 1,
    "vm.panic_on_oom": 0,
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.keys.root_maxbytes": 25_000_000,
}
"""What kubelet sets (pkg/kubelet/cm/container_manager_linux.go: setupKernelTunables)."""

TRIGGERS = {
    "vm.drop_caches": "it drops caches once, at the moment it is written",
    "vm.compact_memory": "it compacts memory once, at the moment it is written",
    "vm.stat_refresh": "it refreshes counters once, at the moment it is written",
}
"""Files that trigger an action when written: they have no value to set."""
