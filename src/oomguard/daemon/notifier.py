"""Reports to systemd without waiting, because any user can keep its socket's queue full."""

import time

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]  # it ships no types

from oomguard.daemon.loop import Loop
from oomguard.kernel.proc_files import SHORTAGE

_RETRY_SECONDS = 0.05


class Notifier:
    """The socket of the service manager. What it does not accept is sent again with the next report."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pending: dict[str, str] = {}
        self._systemd = SystemdNotifier()
        if self._systemd.socket is not None:
            self._systemd.socket.settimeout(0)
        self._systemd.debug = True  # from now on, what cannot be sent is raised
        loop.define("notify", self._send)

    def notify(self, **variables: str) -> None:
        """Send variables of sd_notify(3)."""
        self._pending |= variables
        self._send(time.monotonic())

    def _send(self, now: float) -> None:
        if self._systemd.socket is not None:
            try:
                self._systemd.notify("\n".join(f"{name}={value}" for name, value in self._pending.items()))
            except OSError as error:
                if error.errno in SHORTAGE:
                    self._loop.set("notify", now + _RETRY_SECONDS)
                    return  # otherwise nobody listens
        self._pending.clear()
