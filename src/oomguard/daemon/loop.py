"""One epoll loop over descriptors, signals and deadlines; no threads.

Not asyncio: it takes as much memory as the interpreter, and its wake-ups are slower.
"""

import os
import select
import signal
import time
from collections.abc import Callable

from oomguard.daemon.ceiling import Ceiling

Ready = list[tuple[int, int]]
"""Descriptors and their events, as epoll returns them."""

_BUSY_SECONDS = 0.2
_BREATH_SECONDS = 0.002
"""After this much work without a pause, pause for this long: 1 %."""

_ACCOUNT_SECONDS = 0.05
"""How often CPU time is read: it takes a system call, which an exec should not pay for."""

_READY_AT_ONCE = 8
"""Descriptors; there are hardly more, and the buffer for the default of 1,023 is 12 KiB."""

_LONGEST_PAUSE_SECONDS = 0.25
"""How often timers run during a pause, the watchdog's included."""


class Loop:
    """Calls handlers when their descriptor is readable, their deadline is due or their signal came.

    Deadlines are monotonic seconds, one a name; setting one again moves it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readable: dict[int, Callable[[], None]] = {}
        self._timers: dict[str, Callable[[float], None]] = {}
        self._due: dict[str, float] = {}
        self._on_signal: dict[int, Callable[[], None]] = {}
        self._signals = -1
        self._paused = select.poll()
        self._accounted_at = self._awake_since = time.monotonic()
        self.ceiling = Ceiling(self._awake_since, time.process_time())

    def watch(self, fd: int, handler: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `handler` whenever `fd` is readable, or has other `events` of epoll_ctl(2)."""
        self._epoll.register(fd, events)
        self._readable[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd` if it is watched; call it before the descriptor is closed."""
        if self._readable.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watches(self, fd: int) -> bool:
        """Return whether `fd` is watched."""
        return fd in self._readable

    def define(self, name: str, action: Callable[[float], None]) -> None:
        """Set the handler of the timer `name`; it gets the time."""
        self._timers[name] = action

    def set(self, name: str, when: float | None) -> None:
        """Set a timer; None clears it."""
        if when is None:
            self._due.pop(name, None)
        else:
            self._due[name] = when

    def set_earlier(self, name: str, when: float) -> None:
        """Set a timer unless it is due sooner."""
        self._due[name] = min(when, self._due.get(name, when))

    def set_after(self, name: str, seconds: float) -> None:
        """Set a timer so long from now."""
        self._due[name] = time.monotonic() + seconds

    def is_set(self, name: str) -> bool:
        """Return whether a timer is set."""
        return name in self._due

    def on_signal(self, number: signal.Signals, handler: Callable[[], None]) -> None:
        """Call `handler` from the loop, not in the signal's context; a pending signal is handled now."""
        if self._signals < 0:
            self._signals, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            self.watch(self._signals, self._signalled)
            self._paused.register(self._signals, select.POLLIN)
        self._on_signal[number] = handler
        signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})

    def wait(self, *, busy: bool = False) -> Ready:
        """Wait for a descriptor or a timer, or only poll if there is other work; return what is readable.

        Even if there is always work, it sleeps for a moment now and then: at a real-time priority nothing
        else would get this CPU, and RLIMIT_RTTIME would end the daemon.
        """
        before = time.monotonic()
        timeout = 0.0 if busy else max(0.0, min(self._due.values()) - before) if self._due else None
        ready = self._epoll.poll(timeout, _READY_AT_ONCE)
        now = time.monotonic()
        if now - before > _BREATH_SECONDS:
            self._awake_since = now
        elif now - self._awake_since > _BUSY_SECONDS:
            time.sleep(_BREATH_SECONDS)
            self._awake_since = now
        return ready

    def wait_for(self, fd: int, seconds: float) -> bool:
        """Wait until `fd` is readable or a signal was handled; return whether one of them came in time.

        Nothing else is handled meanwhile.
        """
        self._paused.register(fd, select.POLLIN)
        ready = self._paused.poll(max(0.0, seconds) * 1000)
        self._paused.unregister(fd)
        if any(one == self._signals for one, _ in ready):
            self._signalled()
        return bool(ready)

    def turn(self, *, busy: bool, ready: Ready | None = None) -> bool:
        """Handle what is `ready`; if not given, wait for something, or only poll if there is other work.

        Returns False after a pause at the ceiling, in which only signals and timers were handled: then other
        work must wait, too.
        """
        self._handle(ready or [])  # also before a pause: a trigger for pressure tells only once
        if self._paused_at_ceiling(time.monotonic()):
            return False
        if ready is None:
            self._handle(self.wait(busy=busy))
        self._run_timers(time.monotonic())
        return True

    def _handle(self, ready: Ready) -> None:
        for fd, _ in ready:
            handler = self._readable.get(fd)
            if handler is not None:  # one handler may have unwatched what another waits for
                handler()

    def _paused_at_ceiling(self, now: float) -> bool:
        ceiling = self.ceiling
        if now - self._accounted_at < _ACCOUNT_SECONDS and not ceiling.is_reached:
            return False
        self._accounted_at = now
        pause = ceiling.pause(now, time.process_time())
        if not pause:
            return False
        if self._paused.poll(min(pause, _LONGEST_PAUSE_SECONDS) * 1000):
            self._signalled()
        self._awake_since = time.monotonic()
        self._run_timers(self._awake_since)
        return True

    def _run_timers(self, now: float) -> None:
        for name in [name for name, when in self._due.items() if when <= now]:
            if self._due.get(name, now + 1) <= now:  # another may have moved it
                del self._due[name]
                self._timers[name](now)

    def _signalled(self) -> None:
        for number in os.read(self._signals, 64):
            if number in self._on_signal:
                self._on_signal[number]()
