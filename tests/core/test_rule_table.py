"""Rules in a table are the rules that were put in, and found by name."""

import pytest

from oomguard.core.match import Matcher
from oomguard.core.policy import Policy
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.serialize import decode, encode

TERMS = (Terms(Value("exact", 300)), Terms(Value("keep"), units=("a.service",)))
NAMES: tuple[tuple[bytes, ...], ...] = (
    (b"sshd",),
    (),
    (b"postgres", b"a-name-of-more-than-15", b"mysqld*"),
    (b"a-name-of-more-", b"sshd"),
    *((b"p%d" % number,) for number in range(600)),
)
RULES = tuple(
    Rule(number, names, TERMS[not names], f"{number % 2}.yaml", number + 1)
    for number, names in enumerate(NAMES)
)
TABLE = decode(encode(Policy(rules=RULES))).rules


def test_each_rule_is_as_it_was() -> None:
    """One by one, in slices, from the end, and all in a row."""
    assert [TABLE[number] for number in range(len(TABLE))] == list(RULES)
    assert (TABLE[-1], TABLE[1:5], TABLE[::200]) == (RULES[-1], [*RULES[1:5]], [*RULES[::200]])
    assert tuple(TABLE) == RULES
    with pytest.raises(IndexError):
        TABLE[len(RULES)]


def test_a_rule_is_found_by_each_of_its_names() -> None:
    """The kernel keeps 15 bytes of a name, so longer ones may be meant, too."""
    matcher = Matcher(TABLE)
    for comm, numbers in (
        (b"sshd", (0, 3)),
        (b"postgres", (2,)),
        (b"mysqld_safe", (2,)),
        (b"a-name-of-more-", (2, 3)),
        (b"a-name-of-more", ()),
        (b"p599", (603,)),
        (b"p600", ()),
    ):
        assert [rule.number for rule in matcher.candidates(comm)] == sorted((1, *numbers))


@pytest.mark.parametrize("rows", ['[["a"], [2, 0, 0, 1]]', '[["a"], [1, 9, 0, 1]]', '[["a"], [1, 0, 0]]'])
def test_numbers_that_fit_nothing_are_refused(rows: str) -> None:
    """A file may be damaged."""
    (header, *_) = encode(Policy(rules=RULES[:1]))
    with pytest.raises(ValueError, match="not a compiled policy"):
        decode([header, rows])
