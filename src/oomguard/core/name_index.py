"""Which rules have an exact name, in nine bytes for each name, where a dictionary takes a hundred."""

from array import array
from collections.abc import Iterator


class NameIndex:
    """A hash table with the places of rules, at their names' hashes or behind them."""

    def __init__(self) -> None:
        self._hashes, self._places = array("q"), array("I")
        self._slots = array("I", [0])  # one more than a place; 0: free
        self._others: dict[int, list[int]] = {}
        """By hash, the places beyond the first: many slots for one name would be in the way of others."""

    def add(self, name: bytes, place: int) -> None:
        """Add a name; `build` makes it count."""
        self._hashes.append(hash(name))
        self._places.append(place)

    def build(self) -> None:
        """Make the table, at most half full. Sorting would leave a MiB of freed objects for 15,000 names."""
        hashes, places = self._hashes, self._places
        size = 1 << (2 * len(hashes)).bit_length()
        slots = array("I", [0]) * size
        for number, wanted in enumerate(hashes):
            at = wanted % size
            while slots[at] and hashes[slots[at] - 1] != wanted:
                at = (at + 1) % size
            if slots[at]:
                self._others.setdefault(wanted, []).append(places[number])
            else:
                slots[at] = number + 1
        for at, number in enumerate(slots):
            slots[at] = number and places[number - 1] + 1
        self._slots = slots
        del self._hashes, self._places

    def find(self, name: bytes) -> Iterator[int]:
        """Yield the places of rules that have this name, and perhaps of some that do not."""
        slots, size, wanted = self._slots, len(self._slots), hash(name)
        at = wanted % size
        while slots[at]:
            yield slots[at] - 1
            at = (at + 1) % size
        yield from self._others.get(wanted, ())
