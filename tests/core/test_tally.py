"""Which running programs a rule that matches nothing was probably meant for."""

import time

from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.tally import near_misses


def rule(*names: bytes) -> Rule:
    """Return a rule for these names."""
    return Rule(0, names, Terms(Value("exact", 1)), "f", 1)


def test_a_misspelled_or_longer_name_is_found() -> None:
    """By a letter or two, by case, or by what stands around it; a glob has none."""
    running = {b"stress-ng-vm": 1, b"Xorg": 1, b"postgres": 1, b"sh": 1}
    assert near_misses(rule(b"stress-ng"), running) == [b"stress-ng-vm"]
    assert near_misses(rule(b"xorg"), running) == [b"Xorg"]
    assert near_misses(rule(b"postgers"), running) == [b"postgres"]
    assert near_misses(rule(b"post*", b"nginx"), running) == []


def test_many_similar_names_cost_little() -> None:
    """A user can have any number of processes, each with a name that takes long to compare."""
    running = [b"%015d" % number for number in range(30_000)]
    begun = time.process_time()
    near_misses(rule(b"012345678901234", b"543210987654321"), running)
    assert time.process_time() - begun < 2
