"""One policy on four hosts: what each value comes to, as the table of docs/policy.md has it."""

import re
from typing import NamedTuple

import pytest

from oomguard.core.host import Host
from oomguard.core.overcommit import KBYTES, MODE, Memory
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.sysctl_diff import diff_sysctls
from oomguard.policy.load import parse
from pages import ROOT

from .conftest import sources

GIB = 1024 * 1024
PAGE_KIB = 2048


class Machine(NamedTuple):
    """A host as the table names it: what its kernel shows, and what its sysctls are."""

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
        return f"{actual[name]:,}, as it was"
    assert not mode or any(one.name == MODE for one in changes)
    return "refused" if change.obstacle is not None else f"{change.after:,}"


def table() -> list[list[str]]:
    """Return the cells of the table."""
    text = (ROOT / "docs" / "policy.md").read_text()
    _, _, below = text.partition(f"| in the policy | {MACHINES[0].title} |")
    rows = below.split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


@pytest.mark.parametrize("row", table(), ids=lambda row: str(row[0]))
def test_the_table_of_the_docs_has_what_each_value_comes_to(row: list[str]) -> None:
    """If this fails because the language changed, copy the line that it shows."""
    written = row[0].strip("`")
    cells = [comes_to(written, machine) for machine in MACHINES]
    assert f"| {' | '.join(row)} |" == f"| `{written}` | {' | '.join(cells)} |"


def test_the_table_has_every_kind_of_value_and_every_host() -> None:
    """And more than one row."""
    text = " ".join(row[0] for row in table())
    for word in ("3%", "min:", "max:", "at_least", "at_most", "leave", "48GiB", "nr_hugepages", "when:"):
        assert word in text
    assert (
        f"| in the policy | {' | '.join(machine.title for machine in MACHINES)} |"
        in (ROOT / "docs" / "policy.md").read_text()
    )
