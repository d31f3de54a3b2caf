"""Many rules in little memory.

Some rule sets name 15,000 programs. `Rule` objects take 400 bytes for each rule, in all more than the rest of
the daemon. Here a rule takes its name and ten bytes; the object is created on access.
"""

from array import array
from collections.abc import Sequence

from oomguard.core.rule import Rule
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import overload

    from oomguard.core.rule import Terms


class RuleTable(Sequence[Rule]):
    """An append-only sequence of rules, which share `terms` and `files`."""

    def __init__(self, terms: "Iterable[Terms]", files: "Iterable[str]") -> None:
        self._terms = list(terms)
        self._files = list(files)
        self._names: list[bytes | tuple[bytes, ...]] = []  # most rules have one name, and need no tuple
        self._rows = array("I")  # three numbers for each rule: terms, file, line

    def extend(self, names: "Sequence[bytes | tuple[bytes, ...]]", rows: list[int]) -> None:
        """Add rules: their names, and three numbers for each: the indexes of its terms and file, its line.

        IndexError: there is no such index, or there are not three. A single name needs no tuple.
        """
        if len(rows) != 3 * len(names) or not names:
            raise IndexError("three numbers for each rule")
        self._terms[max(rows[::3])]
        self._files[max(rows[1::3])]
        self._rows.extend(rows)
        self._names.extend(names)

    def __len__(self) -> int:
        return len(self._names)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Rule: ...

        @overload
        def __getitem__(self, index: slice) -> list[Rule]: ...

    def __getitem__(self, index: int | slice) -> Rule | list[Rule]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        names = self._names[index]
        number = index % len(self)
        terms, file, line = self._rows[3 * number : 3 * number + 3]
        listed = names if isinstance(names, tuple) else (names,)
        return Rule(number, listed, self._terms[terms], self._files[file], line)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to tuples, which hash otherwise
