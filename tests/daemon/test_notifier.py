"""Telling systemd how it goes: any user can send to systemd's socket, too, and fill its queue."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from oomguard.daemon.loop import Loop
from oomguard.daemon.notifier import Notifier
from running import Program, needs_events, running, wait_for_value, wait_until

POLICY = "resync_interval: 3600\nrules: [{name: oomguard-told, oom_score_adj: 300}]\n"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


@needs_events
def test_who_fills_the_queue_of_systemd_holds_up_nothing(tmp_path: Path, systemd: socket.socket) -> None:
    """The daemon goes on; what it has to say arrives when there is room."""
    path = str(tmp_path / "notify")
    program = Program(tmp_path, "oomguard-told")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flood,
        running(tmp_path, POLICY, wrapper=["env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=200000"]) as daemon,
    ):
        while b"WATCHDOG=1" not in systemd.recv(4096):
            pass
        with suppress(BlockingIOError):
            while True:
                flood.sendto(b"STATUS=flood", path)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("read again, unchanged")
        try:
            wait_for_value(program.start(), 300, seconds=10)
            systemd.setblocking(False)
            heard: set[bytes] = set()

            def is_heard() -> bool:
                with suppress(BlockingIOError):
                    heard.update(systemd.recv(4096).split(b"\n"))
                return {b"READY=1", b"WATCHDOG=1"} <= heard

            wait_until(is_heard, "what it has to say")
        finally:
            program.end()
        assert os.path.exists(path)


def test_what_the_kernel_has_no_memory_for_is_sent_again(
    tmp_path: Path, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one lost sign of life, the next comes when systemd's patience ends."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    loop = Loop()
    notifier = Notifier(loop)

    def fail(_state: str) -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    with monkeypatch.context() as short:
        short.setattr(notifier._systemd, "notify", fail)
        notifier.notify(WATCHDOG="1")
    assert loop.is_set("notify")
    loop._timers["notify"](0.0)
    assert systemd.recv(4096) == b"WATCHDOG=1"
    notifier._systemd.socket.close()
