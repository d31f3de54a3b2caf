"""Numbers that a page promises are those of the code: other tests hold what is done with them."""

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from oomguard.cli import exporter
from oomguard.core.policy import Policy
from oomguard.core.sample import HOLDERS
from oomguard.daemon import foresight, loop, reload, status_writer, work_queue
from oomguard.daemon.event_proof import GUARD_SECONDS
from oomguard.daemon.worker import POLL_SECONDS
from oomguard.exporter import server
from oomguard.reconcile import backoff
from oomguard.report import status_file

ROOT = Path(__file__).parents[2]

OPTIONS = ArgumentParser()
exporter._arguments(OPTIONS)

NUMBERS: dict[str, list[tuple[float, int, str]]] = {
    "docs/history.md": [
        (foresight._REPEAT_SECONDS, 600, "warned about less than 10 minutes ago"),
        (foresight._CLOSE_LIMIT, 8, "the eight cgroups with the least left"),
        (HOLDERS, 15, "the 15 processes that the kernel would kill first"),
    ],
    "docs/policy.md": [
        (backoff.TOLERATED, 5, "rewritten more than five times within a minute"),
        (backoff.WINDOW_SECONDS, 60, "rewritten more than five times within a minute"),
        (work_queue._AGAIN_LIMIT, 64, "others are retried: 64 each second"),
        (Policy().commit_headroom_percent, 10, "`commit_headroom` percent (default: 10)"),
        (Policy().resync_interval_seconds, 60, "seconds between full passes (default: 60)"),
    ],
    "docs/json.md": [(status_writer._RULES_LIMIT, 1000, "`rules`: the 1,000 that match most processes")],
    "docs/metrics.md": [
        (status_file._PATIENCE_SECONDS, 30, "after two resync intervals and 30 s"),
        (OPTIONS.get_default("rules"), 100, "Each of the first 100 rules that match a process (`--rules N`)"),
    ],
    "docs/troubleshooting.md": [
        (reload.RETRY_SECONDS, 10, "tries again after 10 s to 5 minutes"),
        (reload.LONGEST_RETRY_SECONDS, 300, "tries again after 10 s to 5 minutes"),
    ],
    "docs/internals/architecture.md": [(POLL_SECONDS, 1, "a look every second")],
    "docs/internals/security.md": [
        (GUARD_SECONDS, 1, "requests wake the daemon at most once a second"),
        (backoff.TOLERATED_LOOKS, 60, "a watch without writes rests for a minute after 60 events"),
        (server.Server.longest_seconds, 10, "disconnected after 10 s"),
        (server._OPEN_LIMIT, 16, "of more than 16 the oldest"),
    ],
}


@pytest.mark.parametrize("page", NUMBERS)
def test_numbers_of_a_page_are_those_of_the_code(page: str) -> None:
    """Both, so that a change of either is a change of both."""
    text = " ".join((ROOT / page).read_text().split())
    for value, number, words in NUMBERS[page]:
        assert value == number, words
        assert words in text


def seconds(setting: str) -> int:
    """Return a setting of the unit."""
    (value,) = re.findall(
        rf"^{setting}=(\d+)s?$", (ROOT / "systemd/oomguard.service").read_text(), re.MULTILINE
    )
    return int(value)


def test_the_glance_comes_with_the_watchdogs_ping() -> None:
    """Every 15 s, at half the time that systemd waits: it wakes the daemon no more often than that."""
    ping = seconds("WatchdogSec") / 2
    assert 0 < ping - foresight._GLANCE_SECONDS <= 1
    assert f"every {ping:.0f} s" in " ".join((ROOT / "docs/history.md").read_text().split())


def test_the_loop_pauses_long_before_the_kernel_kills_it() -> None:
    """At a real-time priority, each pause begins the count of LimitRTTIME= again."""
    longest = seconds("LimitRTTIME")
    assert longest >= 10 * loop._BUSY_SECONDS
    assert f"`LimitRTTIME={longest}s` kills it" in (ROOT / "docs/internals/reliability.md").read_text()
