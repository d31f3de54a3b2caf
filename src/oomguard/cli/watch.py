"""The kill order on a terminal, updated every few seconds until the user quits.

The terminal is restored however it ends: by a key, a signal, an error or Ctrl-Z.
"""

import os
import re
import select
import signal
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING

from rich.text import Text

from oomguard.core.errors import UsageError
from oomguard.report.rank_table import print_summary, rank_table, sort_keys, sorted_by
from oomguard.report.tables import console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from rich.console import Console

    from oomguard.oom.ranking import Ranked
    from oomguard.report.ranking import View

_ENTER_SCREEN = b"\x1b[?1049h\x1b[?25l"
_LEAVE_SCREEN = b"\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|[\xc2-\xf4][\x80-\xbf]+|.", re.DOTALL)

_SCROLLS = {b"\x1b[A": -1, b"\x1b[B": 1, b"\x1bOA": -1, b"\x1bOB": 1}
_PAGES = {b"\x1b[5~": -1, b"\x1b[6~": 1, b" ": 1}


def refuse_no_terminal() -> None:
    """Raise UsageError if input or output is not a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "rank --watch needs a terminal for both input and output",
            hint="omit --watch, or use --json in programs",
        )


def watch(look: "Callable[[], View]", *, interval_seconds: float) -> int:
    """Draw what `look` returns until the user quits; return the exit code."""
    screen = Screen()
    with Terminal() as terminal:
        while True:
            screen.view = look()
            deadline = time.monotonic() + interval_seconds
            while True:
                terminal.draw(screen.frame(*terminal.size()))
                keys = terminal.wait(deadline - time.monotonic())
                if terminal.ended_by is not None:
                    break
                if not keys and time.monotonic() >= deadline:
                    break
                if not all(screen.press(key) for key in keys):
                    return 0
            if terminal.ended_by is not None:
                break
    if terminal.ended_by == signal.SIGINT:
        return 0  # Ctrl-C quits, like q
    signal.signal(terminal.ended_by, signal.SIG_DFL)
    os.kill(os.getpid(), terminal.ended_by)
    return 128 + terminal.ended_by


class Screen:
    """The view, and how the user wants to see it."""

    def __init__(self) -> None:
        self.view: View | None = None
        self.sort = "k"
        self.filter = ""
        self._is_typing = False
        self._top = 0
        self._page = 1

    def press(self, key: bytes) -> bool:
        """Handle a key; return False if it quits."""
        if self._is_typing:
            self._type(key)
        elif key == b"q":
            return False
        elif key == b"/":
            self._is_typing, self.filter = True, ""
        elif key == b"\x1b":
            self.filter, self._top = "", 0
        elif key.decode("ascii", "replace") in sort_keys():
            self.sort, self._top = key.decode("ascii"), 0
        elif key in (b"\x1b[H", b"\x1b[1~", b"g"):
            self._top = 0
        else:
            self._top += _SCROLLS.get(key, 0) + _PAGES.get(key, 0) * self._page
        return True

    def _type(self, key: bytes) -> None:
        if key in (b"\r", b"\n"):
            self._is_typing = False
        elif key == b"\x1b":
            self._is_typing, self.filter = False, ""
        elif key in (b"\x7f", b"\b"):
            self.filter = self.filter[:-1]
        else:
            text = key.decode("utf-8", "replace")
            self.filter += text if text.isprintable() else ""
        self._top = 0

    def frame(self, width: int, height: int) -> list[str]:
        """Return the lines of a screen of that size."""
        assert self.view is not None
        out = console()
        out.size = (width, height)
        head = _lines(out, lambda: print_summary(self.view, out) if self.view else None)
        rows = [one for one in sorted_by(self.sort, self.view.ranked) if self._shows(one)]
        room = max(height - len(head) - 5, 1)
        self._page = room
        self._top = max(0, min(self._top, len(rows) - room))
        shown = rows[self._top : self._top + room]
        view = self.view
        body = _lines(out, lambda: out.print(rank_table(view, shown, width=out.width)))
        foot = _lines(
            out, lambda: out.print(Text(self._keys(), style="dim", overflow="ellipsis", no_wrap=True))
        )
        return [*head, foot[0], "", *body][:height]

    def _shows(self, one: "Ranked") -> bool:
        assert self.view is not None
        wanted = self.filter.casefold()
        return any(wanted in text.casefold() for text in _searched(one, self.view))

    def _keys(self) -> str:
        if self._is_typing:
            return f"filter: {self.filter}_   Enter applies it, Esc clears it"
        kept = f"filter {self.filter!r} (Esc clears it) · " if self.filter else ""
        choices = " ".join(
            f"{key}={what}" for key, what in {"k": "kills", "p": "policy", "m": "memory"}.items()
        )
        return f"{kept}by {sort_keys()[self.sort]} · {choices} v=value n=name /=filter q=quit"


def _searched(one: "Ranked", view: "View") -> "Sequence[str]":
    candidate = one.candidate
    return (
        candidate.comm.decode("utf-8", "replace"),
        str(candidate.identity.pid),
        view.users.get(candidate.uid, str(candidate.uid)),
        one.decision.rule.label if one.decision and one.decision.rule else "",
    )


def _lines(out: "Console", draw: "Callable[[], None]") -> list[str]:
    with out.capture() as captured:
        draw()
    return captured.get().splitlines()


class Terminal:
    """A terminal in raw mode with the alternate screen, until the context ends."""

    def __init__(self) -> None:
        self.ended_by: signal.Signals | None = None
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._input)
        self._woken, self._waker = -1, -1
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Terminal":
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (*_ENDING, signal.SIGTSTP, signal.SIGWINCH):
            self._handlers[number] = signal.signal(number, _wake)
        self._enter_screen()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave_screen()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
        os.close(self._woken)
        os.close(self._waker)

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        size = os.get_terminal_size(self._output)
        return max(size.columns, 20), max(size.lines, 5)

    def draw(self, lines: "Sequence[str]") -> None:
        """Show these lines. Each is overwritten in place, to avoid flicker."""
        text = _HOME + "\r\n".join(line + _CLEAR_LINE for line in lines) + _CLEAR_BELOW
        try:
            _write(self._output, text.encode("utf-8", "backslashreplace"))
        except OSError:
            self.ended_by = signal.SIGHUP  # the terminal is gone

    def wait(self, seconds: float) -> list[bytes]:
        """Wait for keys and return them; none after the timeout or a signal."""
        ready, _, _ = select.select([self._input, self._woken], [], [], max(seconds, 0))
        if self._woken in ready:
            for number in os.read(self._woken, 256):
                self._signalled(signal.Signals(number))
        if self._input not in ready:
            return []
        raw = os.read(self._input, 256)
        if not raw:
            self.ended_by = signal.SIGHUP  # the terminal is gone
        return _KEY.findall(raw)

    def _signalled(self, number: signal.Signals) -> None:
        if number in _ENDING:
            self.ended_by = number
        elif number == signal.SIGTSTP:
            self._leave_screen()
            handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # stops here until SIGCONT
            signal.signal(signal.SIGTSTP, handler)
            self._enter_screen()

    def _enter_screen(self) -> None:
        tty.setcbreak(self._input)
        _write(self._output, _ENTER_SCREEN)

    def _leave_screen(self) -> None:
        try:
            _write(self._output, _LEAVE_SCREEN)
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass  # the terminal is gone: nothing to restore


def _wake(_number: int, _frame: "FrameType | None") -> None:
    """Do nothing: the byte in the wakeup pipe ends the wait."""


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
