"""The facts of a host: which were asked for, and which changed."""

import pytest

from oomguard.core.host import AskedHost, Host, UnknownHostError, changes

HOST = Host(memory_kib=64 << 20, swap_kib=0, hostname="db-1")


def test_only_facts_that_were_asked_for_are_remembered() -> None:
    """A policy that needs none is never read again because one changed."""
    asked = AskedHost(HOST)
    assert (asked.memory_kib, asked.swap_kib) == (64 << 20, 0)
    assert asked.facts == {"memory_kib": 64 << 20, "swap_kib": 0}
    assert HOST._replace(hostname="web").differs(asked.facts) == []
    assert HOST._replace(swap_kib=1).differs(asked.facts) == ["swap_kib"]


def test_a_fact_that_is_not_known_is_named() -> None:
    """Of one host, and of any."""
    with pytest.raises(UnknownHostError, match="kernel"):
        _ = AskedHost(HOST).kernel
    with pytest.raises(UnknownHostError, match="memory_kib"):
        _ = AskedHost(None).memory_kib


@pytest.mark.parametrize(
    ("now", "is_near"),
    [
        (HOST, True),
        (HOST._replace(memory_kib=64 << 20 | 1), True),
        (HOST._replace(memory_kib=67 << 20), True),
        (HOST._replace(memory_kib=68 << 20), False),
        (HOST._replace(memory_kib=60 << 20), False),
        (HOST._replace(swap_kib=3 << 20), True),
        (HOST._replace(swap_kib=4 << 20), False),
        (HOST._replace(swap_kib=None), False),
        (HOST._replace(memory_kib=None), False),
        (HOST._replace(hostname="db-2"), False),
    ],
)
def test_a_host_is_near_if_only_amounts_differ_and_by_little(now: Host, *, is_near: bool) -> None:
    """Of its RAM: swap that was none may be some by then."""
    assert now.is_near({"memory_kib": 64 << 20, "swap_kib": 0, "hostname": "db-1"}) is is_near


def test_a_change_is_told_in_units() -> None:
    """What is new in one of the two is none."""
    before = {"memory_kib": 64 << 20, "hostname": "a\nb", "swap_kib": 0}
    after = {"memory_kib": 96 << 20, "hostname": "c", "kernel": "6.12"}
    assert [*changes(before, after)] == ["memory 67108864 → 100663296 kB", "hostname a\\nb → c"]
