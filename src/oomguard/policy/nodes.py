"""A policy file as a tree of nodes that remember their line and column."""

from typing import NamedTuple

from oomguard.policy.fault import excerpt


class Scalar(NamedTuple):
    """A word or a number. `plain` is whether it has no quotes."""

    text: str
    plain: bool
    line: int
    column: int


class Sequence(NamedTuple):
    """A list."""

    items: "list[Node]"
    line: int
    column: int


class Member(NamedTuple):
    """The value of a key, and the place of the key."""

    value: "Node"
    line: int
    column: int


class Mapping(NamedTuple):
    """Keys and their values, in the order of the file."""

    entries: dict[str, Member]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


def items(root: Mapping, key: str) -> "list[Node]":
    """Return the items of the list that a key has, none if it has no list."""
    entry = root.entries.get(key)
    return entry.value.items if entry is not None and isinstance(entry.value, Sequence) else []


class Location(NamedTuple):
    """A node, its position in the file, and its path as text and as keys."""

    node: Node
    line: int
    column: int
    path: str
    keys: tuple[str, ...]
    is_item: bool = False


def locate(root: Node, loc: tuple[int | str, ...]) -> Location:
    """Return the node at pydantic's location, ignoring the names of alternatives in there."""
    here = Location(root, root.line, root.column, "", ())
    for part in loc:
        node = here.node
        if isinstance(node, Sequence) and isinstance(part, int):
            item = node.items[part]
            here = Location(item, item.line, item.column, f"{here.path}[{part}]", here.keys, is_item=True)
        elif isinstance(node, Mapping) and isinstance(part, str):
            entry = node.entries.get(part)
            if entry is not None:
                path = f"{here.path}.{excerpt(part)}" if here.path else excerpt(part)
                value = entry.value
                here = Location(value, value.line, value.column, path, (*here.keys, part))
    return here
