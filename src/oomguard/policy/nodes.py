"""A policy file as a tree of nodes that remember their line and column."""

from typing import NamedTuple

from oomguard.policy.fault import excerpt


class Scalar(NamedTuple):
    """A word or a number. `plain` says that it was written without quotes."""

    text: str
    plain: bool
    line: int
    column: int


class Sequence(NamedTuple):
    """A list."""

    items: "list[Node]"
    line: int
    column: int


class Entry(NamedTuple):
    """The value of a key, and the place of the key."""

    value: "Node"
    line: int
    column: int


class Mapping(NamedTuple):
    """Keys and their values, in the order of the file."""

    entries: dict[str, Entry]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


class Place(NamedTuple):
    """Where in a file something is: the node, its position, and its path in words and in keys."""

    node: Node
    line: int
    column: int
    path: str
    keys: tuple[str, ...]
    is_item: bool = False


def place(root: Node, loc: tuple[int | str, ...]) -> Place:
    """Follow pydantic's location down the tree, past the names that it gives to alternatives."""
    here = Place(root, root.line, root.column, "", ())
    for part in loc:
        node = here.node
        if isinstance(node, Sequence) and isinstance(part, int):
            item = node.items[part]
            here = Place(item, item.line, item.column, f"{here.path}[{part}]", here.keys, is_item=True)
        elif isinstance(node, Mapping) and isinstance(part, str):
            entry = node.entries.get(part)
            if entry is not None:
                path = f"{here.path}.{excerpt(part)}" if here.path else excerpt(part)
                value = entry.value
                here = Place(value, value.line, value.column, path, (*here.keys, part))
    return here
