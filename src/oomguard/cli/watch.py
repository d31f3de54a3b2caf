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
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from oomguard.core.errors import UsageError
from oomguard.core.process import Identity
from oomguard.core.text import wrapped
from oomguard.oom.ranking import Ranked
from oomguard.report.rank_table import SORTS, rank_table, sorted_by, summary_lines
from oomguard.report.rank_view import View
from oomguard.report.tables import LEAST_WIDTH, console

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|[\xc2-\xf4][\x80-\xbf]+|.", re.DOTALL)

_MINUTE, _LEAST_SECONDS, _LOOK_SECONDS = 60.0, 10.0, 5.0
"""Growth is measured over a minute, and over at least ten seconds: what grows in one says little of a minute.
Of the looks of a minute, twelve are kept: each takes 2 MiB for 10,000 processes, which any user may start."""
_PART_OF_SUMMARY = 4
"""The summary has this part of the lines of the screen, so that there is room for processes."""

_SCROLLS = {b"\x1b[A": -1, b"\x1b[B": 1, b"\x1bOA": -1, b"\x1bOB": 1}
_PAGES = {b"\x1b[5~": -1, b"\x1b[6~": 1, b" ": 1}


def refuse_no_terminal() -> None:
    """Raise UsageError if input or output is not a terminal that can be drawn on."""
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")  # rich draws nothing there
    if is_dumb or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "rank --watch needs a terminal for both input and output, and TERM must not be dumb",
            hint="omit --watch, or use --json in programs",
        )


def watch(look: Callable[[], View], *, interval_seconds: float) -> int:
    """Draw what `look` returns until the user quits; return the exit code."""
    screen, looks = Screen(), Looks()
    with Terminal() as terminal:
        deadline = 0.0
        while terminal.ended_by is None:
            left = deadline - time.monotonic()
            if left <= 0:
                screen.view = looks.grown(look(), time.monotonic())
                left, deadline = interval_seconds, time.monotonic() + interval_seconds
            terminal.draw(screen.frame)
            if not all(screen.press(key) for key in terminal.wait(left)):
                return 0
    if terminal.ended_by == signal.SIGINT:
        return 0  # Ctrl-C quits, like q
    signal.signal(terminal.ended_by, signal.SIG_DFL)
    os.kill(os.getpid(), terminal.ended_by)
    return 128 + terminal.ended_by


class Looks:
    """The sizes of the last minute, from which growth is computed."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, dict[Identity, int]]] = deque()

    def grown(self, view: View, now: float) -> View:
        """Return a view of that moment with how processes grow."""
        while len(self._kept) > 1 and now - self._kept[1][0] >= _MINUTE:
            self._kept.popleft()
        growth, page_kib = {}, view.domain.page_kib
        sizes = {one.candidate.identity: sum(one.candidate.usage) * page_kib for one in view.ranked}
        for identity, size in sizes.items():
            for at, before in self._kept:  # the first look that has it; a younger process is in fewer
                if identity in before and now - at >= _LEAST_SECONDS:
                    growth[identity] = round((size - before[identity]) * _MINUTE / (now - at))
                    break
        if not self._kept or now - self._kept[-1][0] >= _LOOK_SECONDS:
            self._kept.append((now, sizes))
        return view._replace(growth=growth)


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
        elif key.decode("ascii", "replace") in SORTS:
            self.sort, self._top = key.decode("ascii"), 0
        elif key in (b"\x1b[H", b"\x1b[1~", b"g"):
            self._top = 0
        elif key in (b"\x1b[F", b"\x1b[4~", b"G"):
            self._top = sys.maxsize
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

    def frame(self, out: Console) -> Group:
        """Return what to draw on a console of that size."""
        view = self.view
        assert view is not None
        limit = out.height // _PART_OF_SUMMARY
        lines = summary_lines(view, out.width, limit=limit)
        head = Group(*lines if len(lines) <= limit else ())
        wanted = self.filter.casefold()
        rows = [
            one
            for one in sorted_by(self.sort, view)
            if any(wanted in text.casefold() for text in _searched(one, view))
        ]
        self._page = max(out.height - len(out.render_lines(head)) - 4, 1)
        self._top = max(0, min(self._top, len(rows) - self._page))
        shown = rows[self._top : self._top + self._page]
        place = (
            f"{self._top + 1}–{self._top + len(shown)} of {len(rows)} · " if len(shown) < len(rows) else ""
        )
        keys = Text(wrapped(self._keys(place), out.width)[0], style="dim")
        if self.filter and not rows:
            return Group(head, keys, "", Text(f"No process matches {self.filter!r}."))
        return Group(head, keys, "", rank_table(view, shown, width=out.width))

    def _keys(self, place: str) -> str:
        if self._is_typing:
            return f"filter: {self.filter}_   Enter applies it, Esc clears it"
        kept = f"filter {self.filter!r} (Esc=none) · " if self.filter else ""
        choices = "q=quit /=filter k=kills p=policy m=memory +=grow v=value n=name"  # as many as fit
        return f"{place}{kept}by {SORTS[self.sort][0]} · {choices}"


def _searched(one: Ranked, view: View) -> Sequence[str]:
    candidate = one.candidate
    return (
        candidate.comm.decode("utf-8", "replace"),
        str(candidate.identity.pid),
        view.users.get(candidate.uid, str(candidate.uid)),
        one.decision.rule.label if one.decision and one.decision.rule else "",
    )


class Terminal:
    """A terminal in cbreak mode with the alternate screen, until the context ends."""

    def __init__(self) -> None:
        self.ended_by: signal.Signals | None = None
        self._console = console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._input)
        self._woken, self._waker = -1, -1
        self._poll = select.poll()
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Terminal":
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for fd in (self._input, self._woken):
            self._poll.register(fd, select.POLLIN)
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

    def draw(self, frame: Callable[[Console], Group]) -> None:
        """Draw what `frame` returns, at the current size of the terminal."""
        try:
            columns, lines = os.get_terminal_size(self._output)
            self._console.size = ConsoleDimensions(max(columns, LEAST_WIDTH), max(lines, 5))
            self._live.update(frame(self._console), refresh=True)
        except OSError:
            self.ended_by = signal.SIGHUP  # the terminal is gone

    def wait(self, seconds: float) -> list[bytes]:
        """Wait for keys and return them; none after the timeout or a signal."""
        ready = {fd for fd, _ in self._poll.poll(seconds * 1000)}
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
        try:
            tty.setcbreak(self._input)
        except termios.error:
            self.ended_by = signal.SIGHUP  # the terminal is gone, as a shell's that left this stopped
        else:
            self._live.start()

    def _leave_screen(self) -> None:
        with suppress(OSError, termios.error):  # the terminal is gone: nothing to restore
            self._live.stop()
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the byte in the wakeup pipe ends the wait."""
