"""Regular expressions on process names, all tried at once, in time linear in the name.

Python's `re` backtracks, and anybody can give a program a name on which that takes very long. So expressions
become one automaton: it goes through a name once, whatever they are and however many, and takes at most some
2 ms. What needs backtracking (lookaround, back references) is not allowed.

In a rule, an expression is a name behind a NUL, which no process name has.
"""

import re
from collections.abc import Iterable, Iterator

from oomguard.core.typed import NamedTuple

_MARK = b"\0"

NODES_LIMIT = 500
"""Nodes of one expression: one for each character, group and repetition, and again for each copy."""

STEPS_LIMIT = 4000
"""Steps on one name, some 2 ms; a name that takes more matches none of the expressions."""

_NOT_ZERO = re.compile(rb"[^\0]")

_PART = re.compile(
    r"\((?:\?(?:[a-zA-Z-]*:|.))?"  # the start of a group
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]|\\(?:x..|u.{4}|U.{8}|.)"  # a set, an escape
    r"|(?:[*+?]|\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\})[?+]?|.",  # a repetition, a character
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

    @property
    def is_place(self) -> bool:
        """Whether a search can be at it: it takes a character, is an end, or waits for `$`."""
        return self.character is not None or self.test is not None or self.is_end or self.at == "$"


class NameRegexes:
    """Searches names for expressions, each with a number of its own. UnsupportedError: one is not allowed.

    A bit of an integer is a node, so a few operations take a character to all expressions. Most nodes lead
    only to the one before, by a shift; the others are visited one by one, which STEPS_LIMIT limits.
    """

    def __init__(self, listed: Iterable[tuple[int, str]]) -> None:
        self._nodes: list[_Node] = []
        self._number: list[int] = []
        """By node, the number of its expression."""
        self._then: dict[int, tuple[int, int]] = {}
        """By node that leads elsewhere: the nodes it leads to, as an integer, and how far to shift that."""
        self._by_character: dict[str, int] = {}
        tests: dict[re.Pattern[str], int] = {}
        self._shifted = self._looped = self._ends = self._last = 0
        starts = []
        for number, regex in listed:
            begun = len(self._nodes)
            starts.append(_Parser(regex, self._nodes).start())
            self._number += [number] * (len(self._nodes) - begun)
            reached: list[int] = []
            for at in range(begun, len(self._nodes)):
                self._add(at, begun, reached, tests)
        self._tests = [*tests.items()]
        self._begin = _bits(self._closure(starts, at="^"))
        self._again = _bits(self._closure(starts, at=""))
        """What each character may begin, because a search tries at each position."""
        self._elsewhere = _bits(self._then)
        self._if_empty = _bits(self._closure(starts, at="^$")) & self._ends
        self._ascii: dict[str, int] = {}
        self._asked: tuple[str, frozenset[int]] = "", self._numbers(self._if_empty)

    def _add(self, at: int, begun: int, reached: list[int], tests: dict[re.Pattern[str], int]) -> None:
        """File a node of an expression whose nodes begin there, and list what is reached from it."""
        node, bit = self._nodes[at], 1 << at
        then = 0
        if node.then and max(node.then) > at:  # a loop, before what it repeats
            then = _bits(one - begun for one in self._closure(node.then, at=""))
        else:
            for one in node.then:
                then |= reached[one - begun]
        reached.append(bit >> begun if node.is_place else 0 if node.at else then)
        if node.character is not None:
            self._by_character[node.character] = self._by_character.get(node.character, 0) | bit
        elif node.test is not None:
            tests[node.test] = tests.get(node.test, 0) | bit
        else:
            if node.is_end:
                self._ends |= bit
            elif node.at == "$" and any(self._nodes[one].is_end for one in self._closure([at], at="$")):
                self._last |= bit
            return
        if then << begun + 1 == bit:
            self._shifted |= bit
        elif then << begun == bit | bit >> 2:  # c*
            self._looped |= bit
        elif then:
            self._then[at] = then, begun

    def found(self, name: str) -> frozenset[int]:
        """Return the numbers of the expressions that are found in a name."""
        if name != self._asked[0]:
            ended = (self._run(name) or 0) & (self._ends | self._last) if name else self._if_empty
            self._asked = name, self._numbers(ended)
        return self._asked[1]

    def possible(self, begin: str) -> frozenset[int]:
        """Return the numbers of those that may be found in a name that begins like this."""
        return self._numbers((self._run(begin) or 0) | self._again)

    def is_too_slow(self, name: str) -> bool:
        """Return whether a name takes more than STEPS_LIMIT steps: none of the expressions is found in it."""
        most = self._elsewhere.bit_count() + len(self._tests)
        return most * len(name) > STEPS_LIMIT and self._run(name) is None

    def _run(self, text: str) -> int | None:
        """Return the nodes after a text, None if that takes too many steps."""
        now, steps = self._begin, 0
        for character in text:
            if not character.isascii():
                steps += len(self._tests)
            met = now & self._meeting(character)
            looped = met & self._looped
            now = (met & self._shifted) >> 1 | looped | looped >> 2 | now & self._ends | self._again
            for at in _places(met & self._elsewhere):
                then, begun = self._then[at]
                now |= then << begun
                steps += 1
            if steps > STEPS_LIMIT:
                return None
        return now

    def _meeting(self, character: str) -> int:
        """Return the nodes that a character meets; those of ASCII are remembered."""
        known = self._ascii.get(character)
        if known is None:
            known = self._by_character.get(character, 0)
            for test, nodes in self._tests:
                if test.match(character) is not None:
                    known |= nodes
            if character.isascii():
                self._ascii[character] = known
        return known

    def _numbers(self, nodes: int) -> frozenset[int]:
        return frozenset([self._number[at] for at in _places(nodes)])

    def _closure(self, nodes: Iterable[int], *, at: str) -> frozenset[int]:
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
        return frozenset(number for number in seen if self._nodes[number].is_place)


def _bits(places: Iterable[int]) -> int:
    return sum([1 << at for at in places])


def _places(bits: int) -> Iterator[int]:
    """Yield the places of the bits that are set."""
    if bits:
        for byte in _NOT_ZERO.finditer(bits.to_bytes(bits.bit_length() + 7 >> 3, "little")):
            at, value = byte.start() * 8, byte[0][0]
            while value:
                yield at + (value & -value).bit_length() - 1
                value &= value - 1


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
                after = then
                if most is None:
                    then = self._node(_Node())
                    self._nodes[then] = _Node((self._made(inner, then), after))
                for _ in range(0 if most is None else most - least):
                    then = self._node(_Node((self._made(inner, then), after)))
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
