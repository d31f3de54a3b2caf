"""From the text of a policy file to its nodes.

PyYAML's own loader keeps the last of two equal keys, builds objects from tags and expands aliases
without limit. So its events are taken, and the tree is built here: bounded, without recursion,
and every refusal is a fault that names its place.
"""

from typing import NamedTuple, NoReturn

import yaml

from oomguard.policy.fault import Fault, Words, excerpt
from oomguard.policy.nodes import Entry, Mapping, Node, Scalar, Sequence
from oomguard.policy.syntax import syntax_fault
from oomguard.policy.unicode import decode, has_surrogate

DEPTH_LIMIT = 20
NODE_LIMIT = 400_000
ALIAS_LIMIT = 100_000

_LIBYAML_TOO_DEEP = "exceeded maximum nesting depth"
"""What libyaml 0.2.6 and later (PyYAML 6.0.4) stops at: 1,000 levels, before we have seen the twentieth."""

_LOADER: "type[yaml.CSafeLoader | yaml.SafeLoader]" = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_NO_KEY = Scalar("", plain=True, line=0, column=0)  # stands for a key that was refused


class Tree(NamedTuple):
    """The root of a file, None where it is empty or can not be read, and what was wrong with it."""

    root: Node | None
    faults: list[Fault]


class _StopError(Exception):
    """The rest of the file is not worth reading."""


def parse(file: str, content: bytes) -> Tree:
    """Build the tree of one policy file."""
    text = decode(file, content)
    if isinstance(text, Fault):
        return Tree(None, [text])
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        if error.problem == _LIBYAML_TOO_DEEP and error.problem_mark is not None:
            mark = error.problem_mark
            return Tree(None, [*builder.faults, _TOO_DEEP.at(file, mark.line + 1, mark.column + 1, "")])
        return Tree(None, [*builder.faults, syntax_fault(file, text, error)])
    except _StopError:
        return Tree(None, builder.faults)
    return Tree(builder.root, builder.faults)


class _Frame:
    """A list or mapping whose end has not been read yet."""

    __slots__ = ("anchor", "entries", "height", "items", "key", "node", "size_before")

    def __init__(self, node: Sequence | Mapping, anchor: str | None, size_before: int) -> None:
        self.node = node
        self.items = node.items if isinstance(node, Sequence) else None
        self.entries = node.entries if isinstance(node, Mapping) else None
        self.anchor = anchor
        self.size_before = size_before
        self.height = 1
        self.key: Scalar | None = None


class _Anchor(NamedTuple):
    node: Node | None  # None while it is being read: an alias in there would refer to itself
    size: int = 1
    height: int = 0


