"""Numbers that a page promises are those of the code: other tests hold what is done with them."""

from pathlib import Path

import pytest

from oomguard.core.sample import HOLDERS
from oomguard.daemon import foresight, reload
from oomguard.daemon.event_proof import GUARD_SECONDS
from oomguard.daemon.worker import POLL_SECONDS
from oomguard.reconcile import backoff

ROOT = Path(__file__).parents[2]

NUMBERS = {
    "docs/history.md": [
        (foresight._REPEAT_SECONDS, 600, "warned about less than 10 minutes ago"),
        (foresight._CLOSE_LIMIT, 8, "the eight cgroups with the least left"),
        (HOLDERS, 15, "the 15 processes that the kernel would kill first"),
    ],
    "docs/policy.md": [
        (backoff.TOLERATED, 5, "rewritten more than five times within a minute"),
        (backoff.WINDOW_SECONDS, 60, "rewritten more than five times within a minute"),
    ],
    "docs/troubleshooting.md": [
        (reload.RETRY_SECONDS, 10, "tries again after 10 s to 5 minutes"),
        (reload.LONGEST_RETRY_SECONDS, 300, "tries again after 10 s to 5 minutes"),
    ],
    "docs/internals/architecture.md": [(POLL_SECONDS, 1, "a look every second")],
    "docs/internals/security.md": [(GUARD_SECONDS, 1, "requests wake the daemon at most once a second")],
}


@pytest.mark.parametrize("page", NUMBERS)
def test_numbers_of_a_page_are_those_of_the_code(page: str) -> None:
    """Both, so that a change of either is a change of both."""
    text = " ".join((ROOT / page).read_text().split())
    for value, number, words in NUMBERS[page]:
        assert value == number, words
        assert words in text


def test_the_glance_comes_with_the_watchdogs_ping() -> None:
    """Every 15 s, at half the time that systemd waits: it wakes the daemon no more often than that."""
    (line,) = [
        line
        for line in (ROOT / "systemd/oomguard.service").read_text().splitlines()
        if line.startswith("WatchdogSec=")
    ]
    ping = int(line.partition("=")[2]) / 2
    assert 0 < ping - foresight._GLANCE_SECONDS <= 1
    assert f"every {ping:.0f} s" in " ".join((ROOT / "docs/history.md").read_text().split())
