"""The facts of a host that a policy may depend on."""

from collections.abc import Iterator, Mapping

from oomguard.core.text import printable
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Host(NamedTuple):
    """The facts of a host, None if they are not known.

    `hugetlb_kib` is reserved for huge pages of all sizes, `other_hugetlb_kib` for those that are not in
    `vm.nr_hugepages`; pages beyond the pools, which come and go, are in neither. `kernel` is its release.
    """

    memory_kib: int | None = None
    swap_kib: int | None = None
    hugetlb_kib: int | None = None
    other_hugetlb_kib: int | None = None
    huge_page_kib: int | None = None
    hostname: str | None = None
    kernel: str | None = None
    is_container: bool | None = None

    def differs(self, facts: "Mapping[str, Any]") -> list[str]:
        """Return the names of the facts that have changed."""
        return [name for name, value in facts.items() if getattr(self, name, None) != value]

    def is_near(self, facts: "Mapping[str, Any]") -> bool:
        """Return whether only amounts differ, each by at most 5 % of RAM."""
        for name in self.differs(facts):
            now = getattr(self, name, None)
            if now is None or not self.memory_kib or not name.endswith("_kib"):
                return False
            if abs(now - facts[name]) > self.memory_kib // 20:
                return False
        return True


def changes(before: "Mapping[str, Any]", after: "Mapping[str, Any]") -> Iterator[str]:
    """Yield how each fact changed: `memory 16777216 → 33554432 kB`."""
    for name, was in before.items():
        now = after.get(name, was)
        if now != was and name.endswith("_kib"):
            yield f"{name.removesuffix('_kib')} {was} → {now} kB"
        elif now != was:
            yield f"{name} {printable(str(was))} → {printable(str(now))}"


class UnknownHostError(Exception):
    """A policy depends on a fact of the host that is not known: its argument."""


class AskedHost:
    """A host that records in `facts` which facts were read. `is_any`: none is known."""

    def __init__(self, host: Host | None) -> None:
        self._host = host
        self.is_any = host is None
        self.facts: dict[str, int | str | bool] = {}

    def __getattr__(self, name: str) -> "Any":
        value = getattr(self._host, name, None)
        if value is None:
            raise UnknownHostError(name)
        self.facts[name] = value
        return value
