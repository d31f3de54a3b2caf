"""The socket filters of the proc connector, on messages as the kernel makes them."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from oomguard.kernel.event_filter import COMM, EXEC, UID, Wanted, attach, event_filter


def fork_message(*, parent: int = 500, child: int = 600, thread: int | None = None) -> bytes:
    """Return the kernel's message about a fork."""
    body = struct.pack("=IIQIIII8x", 1, 0, 77, parent, parent, thread or child, child)
    return bytes(36) + body


@pytest.fixture
def filtered() -> Iterator[Callable[..., list[bytes]]]:
    """Send messages through the filter of events, to see which the kernel lets through."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)

    def send(parents: frozenset[int], messages: list[bytes], **wanted: Any) -> list[bytes]:
        attach(receiver, event_filter(Wanted(parents, **wanted)))
        passed = []
        for message in messages:
            sender.send(message)
            with suppress(BlockingIOError):
                passed.append(receiver.recv(4096))
        return passed

    with sender, receiver:
        yield send


def test_a_fork_in_a_thousand_is_told_at_random(
    filtered: Callable[..., list[bytes]],
) -> None:
    """Enough that the queue of forks, of 20,000, is emptied in time; few enough not to matter."""
    assert 10 < len(filtered(frozenset(), [fork_message()] * 50_000)) < 150


def message(what: int, pid: int, *, thread: int | None = None) -> bytes:
    """Return the kernel's message about a change of one process."""
    return bytes(36) + struct.pack("=IIQII16x", what, 0, 77, thread or pid, pid)


@pytest.mark.parametrize("count", [0, 1, 3, 64])
@pytest.mark.parametrize("all_renames", [False, True])
def test_a_muted_process_is_heard_when_it_runs_a_program_only(
    filtered: Callable[..., list[bytes]], count: int, *, all_renames: bool
) -> None:
    """And its forks are heard as ever. Our own rename is never dropped: it proves that events arrive."""
    muted = frozenset(range(1000, 1000 + count))
    parents = frozenset(range(1000, 1064))
    others = [7, os.getpid()]
    sent = [message(what, pid) for what in (EXEC, UID, COMM) for pid in (*muted, *others)]
    sent += [fork_message(parent=pid) for pid in sorted(parents)]
    dropped = {message(what, pid) for what in (UID, COMM) for pid in muted}
    if all_renames:
        dropped.add(message(COMM, 7))
    passed = filtered(parents, sent, muted=muted, all_renames=all_renames)
    assert passed == [each for each in sent if each not in dropped]


@pytest.mark.parametrize("what", [EXEC, UID, COMM])
def test_what_concerns_a_thread_only_is_never_queued(filtered: Callable[..., list[bytes]], what: int) -> None:
    """Or programs that name their threads would wake us for each."""
    assert filtered(frozenset(), [message(what, 7), message(what, 7, thread=8)]) == [message(what, 7)]


@pytest.mark.parametrize("count", [0, 1, 3, 64])
def test_forks_of_every_watched_parent_are_received(filtered: Callable[..., list[bytes]], count: int) -> None:
    """However many there are; and never of a thread of theirs."""
    parents = frozenset(range(1000, 1000 + count))
    wanted = [fork_message(parent=pid) for pid in parents]
    assert filtered(parents, wanted) == wanted
    assert filtered(parents, [fork_message(parent=pid, thread=5) for pid in parents]) == []
