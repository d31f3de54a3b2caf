"""Which values below 0 a process inherited, decided from the current state without events.

Linux copies `oom_score_adj` to every child and keeps it at exec, and nothing in /proc says who wrote a value.
But no unprivileged process gets below 0 by itself. So a value there has one of four origins: a service
manager or container runtime set it, a trusted process set it, it was inherited from a process that oomguard
protected, or the process lowered itself, down to the floor (`oom_score_adj_min`) that it inherited with such
a value. What is not explained by the first two counts as inherited.
"""

from collections.abc import Iterator, Sequence, Set

from oomguard.core.cgroup import system_unit
from oomguard.core.typed import NamedTuple

_ROWS_LIMIT = 1024
"""The maximum number of services remembered by name. Further ones count as every service."""

_EVERYWHERE = "*"

JUST_BELOW_ZERO = -1
"""A process can set this value or a lower one only with a privilege or an inherited floor."""


class Protection(NamedTuple):
    """The processes of one service for which oomguard set one value below 0."""

    original: int
    """The highest value it replaced, at most 0: a user can raise a process before it is protected."""
    since_ticks: int
    """When the first of them got it, in the clock of process start times."""


class Protections:
    """The values below 0 that oomguard set in place of higher ones, by value and service."""

    def __init__(self) -> None:
        self._by_value: dict[int, dict[str, Protection]] = {}
        self._lowest = 0
        self._idle: Set[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._by_value)

    def __len__(self) -> int:
        return sum(map(len, self._by_value.values()))

    def __iter__(self) -> Iterator[tuple[int, str, Protection]]:
        for value, of_services in self._by_value.items():
            for service, protection in of_services.items():
                yield value, service, protection

    def add(self, value: int, service: str, original: int, since_ticks: int) -> bool:
        """Remember that a process of `service` ("" for none) got `value`; return whether that is new."""
        original = min(0, original)
        if value >= original:
            return False
        of_services = self._by_value.setdefault(value, {})
        if service not in of_services and len(self) >= _ROWS_LIMIT:
            service = _EVERYWHERE
        known = of_services.get(service, Protection(original, since_ticks))
        merged = Protection(max(known.original, original), min(known.since_ticks, since_ticks))
        is_news = of_services.get(service) != merged
        of_services[service] = merged
        self._lowest = min(self._lowest, value)
        return is_news

    @property
    def values(self) -> Set[int]:
        """The values there are."""
        return self._by_value.keys()

    def forget(self, values: Set[int]) -> None:
        """Forget these values."""
        for value in values:
            del self._by_value[value]
        self._lowest = min(self._by_value, default=0)

    def forget_idle(self, in_force: Set[int]) -> None:
        """Forget the values that no process has from oomguard, and had none at the end of the pass before.

        So a whole pass has found each process that still had one of them.
        """
        idle = self.values - in_force
        self.forget(idle & self._idle)
        self._idle = idle

    def include(self, value: int) -> bool:
        """Return whether a process may have inherited this value, or a floor that let it set the value."""
        return self._lowest <= value < 0

    def origin(self, value: int, holder: "Holder") -> Protection | None:
        """Return the protection from which a process may have its value, None if it is its own.

        In a service it is the service's own (`OOMScoreAdjust=`), unless oomguard protected a process there.
        """
        found = [
            protection
            for given, service, protection in self
            if given <= value < protection.original
            and protection.since_ticks <= holder.started_ticks
            and (not holder.service or service in (holder.service, _EVERYWHERE))
        ]
        if not found or (holder.in_container and not holder.service):
            return None
        return max(found)


class Holder(NamedTuple):
    """A process with the value in question, and what is evidence for its origin."""

    started_ticks: int
    service: str = ""
    """Its system service, as `home_service` names it."""
    in_container: bool = False
    is_trusted: bool = False


def inherited(
    protections: Protections, value: int, chain: Sequence[Holder], *, is_set_by_trusted: bool
) -> Protection | None:
    """Return the protection that an untrusted process has its value from, or None if the value is its own.

    `chain` is the process and its ancestors that have the same value, up to the first that has not.
    `is_set_by_trusted` is whether that one is a living, trusted process: then the first process with the
    value, if trusted as well, got it on purpose (`choom -n -900 -- runuser -u alice PROGRAM`).
    """
    process, topmost = chain[0], chain[-1]
    found = protections.origin(value, process)
    if found is None or protections.origin(value, topmost) is None:
        return None
    return None if topmost.is_trusted and is_set_by_trusted else found


def home_service(path: str) -> str:
    """Return the system service of a cgroup path, "" if there is none.

    Instances count as their template, because anybody who connects can create one (`ssh@.service`). A user's
    service manager does not count, because users can move processes of any session there.
    """
    unit = system_unit(path)
    if not unit.endswith(".service") or unit.startswith("user@"):
        return ""
    template, at, _ = unit.partition("@")
    return f"{template}@.service" if at else unit
