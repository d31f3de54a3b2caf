"""Whose a value is, and what was there before."""

import pytest

from oomguard.core.entry import Entry, own_value


@pytest.mark.parametrize(
    ("entry", "value", "own"),
    [
        (None, 7, 7),
        (Entry(5, 300), 300, 5),
        (Entry(5, 300), 200, 200),
        (Entry(5, 300, 200), 200, 200),
        (Entry(5, 300, 200, is_written=False), 200, 5),
        (Entry(0, 0), 0, 0),
        (Entry(5, 300, 0, is_written=False), 0, 5),
    ],
)
def test_a_process_owns_what_it_did_not_get_from_us(entry: Entry | None, value: int, own: int) -> None:
    """What it has otherwise is what it had before the first change."""
    assert own_value(entry, value) == own


@pytest.mark.parametrize(
    ("entry", "value", "after"),
    [
        (Entry(5, 300), 7, Entry(5, 300)),
        (Entry(5, 300, is_written=False), 300, Entry(5, 300)),
        (Entry(5, 300, is_written=False), 5, None),
        (Entry(5, 300, is_written=False), 7, Entry(5, 300)),
        (Entry(5, 300, 200, is_written=False), 300, Entry(5, 300, 200)),
        (Entry(5, 300, 200, is_written=False), 200, Entry(5, 200)),
        (Entry(5, 300, 200, is_written=False), 7, Entry(5, 300, 200)),
        (Entry(0, 14, is_grant_pending=True, is_written=False), 13, Entry(0, 14, is_grant_pending=True)),
        (Entry(0, 14, is_grant_pending=True, is_written=False), 0, None),
    ],
)
def test_after_a_crash_the_value_tells_whether_it_was_written(
    entry: Entry, value: int, after: Entry | None
) -> None:
    """If it is the one before, it was not; another was set since by something else."""
    assert entry.after_crash(value) == after
