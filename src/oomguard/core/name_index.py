"""Which rules have an exact name, in nine bytes for each name, where a dictionary takes a hundred."""

from array import array

from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class NameIndex:
    """A hash table with the places of rules, at their names' hashes or behind them."""

    def __init__(self) -> None:
        self._hashes, self._places = array("q"), array("I")
        self._slots = array("I", [0])  # one more than a place; 0: free

    def add(self, name: bytes, place: int) -> None:
        """Add a name; `build` makes it count."""
        self._hashes.append(hash(name))
        self._places.append(place)

    def build(self) -> None:
        """Make the table, at most half full. Sorting would leave a MiB of freed objects for 15,000 names."""
        size = 1 << (2 * len(self._hashes)).bit_length()
        slots = self._slots = array("I", [0]) * size
        for wanted, place in zip(self._hashes, self._places, strict=True):
            at = wanted % size
            while slots[at]:
                at = (at + 1) % size
            slots[at] = place + 1
        del self._hashes, self._places

    def find(self, name: bytes) -> "Iterator[int]":
        """Yield the places of rules that have this name, and perhaps of some that do not."""
        slots, size = self._slots, len(self._slots)
        at = hash(name) % size
        while slots[at]:
            yield slots[at] - 1
            at = (at + 1) % size
