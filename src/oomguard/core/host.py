"""What a policy may depend on beside its files: the facts of a host."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Host(NamedTuple):
    """The facts of a host.

    `hugetlb_kib` is reserved for huge pages of all sizes, `other_hugetlb_kib` for those that are not in
    `vm.nr_hugepages`; pages beyond the pools, which come and go, are in neither. `kernel` is its release.
    """

    memory_kib: int
    swap_kib: int = 0
    hugetlb_kib: int = 0
    other_hugetlb_kib: int = 0
    huge_page_kib: int = 2048
    hostname: str = ""
    kernel: str = ""
    is_container: bool = False

    def differs(self, facts: "Mapping[str, Any]") -> list[str]:
        """Return the names of the facts that are no longer as they were."""
        return [name for name, value in facts.items() if getattr(self, name) != value]


class NoHostError(Exception):
    """A policy that depends on the host was read without one."""


class AskedHost:
    """A host that remembers which of its facts were asked for, in `facts`."""

    def __init__(self, host: Host | None) -> None:
        self._host = host
        self.facts: dict[str, int | str | bool] = {}

    def __getattr__(self, name: str) -> Any:
        if self._host is None:
            raise NoHostError
        value = self.facts[name] = getattr(self._host, name)
        return value
