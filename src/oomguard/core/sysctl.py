"""The sysctls a policy may set, one row each, and how they depend on each other.

Ranges are the kernel's (kernel/sysctl.c:vm_table and the handlers in mm/, Linux 6.12). If kernels differ,
the widest is given: an older kernel denies other values with EINVAL.
"""

from collections.abc import Mapping

from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

    Unit = Literal["", "bytes", "kB", "huge pages"]

INT_MAX = 2**31 - 1
ULONG_MAX = 2**64 - 1

_SECONDS_MAX = INT_MAX // 24
"""Of what the kernel keeps in ticks (proc_dointvec_jiffies), of which a second has 24 or more (CONFIG_HZ)."""

UNIT_BYTES = {"bytes": 1, "kB": 1024}
"""Bytes of a unit; those of huge pages depend on the host."""

COMMIT = "commit"
"""The sysctls that decide how much memory may be promised."""

DIRTY = "dirty"
"""The sysctls that decide when dirty pages are written."""


class Sysctl(NamedTuple):
    """A sysctl: its full name, what its values mean, the highest and the lowest.

    `partner` is the knob that the kernel zeroes when this one is written. `since` is the first kernel with
    it, "" if every kernel in use has it. Rows of one `group` are written together or not at all.
    `granted_less` is why the kernel may grant less than was written, "" if it does not. No spelling hint
    suggests a `hazard`. The kernel rejects values from 1 to below `least_above_zero`. `unit` is what the
    number counts if it is a size; `of_ram`: it can be a share of RAM. A `choice` has no order: a higher
    value is not more of the same.
    """

    name: str
    summary: str
    high: int = INT_MAX
    low: int = 0
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
        Sysctl("vm.overcommit_memory", "0 heuristic, 1 always grant, 2 strict accounting", 2, group=COMMIT),
        Sysctl(
            "vm.overcommit_ratio",
            "percent of RAM that may be promised in mode 2; writing it zeroes overcommit_kbytes",
            partner="vm.overcommit_kbytes",
            group=COMMIT,
        ),
        Sysctl(
            "vm.overcommit_kbytes",
            "KiB that may be promised in mode 2; writing it zeroes overcommit_ratio",
            ULONG_MAX,
            partner="vm.overcommit_ratio",
            since="3.14",
            group=COMMIT,
            unit="kB",
        ),
        Sysctl(
            "vm.panic_on_oom",
            "0 kill, 1 panic when the whole host is out, 2 panic on any OOM",
            2,
            hazard=True,
        ),
        Sysctl(
            "vm.oom_kill_allocating_task",
            "1 kills the task that asked instead of the worst one",
            1,
            hazard=True,
        ),
        Sysctl("vm.oom_dump_tasks", "1 prints the task table in OOM reports", 1),
        Sysctl(
            "vm.admin_reserve_kbytes",
            "KiB kept for root in mode 2",
            ULONG_MAX,
            since="3.10",
            group=COMMIT,
            unit="kB",
            of_ram=True,
        ),
        Sysctl(
            "vm.user_reserve_kbytes",
            "KiB kept for a user's recovery in mode 2",
            ULONG_MAX,
            since="3.10",
            group=COMMIT,
            unit="kB",
            of_ram=True,
        ),
        Sysctl("vm.swappiness", "how readily anonymous memory is swapped (up to 100 before 5.8)", 200),
        Sysctl("vm.min_free_kbytes", "KiB the kernel keeps free", unit="kB", of_ram=True),
        Sysctl(
            "vm.watermark_scale_factor", "distance between watermarks, in 1/10,000 of memory", 3000, low=1
        ),
        Sysctl("vm.watermark_boost_factor", "reclaim after fragmentation, 1/10,000", since="5.0"),
        Sysctl("vm.vfs_cache_pressure", "how readily dentries and inodes are reclaimed"),
        Sysctl("vm.page-cluster", "swap read-ahead, as a power of two of pages", 31),
        Sysctl("vm.max_map_count", "memory mappings a process may have"),
        Sysctl("vm.mmap_min_addr", "lowest address a process may map", ULONG_MAX, unit="bytes"),
        Sysctl(
            "vm.dirty_ratio",
            "percent of memory dirty before writers block",
            100,
            partner="vm.dirty_bytes",
            group=DIRTY,
        ),
        Sysctl(
            "vm.dirty_bytes",
            "bytes dirty before writers block; writing dirty_ratio zeroes it",
            ULONG_MAX,
            low=8192,  # two of the smallest pages
            partner="vm.dirty_ratio",
            group=DIRTY,
            unit="bytes",
            of_ram=True,
        ),
        Sysctl(
            "vm.dirty_background_ratio",
            "percent of memory dirty before write-back starts",
            100,
            partner="vm.dirty_background_bytes",
            group=DIRTY,
        ),
        Sysctl(
            "vm.dirty_background_bytes",
            "bytes dirty before write-back starts; writing dirty_background_ratio zeroes it",
            ULONG_MAX,
            low=1,
            partner="vm.dirty_background_ratio",
            group=DIRTY,
            unit="bytes",
            of_ram=True,
        ),
        Sysctl("vm.dirty_expire_centisecs", "age at which dirty pages are written, in 1/100 s"),
        Sysctl("vm.dirty_writeback_centisecs", "interval of write-back, in 1/100 s", choice=True),
        Sysctl("vm.dirtytime_expire_seconds", "age at which lazy timestamps are written"),
        Sysctl("vm.extfrag_threshold", "fragmentation above which memory is compacted", 1000),
        Sysctl("vm.compaction_proactiveness", "effort of background compaction", 100, since="5.9"),
        Sysctl("vm.compact_unevictable_allowed", "whether locked pages may be compacted", 1),
        Sysctl(
            "vm.percpu_pagelist_high_fraction",
            "0 or at least 8: per-CPU page lists hold up to 1/N of a zone",
            since="5.14",
            least_above_zero=8,
        ),
        Sysctl(
            "vm.zone_reclaim_mode",
            "NUMA: reclaim here before allocating elsewhere (bits 1, 2, 4)",
            7,
            choice=True,
        ),
        Sysctl("vm.min_unmapped_ratio", "NUMA: percent of a zone unmapped before reclaim", 100),
        Sysctl("vm.min_slab_ratio", "NUMA: percent of a zone in slab before reclaim", 100),
        Sysctl(
            "vm.nr_hugepages",
            "huge pages in the pool; the kernel may grant fewer",
            ULONG_MAX,
            group=COMMIT,
            granted_less="no more free memory in one piece: reserve huge pages early in the boot "
            "(hugepages= on the kernel's command line), or free memory and write the number again",
            unit="huge pages",
            of_ram=True,
        ),
        Sysctl(
            "vm.nr_overcommit_hugepages",
            "huge pages beyond the pool",
            ULONG_MAX,
            group=COMMIT,
            unit="huge pages",
            of_ram=True,
        ),
        Sysctl("vm.hugetlb_shm_group", "group that may use huge pages in shared memory", choice=True),
        Sysctl("vm.stat_interval", "seconds between updates of VM statistics", _SECONDS_MAX, low=1),
        Sysctl("vm.laptop_mode", "seconds to batch disk writes", _SECONDS_MAX, choice=True),
        Sysctl("vm.unprivileged_userfaultfd", "whether any user may handle page faults", 1, since="5.2"),
        Sysctl("vm.memory_failure_early_kill", "kill users of a corrupted page at once", 1, hazard=True),
        Sysctl(
            "vm.memory_failure_recovery", "recover from memory failure instead of panicking", 1, hazard=True
        ),
        Sysctl(
            "kernel.panic",
            "seconds until reboot after a panic; 0 hangs, -1 reboots at once",
            low=-1,
            hazard=True,
            choice=True,
        ),
        Sysctl(
            "kernel.panic_on_oops",
            "1 panics on a kernel bug (oops) instead of going on without the task",
            1,
            hazard=True,
        ),
        Sysctl("kernel.keys.root_maxkeys", "keys that root may own", low=1),
        Sysctl("kernel.keys.root_maxbytes", "bytes that root's keys may take", low=1, unit="bytes"),
    )
}


def after_writing(actual: Mapping[str, int], writes: Mapping[str, int]) -> dict[str, int]:
    """Return the `actual` sysctls after some writes. Each zeroes its partner, unless that is written, too."""
    final = dict(actual)
    for name, value in writes.items():
        final[name] = value
        partner = SYSCTLS[name].partner
        if partner and partner not in writes:
            final[partner] = 0
    return final


KUBELETS = ("kubelet", "kubelite", "k3s", "k3s-server", "k3s-agent", "rke2", "microshift")
"""The names of processes that are a kubelet, or have one in them."""

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
