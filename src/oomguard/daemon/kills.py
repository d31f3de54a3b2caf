"""The kernel's kills, from its log.

A service may be able to read the log but not to open it: systemd passes it as standard input
(kernel/dev_kmsg.py).
"""

from collections.abc import Callable
from itertools import islice

from oomguard.core.errors import OomguardError
from oomguard.daemon.loop import Loop
from oomguard.kernel.dev_kmsg import inherited_kernel_log, open_kernel_log, records, skip_to_end
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import observe_kills
from oomguard.oom.kill import Context, Kill, parse_context, parse_group, parse_kill
from oomguard.oom.kmsg import parse_record

GATHER_SECONDS = 0.2
"""Records are read with this delay: a log that is never quiet wakes the daemon five times a second."""

_TIMER = "kernel-log"
_RECORDS_A_TURN = 512
_TURNS = 4
"""Turns of reading in a row; the rest is read later. Users can make the kernel log as much as they like,
and a record takes 3 µs: 10,000 a second are 3 % of a CPU."""
_KILLS_IN_A_PAUSE = 8
"""Records about kills that are read during a pause at the ceiling: reporting a kill takes much longer than
skipping a record, and a user can have hundreds of processes killed at once."""
_MARKS = (b"Killed process ", b"oom-kill:", b"memory.oom.group")


class KillWatch:
    """Reports each process that the kernel kills, with what the kernel logged about it.

    `count` returns the number of those that no log has: there may be no log, and whoever makes the kernel log
    enough overwrites records before they are read.
    """

    def __init__(self, loop: Loop, procfs: Procfs, killed: Callable[[Kill, Context | None], None]) -> None:
        self._loop = loop
        self._procfs = procfs
        self._killed = killed
        self._fd = -1
        self._counted: int | None = None
        self._turns = 0
        self.why_unknown = "its log was overwritten before it was read"
        """Why nothing else is known about the kills that `count` returns."""
        self._told = 0
        """How many of the counted kills are known, or were reported as unknown."""
        self._context: Context | None = None
        self._group = ""
        self._first = 0
        """The last one killed for itself, and not with its group."""
        self._is_behind = False
        loop.define(_TIMER, lambda _: self._read_in_time())

    def open(self) -> str:
        """Start reading at the end of the log. Return why there is no log, "" if there is."""
        self._counted = observe_kills(self._procfs)
        self._told = self._counted or 0
        inherited = inherited_kernel_log()
        try:
            fd = open_kernel_log() if inherited is None else inherited
        except OomguardError as error:
            self.why_unknown = error.message
            return error.message
        skip_to_end(fd)
        self._fd = fd
        self._loop.watch(fd, self._gather)
        return ""

    def count(self) -> int:
        """Return how many more kills are counted than logged.

        Kills that the log may still report are left for a later call.
        """
        for _ in range(_TURNS):
            self.read()
            if not self._is_behind:
                break
        else:
            return 0
        before, self._counted = self._counted, observe_kills(self._procfs)
        # The kernel counts a kill before it logs it, so compare the log with the count of the previous call.
        counted = self._counted if self._fd < 0 else before
        unknown = max((counted or 0) - self._told, 0)
        self._told += unknown
        return unknown

    def _gather(self) -> None:
        self._loop.unwatch(self._fd)
        self._loop.set_after(_TIMER, GATHER_SECONDS)

    def _read_in_time(self) -> None:
        """Read less during a pause: it lasts until the CPU time of timers is paid for, too."""
        self.read(_KILLS_IN_A_PAUSE if self._loop.ceiling.is_reached else _RECORDS_A_TURN)

    def read(self, kills: int = _RECORDS_A_TURN) -> None:
        """Read the records so far, but only some of those about kills; the rest is read later."""
        if self._fd < 0:
            return
        count = marked = 0
        for raw in islice(records(self._fd), _RECORDS_A_TURN):
            count += 1
            if any(mark in raw for mark in _MARKS):
                self._take(raw)
                marked += 1
                if marked == kills:
                    break
        self._is_behind = count == _RECORDS_A_TURN or marked == kills
        self._turns = self._turns + 1 if self._is_behind else 0
        if self._is_behind:
            waits = self._loop.ceiling.is_reached or self._turns % _TURNS == 0
            self._loop.set_after(_TIMER, GATHER_SECONDS if waits else 0.0)
        elif not self._loop.is_set(_TIMER) and not self._loop.watches(self._fd):
            self._loop.watch(self._fd, self._gather)

    def _take(self, raw: bytes) -> None:
        record = parse_record(raw.decode("utf-8", "surrogateescape"))
        if record is None or not record.is_kernels:
            return
        context, group = parse_context(record.text), parse_group(record.text)
        if context is not None:
            self._context, self._group = context, ""
        elif group is not None:
            self._group = group
        else:
            kill = parse_kill(record.text)
            if kill is not None:
                self._take_kill(kill)

    def _take_kill(self, kill: Kill) -> None:
        if self._group and kill.pid == self._first:
            return  # memory.oom.group prints the first one twice
        context = self._context
        if context is not None and context.pid != kill.pid:
            # Processes killed with a group died for the same reason; any other has a report of its own.
            context = context._replace(pid=kill.pid, task_memcg=self._group) if self._group else None
        if context is None:
            self._context, self._group = None, ""
        if not self._group:
            self._first = kill.pid
        self._told += 1
        self._killed(kill, context)
