"""From the text of a policy file to its nodes.

PyYAML's own loader keeps the last of two equal keys, builds objects from tags and expands aliases
without limit. So this module builds the tree from PyYAML's events: bounded, without recursion, and with
the place of every fault.
"""

import codecs
import re
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import yaml

from oomguard.policy.fault import Fault, Problem, excerpt
from oomguard.policy.messages.yaml_syntax import LINE_BREAK, syntax_fault
from oomguard.policy.nodes import Mapping, Member, Node, Scalar, Sequence
from oomguard.policy.scalars import has_surrogate

DEPTH_LIMIT = 20
NODE_LIMIT = 400_000
ALIAS_LIMIT = 100_000

_LIBYAML_TOO_DEEP = "exceeded maximum nesting depth"
"""The error of libyaml 0.2.6 and later (PyYAML 6.0.4) at 1,000 levels, which comes before our own."""

_LOADER: "type[yaml.CSafeLoader | yaml.SafeLoader]" = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""U+0085, U+2028 and U+2029 end a line, and so a comment, in YAML 1.1 only."""
_NO_KEY = Scalar("", plain=True, line=0, column=0)  # in place of a key that was refused


class _StopError(Exception):
    """Stop parsing: the rest of the file does not matter."""


def parse(file: str, content: bytes) -> tuple[Node | None, list[Fault]]:
    """Return the root of one policy file, None if it is empty or cannot be parsed, and the faults."""
    text = _decode(file, content)
    if isinstance(text, Fault):
        return None, [text]
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        if error.problem == _LIBYAML_TOO_DEEP and error.problem_mark is not None:
            mark = error.problem_mark
            return None, [*builder.faults, _TOO_DEEP.at(file, mark.line + 1, mark.column + 1)]
        return None, [*builder.faults, syntax_fault(file, text, error)]
    except _StopError:
        return None, builder.faults
    return builder.root, builder.faults


def _decode(file: str, content: bytes) -> str | Fault:
    """Return the text of a file without its byte order mark, or the fault."""
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
        bad = _FORBIDDEN.search(text)
        if bad is None:
            return text
        before = text[: bad.start()]
        kind = "line break" if bad[0] in "\x85\u2028\u2029" else "control character"
        escape = f"\\x{ord(bad[0]):02x}" if bad[0] < "\x80" else f"\\u{ord(bad[0]):04x}"
        problem = Problem(
            "control-character",
            f"{kind} U+{ord(bad[0]):04X} is not allowed in a policy",
            f'remove it, or write it as the escape "{escape}", in double quotes',
        )
    except UnicodeDecodeError as error:
        before, byte = error.object[: error.start].decode(), error.object[error.start]
        problem = Problem("not-utf-8", f"byte 0x{byte:02x} is not valid UTF-8", "save the file as UTF-8")
    lines = LINE_BREAK.split(before)
    return problem.at(file, len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is not complete yet."""

    node: Sequence | Mapping
    anchor: str | None
    size_before: int
    height: int = 1
    key: Scalar | None = None


class _Anchor(NamedTuple):
    node: Node | None  # None until it is complete: an alias inside refers to itself
    size: int = 1
    height: int = 0


