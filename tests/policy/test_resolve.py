"""One policy on four hosts: what each value comes to."""

from typing import NamedTuple

import pytest

from oomguard.core.host import Host
from oomguard.core.overcommit import KBYTES, MODE, Memory
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.sysctl_diff import diff_sysctls
from oomguard.policy.load import parse

from .conftest import sources

GIB = 1024 * 1024
PAGE_KIB = 2048


class Machine(NamedTuple):
    """A host: what its kernel shows, and what its sysctls are."""

    title: str
    memory_kib: int
    swap_kib: int = 0
    huge_pages: int = 0
    hostname: str = "host"
    max_map_count: int = 65530
    is_container: bool = False

    @property
    def facts(self) -> Host:
        """Its facts."""
        hugetlb = self.huge_pages * PAGE_KIB
        return Host(
            *(self.memory_kib, self.swap_kib, hugetlb, 0, PAGE_KIB),
            *(self.hostname, "6.12.48+deb13-amd64", self.is_container),
        )

    @property
    def memory(self) -> Memory:
        """Its meminfo: a quarter of what is not in huge pages is promised."""
        hugetlb = self.huge_pages * PAGE_KIB
        free = self.memory_kib - hugetlb
        limit = free * 50 // 100 + self.swap_kib
        return Memory(
            *(self.memory_kib, self.swap_kib, hugetlb, limit, free // 4),
            *(self.huge_pages, PAGE_KIB, free * 3 // 4),
        )

    @property
    def sysctls(self) -> dict[str, int]:
        """Its sysctls: the kernel's defaults."""
        given = {
            "vm.overcommit_ratio": 50,
            "vm.admin_reserve_kbytes": 8192,
            "vm.user_reserve_kbytes": 131072,
            "vm.min_free_kbytes": 67584,
            "vm.nr_hugepages": self.huge_pages,
            "vm.max_map_count": self.max_map_count,
            "vm.swappiness": 60,
            "vm.dirty_ratio": 20,
        }
        return dict.fromkeys(SYSCTLS, 0) | given


MACHINES = (
    Machine("container, 1 GiB", 1 * GIB, is_container=True),
    Machine("desktop, 16 GiB", 16_252_928, swap_kib=8 * GIB, max_map_count=1_048_576),
    Machine("database, 64 GiB", 65_745_715, hostname="db-1"),
    Machine("node, 1 TiB, 800 GiB in huge pages", 1_055_916_032, huge_pages=409_600),
)


def comes_to(written: str, machine: Machine) -> str:
    """Return the value after a pass, `refused`, or whether a file counts."""
    if written.startswith("when:"):
        return "counts" if parse(sources(written), host=machine.facts).policy.files else "no"
    knob = written.partition(":")[0]
    mode = "overcommit_memory: 2, " if knob == "commit_limit" else ""
    policy = parse(sources(f"vm: {{{mode}{written}}}"), host=machine.facts).policy
    actual, name = machine.sysctls, KBYTES if mode else f"vm.{knob}"
    changes = diff_sysctls(policy, actual, machine.memory, {}, cause="policy")
    change = next((one for one in changes if one.name == name), None)
    if change is None:
        return f"{actual[name]:,} stays"
    assert not mode or any(one.name == MODE for one in changes)
    return "refused" if change.obstacle is not None else f"{change.after:,}"


TABLE = """
min_free_kbytes: 3%                               | 31,457     | 487,587         | 1,972,371  | 31,677,480
min_free_kbytes: {ram: 3%, min: 64MiB, max: 2GiB} | 65,536     | 487,587         | 1,972,371  | 2,097,152
nr_hugepages: 1GiB                                | refused    | 512             | 512        | 512
nr_hugepages: {ram: 75%}                          | refused    | refused         | refused    | 386,688
dirty_bytes: 0%                                   | 8,192      | 8,192           | 8,192      | 8,192
commit_limit: 90%                                 | 943,718    | 14,627,635      | 59,171,143 | 195,349,708
commit_limit: {leave: 8GiB}                       | refused    | 7,864,320       | 57,357,107 | 208,666,624
commit_limit: 48GiB                               | 50,331,648 | 50,331,648      | 50,331,648 | refused
max_map_count: {at_least: 262144}                 | 262,144    | 1,048,576 stays | 262,144    | 262,144
swappiness: {at_most: 10}                         | 10         | 10              | 10         | 10
when: {memory: ">= 64GiB"}                        | no         | no              | counts     | counts
when: {swap: none, hostname: "db-*"}              | no         | no              | counts     | no
"""
"""Each line is a value, and what it comes to on each of the machines, in the sysctl's unit."""

ROWS = [[cell.strip() for cell in row.split("|")] for row in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_each_value_fits_each_host(row: list[str]) -> None:
    """Or is refused there."""
    assert row[1:] == [comes_to(row[0], machine) for machine in MACHINES]
