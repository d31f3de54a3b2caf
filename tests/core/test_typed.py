"""The daemon's named tuples are those of `typing`."""

import copy
import sys
import typing

import pytest

from oomguard.core import typed


class Ours(typed.NamedTuple):
    """A documented one."""

    first: int
    second: str = "b"
    """A documented field."""
    third: "tuple[int, ...]" = ()

    @property
    def both(self) -> str:
        """What a property makes of its fields."""
        return f"{self.first}{self.second}"


class Theirs(typing.NamedTuple):
    """The same."""

    first: int
    second: str = "b"
    third: "tuple[int, ...]" = ()


def test_they_are_made_and_read_alike() -> None:
    """By place and by name, with defaults."""
    every: list[dict[str, typing.Any]] = [
        {"first": 1},
        {"first": 1, "third": (2,)},
        {"first": 1, "second": "c", "third": (2,)},
    ]
    for fields in every:
        ours, theirs = Ours(**fields), Theirs(**fields)
        assert Ours(*theirs) == ours == (*theirs,)
        assert hash(ours) == hash(theirs)
        assert ours._asdict() == theirs._asdict()
        assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert (ours.first, ours.second, ours.third, ours.both) == (1, "c", (2,), "1c")
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)
    match ours:
        case Ours(1, third=third):
            assert third == (2,)


def test_a_class_made_from_one_has_its_fields() -> None:
    """It adds methods."""

    class Longer(Ours):
        @property
        def length(self) -> int:
            return len(self)

    assert (Longer(1).second, Longer(1).length, Longer._fields) == ("b", 3, Ours._fields)


def test_a_changed_copy_is_of_the_same_kind() -> None:
    """The original stays as it is."""
    one = Ours(1)
    other = one._replace(second="c")
    assert isinstance(other, Ours)
    assert copy.deepcopy(other) == other
    assert (one, other, Ours._make([1, "c", ()])) == ((1, "b", ()), (1, "c", ()), other)


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_what_is_no_field_is_refused(kind: type[Ours]) -> None:
    """As is a missing field, and any change."""
    for wrong in ((), (1, "b", (), 4)):
        with pytest.raises(TypeError):
            kind(*wrong)
    with pytest.raises((TypeError, ValueError)):
        kind(1)._replace(fourth=4)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        kind(1).first = 2  # type: ignore[misc]


def test_replacing_leaves_no_memory_behind() -> None:
    """A tuple made of an iterator is never reused: CPython keeps it when it is freed."""
    one = Ours(1)
    before = sys.getallocatedblocks()
    for number in range(3000):
        one._replace(first=number)
    assert sys.getallocatedblocks() - before < 100