class _Builder:
    """Builds the tree from YAML events, one by one."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.faults: list[Fault] = []
        self._file = file
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchor] = {}
        self._texts: dict[str, str] = {}
        """Each text once: rules repeat their keys and values."""
        self._documents = 0
        self._nodes = 0
        self._line = 0
        self._expanded = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(*_place(event), _SEVERAL_DOCUMENTS)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line, column = self._count(event)
        text = event.value
        if event.tag is not None:
            self._refuse(line, column, _tag(event.tag))
        if has_surrogate(text):
            self._refuse(line, column, _NOT_UNICODE)
            text = ""
        node = Scalar(self._texts.setdefault(text, text), not event.style, line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchor(node)
        self._add(node)

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        line, column = self._count(event)
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
        self._add(anchor.node._replace(line=line, column=column), anchor.height)

    def _add(self, node: Node, height: int = 0) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        if height >= frame.height:
            frame.height = height + 1
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.key is not None:
            key, frame.key = frame.key, None
            self._entry(frame.node.entries, key, node)
        elif isinstance(node, Scalar):
            frame.key = node
        else:
            self._refuse(node.line, node.column, _COMPLEX_KEY)
            frame.key = _NO_KEY

    def _entry(self, entries: dict[str, Member], key: Scalar, value: Node) -> None:
        if key is _NO_KEY:
            return
        if key.text == "<<" and key.plain:
            self._refuse(key.line, key.column, _MERGE_KEY)
            return
        member = Member(value, key.line, key.column)
        first = entries.setdefault(key.text, member)
        if first is not member:
            self._refuse(key.line, key.column, _duplicate_key(key.text, first))

    def _count(self, event: yaml.Event) -> tuple[int, int]:
        """Count a node, and return its line and column."""
        line, column = _place(event)
        if line == self._line:
            line = self._line  # the same object: a rule has five of them
        self._line = line
        self._nodes += 1
        if self._nodes > NODE_LIMIT:
            self._stop(line, column, _TOO_MANY_VALUES)
        return line, column

    def _refuse_depth(self, depth: int, line: int, column: int) -> None:
        if depth > DEPTH_LIMIT:
            self._stop(line, column, _TOO_DEEP)

    def _refuse(self, line: int, column: int, problem: Problem) -> None:
        self.faults.append(problem.at(self._file, line, column, self._path()))

    def _stop(self, line: int, column: int, problem: Problem) -> NoReturn:
        self._refuse(line, column, problem)
        raise _StopError

    def _path(self) -> str:
        """Return the path of the current node, as `rules[3].name`."""
        path = ""
        for frame in self._stack:
            if isinstance(frame.node, Sequence):
                path += f"[{len(frame.node.items)}]"
            elif frame.key is not None:
                path += f".{excerpt(frame.key.text)}" if path else excerpt(frame.key.text)
        return path


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1, mark.column + 1


_SEVERAL_DOCUMENTS = Problem(
    "several-documents",
    "a second YAML document starts here; a policy file is one document",
    "remove the ---, or move the second part to a drop-in",
)
_NOT_UNICODE = Problem("not-unicode", "contains half of a surrogate pair, which is not a character")
_TOO_MANY_VALUES = Problem(
    "too-many-values",
    f"the file has more than {NODE_LIMIT:,} values",
    "use globs and lists of names, or split the rules into drop-ins",
)
_TOO_MANY_ALIASES = Problem(
    "too-many-aliases",
    f"aliases expand to more than {ALIAS_LIMIT:,} values",
    "write fewer rules with longer lists of names",
)
_TOO_DEEP = Problem(
    "too-deep",
    f"lists and mappings are nested more than {DEPTH_LIMIT} levels deep",
    "a policy needs four levels; quote text that starts with [ or {",
)
_COMPLEX_KEY = Problem(
    "complex-key", "a list or mapping cannot be a key", "quote text that starts with [ or {"
)
_MERGE_KEY = Problem(
    "merge-key",
    "merge keys (<<) are not allowed in a policy",
    "repeat the keys, or list several names in one rule: name: [a, b]",
)


def _unknown_anchor(name: str) -> Problem:
    shown = excerpt(name)
    return Problem(
        "unknown-anchor",
        f"*{shown} refers to an anchor &{shown}, but there is none above",
        f"quote a name that starts with *: '*{shown}'",
    )


def _recursive_alias(name: str) -> Problem:
    shown = excerpt(name)
    return Problem(
        "recursive-alias",
        f"*{shown} refers to a value that contains it",
        "write the value instead of the alias",
    )


def _duplicate_key(key: str, first: Member) -> Problem:
    hint = "remove one of them; YAML would silently use the last one"
    if key in {"rules", "vm", "kernel"}:
        hint = "move everything below the first one"
    return Problem("duplicate-key", f"{excerpt(key)} is already set on line {first.line}", hint)


def _tag(tag: str) -> Problem:
    shown = excerpt(tag.replace("tag:yaml.org,2002:", "!!", 1))
    return Problem(
        "tag",
        f"YAML tags ({shown}) are not allowed in a policy",
        "remove the tag; quote text that starts with !",
    )
