"""Regular expressions on process names, all tried at once, in time linear in the name.

Python's `re` backtracks, and anybody can give a program a name on which that takes very long. So expressions
become one automaton: it goes through a name once, whatever they are and however many. What needs backtracking
(lookaround, back references) is not allowed.

In a rule, an expression is a name behind a NUL, which no process name has.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MARK = b"\0"

NODES_LIMIT = 2000
"""Nodes of one expression: one for each character, group and repetition, and again for each copy."""

_REMEMBERED_LIMIT = 65536
"""Nodes of remembered states before all are forgotten: names are anybody's choice."""

_PART = re.compile(
    r"\((?:\?(?:[a-zA-Z-]*:|.))?"  # the start of a group
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]|\\(?:x..|u.{4}|U.{8}|.)"  # a set, an escape
    r"|(?:[*+?]|\{(?:\d+(?:,\d*)?|,\d*)\})[?+]?|.",  # a repetition, a character
    re.DOTALL,
)
_ESCAPES = frozenset("dDwWsSafnrtvxuU")
_DEPTH_LIMIT = 40


def marked(regex: str) -> bytes:
    """Return an expression as a name of a rule."""
    return _MARK + regex.encode()


def is_regex(name: bytes) -> bool:
    """Return whether a name of a rule is an expression."""
    return name.startswith(_MARK)


def text_of(name: bytes) -> str:
    """Return the expression that a name of a rule is."""
    return name[len(_MARK) :].decode("utf-8", "surrogateescape")


def node_count(regex: str) -> int:
    """Return how many nodes an expression takes. UnsupportedError: it is not allowed."""
    nodes: list[_Node] = []
    _Parser(regex, nodes).start()
    return len(nodes)


class UnsupportedError(Exception):
    """An expression has something that is not allowed in names: the message says what."""


class _Node(NamedTuple):
    """A step of an expression: one of its fields says what it takes to go on to `then`.

    `character` is one, `test` matches one, both None: nothing; `at` is "^" or "$"; `is_end`: the expression
    was found.
    """

    then: tuple[int, ...] = ()
    character: str | None = None
    test: re.Pattern[str] | None = None
    at: str = ""
    is_end: bool = False


class _State:
    """A set of nodes, and where characters lead from there."""

    __slots__ = ("by_character", "found", "next", "nodes", "tests")

    def __init__(self, nodes: frozenset[int], all_nodes: "list[_Node]") -> None:
        self.nodes = nodes
        self.found: frozenset[int] | None = None
        """The expressions that are found if the name ends here, None if not asked yet."""
        self.next: dict[str, _State] = {}
        self.by_character: dict[str, list[int]] = {}
        self.tests: list[tuple[re.Pattern[str] | None, int]] = []
        for number in nodes:
            node = all_nodes[number]
            if node.character is not None:
                self.by_character.setdefault(node.character, []).extend(node.then)
            elif node.test is not None:
                self.tests += [(node.test, then) for then in node.then]
            elif node.is_end:
                self.tests.append((None, number))  # found once is found

    def after(self, character: str) -> "Iterator[int]":
        """Yield the nodes that a character leads to."""
        yield from self.by_character.get(character, ())
        for test, then in self.tests:
            if test is None or test.match(character) is not None:
                yield then


class NameRegexes:
    """Searches names for expressions, each with a number of its own. UnsupportedError: one is not allowed."""

    def __init__(self, listed: "Iterable[tuple[int, str]]") -> None:
        self._nodes: list[_Node] = []
        self._number: list[int] = []
        """By node, the number of its expression."""
        starts = []
        for number, regex in listed:
            begun = len(self._nodes)
            starts.append(_Parser(regex, self._nodes).start())
            self._number += [number] * (len(self._nodes) - begun)
        self._first = _State(self._closure(starts, at="^"), self._nodes)
        self._again = _State(self._closure(starts, at=""), self._nodes)
        """What each character may begin: a search tries at each place."""
        self._forget()

    def found(self, name: str) -> frozenset[int]:
        """Return the numbers of the expressions that are found in a name."""
        state = self._run(name)
        if state.found is None:
            ended = self._closure(state.nodes, at="$" if name else "^$")
            state.found = frozenset(self._number[node] for node in ended if self._nodes[node].is_end)
        return state.found

    def possible(self, begin: str) -> set[int]:
        """Return the numbers of those that may be found in a name that begins like this."""
        return {self._number[node] for node in self._run(begin).nodes}

    def _run(self, text: str) -> _State:
        state = self._first
        for character in text:
            then = state.next.get(character)
            if then is None:
                if self._remembered >= _REMEMBERED_LIMIT:
                    self._forget()
                nodes = self._closure((*state.after(character), *self._again.nodes), at="")
                then = self._states.get(nodes)
                if then is None:
                    then = self._states[nodes] = _State(nodes, self._nodes)
                    self._remembered += len(nodes)
                state.next[character] = then
                self._remembered += 1
            state = then
            if not state.nodes:
                break
        return state

    def _forget(self) -> None:
        self._states: dict[frozenset[int], _State] = {}
        self._first.next.clear()
        self._remembered = 0

    def _closure(self, nodes: "Iterable[int]", *, at: str) -> frozenset[int]:
        """Return the nodes that take a character or are an end, or wait for `$`, reached without one."""
        seen, left = set[int](), [*nodes]
        while left:
            number = left.pop()
            if number in seen:
                continue
            seen.add(number)
            node = self._nodes[number]
            if node.character is None and node.test is None and (not node.at or node.at in at):
                left += node.then
        return frozenset(
            number
            for number in seen
            if (node := self._nodes[number]).character is not None
            or node.test is not None
            or node.is_end
            or node.at == "$"
        )