class _Builder:
    """Takes YAML events one by one and grows the tree."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.faults: list[Fault] = []
        self._file = file
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchor] = {}
        self._documents = 0
        self._nodes = 0
        self._expanded = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._start(event)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(*_place(event), _SEVERAL_DOCUMENTS)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line, column = _place(event)
        self._count(line, column)
        if event.tag is not None:
            self._refuse(line, column, _tag(event.tag))
        text = event.value
        if has_surrogate(text):
            self._refuse(line, column, _NOT_UNICODE)
            text = ""
        node = Scalar(text, not event.style, line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchor(node)
        self._add(node)

    def _start(self, event: "yaml.SequenceStartEvent | yaml.MappingStartEvent") -> None:
        line, column = _place(event)
        self._count(line, column)
        self._refuse_depth(len(self._stack) + 1, line, column)
        if event.tag is not None:
            self._refuse(line, column, _tag(event.tag))
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchor(None)
        is_list = isinstance(event, yaml.SequenceStartEvent)
        node = Sequence([], line, column) if is_list else Mapping({}, line, column)
        self._stack.append(_Frame(node, event.anchor, self._nodes + self._expanded - 1))

    def _end(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            size = self._nodes + self._expanded - frame.size_before
            self._anchors[frame.anchor] = _Anchor(frame.node, size, frame.height)
        self._add(frame.node, frame.height)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line, column = _place(event)
        name = event.anchor or ""
        anchor = self._anchors.get(name)
        if anchor is None:
            self._refuse(line, column, _unknown_anchor(name))
            self._add(Scalar(f"*{name}", plain=False, line=line, column=column))
            return
        if anchor.node is None:
            self._stop(line, column, _recursive_alias(name))
        self._expanded += anchor.size
        if self._expanded > ALIAS_LIMIT:
            self._stop(line, column, _TOO_MANY_ALIASES)
        self._refuse_depth(len(self._stack) + anchor.height, line, column)
        node = anchor.node
        if isinstance(node, Scalar):
            node = node._replace(line=line, column=column)
        self._add(node, anchor.height)

    def _add(self, node: Node, height: int = 0) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height + 1)
        if frame.items is not None:
            frame.items.append(node)
        elif frame.key is None:
            frame.key = self._key(node)
        else:
            self._entry(frame, node)

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self._refuse(node.line, node.column, _COMPLEX_KEY)
        return _NO_KEY

    def _entry(self, frame: _Frame, value: Node) -> None:
        key, frame.key = frame.key, None
        assert key is not None
        assert frame.entries is not None
        if key is _NO_KEY:
            return
        if key.text == "<<" and key.plain:
            self._refuse(key.line, key.column, _MERGE_KEY)
            return
        first = frame.entries.get(key.text)
        if first is not None:
            self._refuse(key.line, key.column, _duplicate_key(key.text, first))
            return
        frame.entries[key.text] = Entry(value, key.line, key.column)

    def _count(self, line: int, column: int) -> None:
        self._nodes += 1
        if self._nodes > NODE_LIMIT:
            self._stop(line, column, _TOO_MANY_VALUES)

    def _refuse_depth(self, depth: int, line: int, column: int) -> None:
        if depth > DEPTH_LIMIT:
            self._stop(line, column, _TOO_DEEP)

    def _refuse(self, line: int, column: int, words: Words) -> None:
        self.faults.append(words.at(self._file, line, column, self._path()))

    def _stop(self, line: int, column: int, words: Words) -> NoReturn:
        self._refuse(line, column, words)
        raise _StopError

    def _path(self) -> str:
        """Return where in the tree we are, as `rules[3].name`."""
        path = ""
        for frame in self._stack:
            if frame.items is not None:
                path += f"[{len(frame.items)}]"
            elif frame.key is not None:
                path += f".{excerpt(frame.key.text)}" if path else excerpt(frame.key.text)
        return path


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1, mark.column + 1


_SEVERAL_DOCUMENTS = Words(
    "several-documents",
    "a second YAML document starts here; a policy file holds one",
    "remove the '---', or move the second part to a drop-in of its own",
)
_NOT_UNICODE = Words("not-unicode", "holds half of a surrogate pair, which is no character")
_TOO_MANY_VALUES = Words(
    "too-many-values",
    f"the file holds more than {NODE_LIMIT:,} values",
    "use globs and lists of names, or spread the rules over drop-ins",
)
_TOO_MANY_ALIASES = Words(
    "too-many-aliases",
    f"aliases stand for more than {ALIAS_LIMIT:,} values up to here",
    "write fewer rules with longer lists of names",
)
_TOO_DEEP = Words(
    "too-deep",
    f"lists and mappings are nested more than {DEPTH_LIMIT} deep",
    "a policy needs four levels; text that begins with [ or { must be quoted",
)
_COMPLEX_KEY = Words(
    "complex-key", "a list or mapping can not be a key", "text that begins with [ or { must be quoted"
)
_MERGE_KEY = Words(
    "merge-key",
    "merge keys (<<) are not part of the policy language",
    "repeat the keys, or name several processes in one rule: name: [a, b]",
)


def _unknown_anchor(name: str) -> Words:
    shown = excerpt(name)
    return Words(
        "unknown-anchor",
        f"*{shown} refers to an anchor &{shown} that is not above it",
        f"a name that begins with * must be quoted: '*{shown}'",
    )


def _recursive_alias(name: str) -> Words:
    shown = excerpt(name)
    return Words(
        "recursive-alias",
        f"*{shown} stands inside of what &{shown} names: it would never end",
        "write the value out",
    )


def _duplicate_key(key: str, first: Entry) -> Words:
    hint = "remove one of the two: YAML would silently keep the last"
    if key in {"rules", "vm", "kernel"}:
        hint = "put everything below the first one"
    return Words("duplicate-key", f"{excerpt(key)} is given twice, first on line {first.line}", hint)


def _tag(tag: str) -> Words:
    shown = excerpt(tag.replace("tag:yaml.org,2002:", "!!", 1))
    return Words(
        "tag",
        f"YAML tags ({shown}) are not part of the policy language",
        "remove the tag; text that begins with ! must be quoted",
    )
