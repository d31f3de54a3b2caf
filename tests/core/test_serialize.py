"""The compiled policy is taken only as it was written."""

from typing import Any, get_args

import pytest

from oomguard.core import choices, serialize
from oomguard.core.policy import Policy
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.serialize import decode, encode

LISTS = [field for field, default in Terms._field_defaults.items() if default == ()]


@pytest.mark.parametrize("field", LISTS)
def test_a_list_has_items_of_its_own_type_only(field: str) -> None:
    """Numbers for uids, text for all that people write."""

    def policy(*items: Any) -> Policy:
        fields: dict[str, Any] = {field: items}
        return Policy(rules=(Rule(0, (b"x",), Terms(Value("keep"), **fields), "p.yaml", 1),))

    numbers, texts = policy(1, 2), policy("a", "b")
    good, bad = (numbers, texts) if field in ("uids", "subuids") else (texts, numbers)
    assert decode(encode(good)) == good
    with pytest.raises(ValueError, match="not a compiled policy"):
        decode(encode(bad))


def test_every_word_of_the_language_is_taken() -> None:
    """The daemon has no `typing`, so it repeats them."""
    assert get_args(choices.ValueKind) == serialize._VALUE_KINDS
    assert get_args(choices.SysctlKind) == serialize._SYSCTL_KINDS
    kinds = {"scope": choices.Scope, "children": choices.Children, "trust": choices.Trust}
    assert {name: get_args(kind) for name, kind in kinds.items()} == serialize._CHOICES
