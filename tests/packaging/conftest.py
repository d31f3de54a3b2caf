"""Leaves the slow tests of this folder out of a run that did not ask for them."""

import re

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those with the mark `packaging` take minutes, and a network."""
    if re.search(r"\bpackaging\b", config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("packaging")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
