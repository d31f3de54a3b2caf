"""The compiled policy is taken only as it was written."""

from typing import Any

import pytest

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