class _Parser:
    """Makes nodes of an expression that `re` compiles, from its end to its start."""

    def __init__(self, regex: str, nodes: list[_Node]) -> None:
        self._nodes = nodes
        self._limit = len(nodes) + NODES_LIMIT
        self._tokens = _PART.findall(regex)
        self._at = 0
        self._depth = 0
        self._flags = re.DOTALL

    def start(self) -> int:
        """Return the node that the expression starts with."""
        tree = self._alternatives()
        return self._made(tree, self._node(_Node(is_end=True)))

    def _alternatives(self) -> "_Tree":
        choices = [self._sequence()]
        while self._at < len(self._tokens) and self._tokens[self._at] == "|":
            self._at += 1
            choices.append(self._sequence())
        return _Any(choices)

    def _sequence(self) -> "_Tree":
        parts: list[_Tree] = []
        while self._at < len(self._tokens) and self._tokens[self._at] not in ("|", ")"):
            part = self._tokens[self._at]
            self._at += 1
            if part[0] == "(":
                parts.append(self._group(part))
            elif part[0] in "*+?" or (part[0] == "{" and len(part) > 1):
                parts.append(_repeated(parts.pop(), part))
            else:
                parts.append(self._atom(part))
        return _All(parts)

    def _group(self, part: str) -> "_Tree":
        if part not in ("(", "(?:", "(?i:"):
            raise UnsupportedError("groups other than (...), (?:...) and (?i:...)")
        if self._depth >= _DEPTH_LIMIT:
            raise UnsupportedError("groups nested so deep")
        flags = self._flags
        if part == "(?i:":
            self._flags |= re.IGNORECASE
        self._depth += 1
        inner = self._alternatives()
        self._depth -= 1
        self._flags = flags
        self._at += 1  # the )
        return inner

    def _atom(self, part: str) -> _Node:
        if part in ("^", r"\A"):
            return _Node(at="^")
        if part in ("$", r"\Z"):
            return _Node(at="$")
        if part[0] == "\\" and part[1].isalnum() and part[1] not in _ESCAPES:
            raise UnsupportedError(part)
        if len(part) == 1 and part != "." and not self._flags & re.IGNORECASE:
            return _Node(character=part)
        return _Node(test=re.compile(part, self._flags))

    def _made(self, tree: "_Tree", then: int) -> int:
        """Return the first node of a tree in front of a node."""
        match tree:
            case _Node():
                return self._node(tree._replace(then=(then,)))
            case _All(parts):
                for part in reversed(parts):
                    then = self._made(part, then)
            case _Any(choices):
                return self._node(_Node(tuple([self._made(choice, then) for choice in choices])))
            case _Times(inner, least, most):
                if most is None:
                    after, then = then, self._node(_Node())
                    self._nodes[then] = _Node((self._made(inner, then), after))
                for _ in range(0 if most is None else most - least):
                    then = self._node(_Node((self._made(inner, then), then)))
                for _ in range(least):
                    then = self._made(inner, then)
        return then

    def _node(self, node: _Node) -> int:
        if len(self._nodes) >= self._limit:
            raise UnsupportedError("so many repetitions")
        self._nodes.append(node)
        return len(self._nodes) - 1


class _All(NamedTuple):
    """One after the other."""

    parts: "list[_Tree]"


class _Any(NamedTuple):
    """One of several."""

    choices: "list[_Tree]"


class _Times(NamedTuple):
    """At least and at most so many times; None: any number of times."""

    inner: "_Tree"
    least: int
    most: int | None


_Tree = _Node | _All | _Any | _Times


def _repeated(inner: _Tree, part: str) -> _Times:
    if part[1:].endswith("+"):
        raise UnsupportedError(f"possessive repetitions ({part})")
    known = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(part[0])
    if known is not None:
        return _Times(inner, *known)
    least, comma, most = part[1 : part.index("}")].partition(",")
    return _Times(inner, int(least or 0), (int(most) if most else None) if comma else int(least))
