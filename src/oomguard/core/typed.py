"""What the daemon needs of `typing`, which it does not import.

That and its named tuples would take 1.0 MiB of the daemon's 15, and a quarter of the time of its imports.
For type checkers these are the same: ruff has `typing-modules`, and mypy goes by the name TYPE_CHECKING.
"""

from collections import _tuplegetter  # type: ignore[attr-defined]  # of namedtuple, in C

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
else:
    Protocol = object

    class NamedTuple(tuple):
        """A tuple with the fields that the body of a subclass declares."""

        def __init_subclass__(cls) -> None:
            """Make a constructor with the fields as parameters, and a getter for each."""
            if NamedTuple not in cls.__bases__:
                return  # it has the fields of the class that it is made from
            fields = tuple(cls.__annotations__)
            cls._fields = cls.__match_args__ = fields
            cls._field_defaults = {name: vars(cls)[name] for name in fields if name in vars(cls)}
            names = ", ".join(fields)
            cls.__new__ = eval(f"lambda _cls, {names}: _new(_cls, ({names},))", {"_new": tuple.__new__})  # noqa: S307
            cls.__new__.__defaults__ = tuple(cls._field_defaults.values())
            for place, name in enumerate(fields):
                setattr(cls, name, _tuplegetter(place, None))

        _make = classmethod(tuple.__new__)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes):
            # Of a list: of an iterator, CPython would keep up to 2,000 unused tuples of each length for good.
            made = self._make([*map(changes.pop, self._fields, self)])
            if changes:
                raise ValueError(f"no such fields: {[*changes]}")
            return made

        def __getnewargs__(self):
            return tuple(self)  # to copy it

        def __repr__(self):
            fields = ", ".join(f"{name}={item!r}" for name, item in self._asdict().items())
            return f"{type(self).__name__}({fields})"
