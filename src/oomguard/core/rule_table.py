"""Many rules in little memory.

Some rule sets name 15,000 programs. `Rule` objects take 400 bytes for each rule, in all more than the rest of
the daemon. Here a rule takes its name and 20 bytes; the object is created on access.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise

from oomguard.core.rule import Rule, Terms
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import overload

_COLUMNS = 4


class RuleTable(Sequence[Rule]):
    """An append-only sequence of rules, which share `terms` and `files`."""

    def __init__(self, terms: Iterable[Terms], files: Iterable[str]) -> None:
        self.terms = list(terms)
        self._files = list(files)
        self._text = bytearray()  # all names
        self._ends = array("I", [0])  # where each name ends in it
        self._rows = array("I")  # numbers of each rule: of names up to it, its terms, file and line

    def extend(self, names: Sequence[bytes], rows: list[int]) -> None:
        """Add rules: all their names, and four numbers for each.

        These are how many names there are up to it, the indexes of its terms and file, and its line.
        IndexError: there is no such index, or these are not the numbers.
        """
        counts = [len(self._rows) and self._rows[-_COLUMNS], *rows[::_COLUMNS]]
        if len(rows) % _COLUMNS or counts != sorted(counts) or counts[-1] != len(self._ends) - 1 + len(names):
            raise IndexError("four numbers for each rule, and the last counts all names")
        self.terms[max(rows[1::_COLUMNS])]
        self._files[max(rows[2::_COLUMNS])]
        self._ends.extend(islice(accumulate(map(len, names), initial=len(self._text)), 1, None))
        self._text += b"".join(names)
        self._rows.extend(rows)

    def __len__(self) -> int:
        return len(self._rows) // _COLUMNS

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Rule: ...

        @overload
        def __getitem__(self, index: slice) -> list[Rule]: ...

    def __getitem__(self, index: int | slice) -> Rule | list[Rule]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        after, terms, file, line = self._rows[_COLUMNS * number : _COLUMNS * (number + 1)]
        first = self._rows[_COLUMNS * (number - 1)] if number else 0
        names = tuple(
            [bytes(self._text[begin:end]) for begin, end in pairwise(self._ends[first : after + 1])]
        )
        return Rule(number, names, self.terms[terms], self._files[file], line)

    def __iter__(self) -> Iterator[Rule]:
        names = (bytes(self._text[begin:end]) for begin, end in pairwise(self._ends))
        columns, first = iter(self._rows), 0
        for number, (after, terms, file, line) in enumerate(zip(*[columns] * _COLUMNS, strict=True)):
            yield Rule(number, (*islice(names, after - first),), self.terms[terms], self._files[file], line)
            first = after

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RuleTable) and self._parts == other._parts:
            return True  # as after a reading that changed nothing: without a Rule for each
        return isinstance(other, Sequence) and list(self) == list(other)

    @property
    def _parts(self) -> tuple[object, ...]:
        return self._rows, self._ends, self._text, self._files, self.terms

    __hash__ = None  # type: ignore[assignment]  # equal to tuples, which hash otherwise
