"""The proc connector: the kernel reports every exec, rename, change of user and fork.

A netlink socket in the multicast group of drivers/connector/cn_proc.c. An event only says which process to
check; /proc decides. Forging one takes CAP_NET_ADMIN (net/netlink/af_netlink.c: NL_CFG_F_NONROOT_SEND), but
since Linux 6.6 any user can stop them: the kernel sends events while it counts listeners, and stores a
request before it validates it, so an invalid request followed by IGNORE removes one listener from the count
(docs/internals/connector-listener-count.md). So `probe` proves that events arrive, `renew` raises the count,
and `hear_requests` notices requests of others.

A filter on each socket (kernel/event_filter.py) drops unused events before they are queued.

Forks arrive on a second socket, which the daemon does not wait on: a process's ancestors matter only once it
runs a program, and that wakes the daemon anyway. To keep this queue from overflowing on a host that only
forks, one fork in 1,024, at random, arrives on the first socket as well.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, MutableMapping, MutableSet
from contextlib import ExitStack, suppress

from oomguard.kernel.event_filter import (
    EVENT_OFFSET,
    EXEC,
    FORK,
    HEADERS,
    Wanted,
    attach,
    event_filter,
    fork_filter,
)
from oomguard.kernel.own import is_in_initial_namespace

NETLINK_CONNECTOR = 11
CN_IDX_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_CN_MCAST_IGNORE = 2
INVALID_OPERATION = 0x7FFFFFFF
"""The kernel rejects it but, since 6.6, stores it: a LISTEN after it counts as one more listener."""

RECEIVE_BUFFER = 8 * 1024 * 1024
"""Bytes requested. The kernel doubles that (net/core/sock.c:__sock_set_rcvbuf) and counts 832 for each
event, so it queues about 20,000."""

_NLMSG_DONE = 3
_EVENT = struct.Struct("=I4xQ4xI")
"""Of struct proc_event: `what`, the timestamp after the cpu, and the tgid after the pid."""

_FORK = struct.Struct("=8xQ4xI4xI")
"""The time of a fork, the parent's tgid and the child's; the pid before each is a thread's."""

_MESSAGE_SIZE = HEADERS.size + 40
_SO_RCVBUFFORCE = 33
_QUEUE_LENGTH = 2 * RECEIVE_BUFFER // 512
"""More events than can ever be queued: no kernel counts fewer bytes for one."""


class ConnectorUnavailableError(Exception):
    """There are no process events here; the message says why."""


class Connector:
    """A subscription. After `probe`, `answer` shows whether the kernel sends events."""

    def __init__(self) -> None:
        _check_namespaces()
        self._own = os.getpid()
        self._buffer, self._fork_buffer = bytearray(4096), bytearray(4096)
        self._left = 0  # the size of an event in the buffer that `next_exec` left for `receive`
        self._behind = 0  # how many events queued at the last loss may be unread
        self._wanted = Wanted()
        self.changed: list[int] = []
        """Processes that changed their name or user since this was last cleared, once for each change."""
        self._is_asked = False
        self.answer: bool | None = None
        """Whether the event that `probe` caused arrived, None while unknown."""
        self._is_open_to_all = _kernel_version() >= (6, 6)
        self.requested = False
        """Whether anybody sent a request since `hear_requests` was called."""
        self.has_forks = False
        """Whether a fork arrived on the first socket since `forks` was called."""
        self._socket = _open(event_filter(self._wanted))
        with ExitStack() as opened:
            opened.callback(self._socket.close)
            self._forks = _open(fork_filter())
            opened.callback(self._forks.close)
            try:
                self._comm = os.open("/proc/self/comm", os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                reason = f"/proc/self/comm cannot be written: {error.strerror}"
                raise ConnectorUnavailableError(reason) from error
            opened.callback(os.close, self._comm)
            # Subscribe to everything: with a mask (6.6 and later), the kernel sends no acknowledgements.
            self._send(self._socket, PROC_CN_MCAST_LISTEN)
            self._send(self._forks, PROC_CN_MCAST_LISTEN, FORK if self._is_open_to_all else None)
            _check_kernel()  # first, because in another network namespace the request fails with that reason
            opened.pop_all()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def probe(self) -> None:
        """Cause an event: rename this process to the name it has.

        The kernel queues the event before this returns, so `answer` is known once the queue is empty.
        """
        self._is_asked, self.answer = True, None
        os.write(self._comm, os.pread(self._comm, 64, 0).removesuffix(b"\n"))

    def renew(self, count: int) -> None:
        """Raise the kernel's count of listeners by `count`; harmless if it was not too low."""
        invalid, listen = _request(INVALID_OPERATION), _request(PROC_CN_MCAST_LISTEN)
        for _ in range(count):
            self._socket.send(invalid)
            self._socket.send(listen)

    def hear_requests(self) -> None:
        """Set `requested` and become readable when anybody, including this process, sends a request.

        The kernel acknowledges each to all listeners, while it counts any. Before Linux 6.6, requests of
        users change nothing and are not reported.
        """
        self.requested = False
        self._want(self._wanted._replace(requests=self._is_open_to_all))

    def ignore_requests(self) -> None:
        """Stop what `hear_requests` started."""
        self._want(self._wanted._replace(requests=False))

    def receive(
        self, pids: MutableSet[int], executed: MutableMapping[int, int] | None = None, *, limit: int
    ) -> bool:
        """Add the processes of up to `limit` events to `pids`; return whether events were lost before.

        `executed` gets those that ran another program, and when: CLOCK_MONOTONIC in nanoseconds.

        A loss is reported once everything queued at that time has been read, which may take several calls:
        until then the kernel queues nothing more (net/netlink/af_netlink.c: netlink_overrun,
        netlink_rcv_wake), so a full pass before that would miss events. No call reads until the queue is
        empty: a process that renames itself in a loop sends events as fast as they are read.
        """
        buffer, receive, unpack, add = self._buffer, self._socket.recv_into, _EVENT.unpack_from, pids.add
        behind, lost, emptied, changed = self._behind, False, False, self.changed.append
        for done in range(limit):
            try:
                size = self._left or receive(buffer)
                self._left = 0
            except BlockingIOError:
                left, emptied = 0, True
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = lost or behind > done  # the queue was emptied since the last loss, and filled again
                behind = done + 1 + _QUEUE_LENGTH
                continue
            if size != _MESSAGE_SIZE:
                lost = True  # an unknown format: it may concern any process
                continue
            what, at_ns, pid = unpack(buffer, EVENT_OFFSET)
            if what > FORK:
                add(pid)
                if what != EXEC:
                    changed(pid)
                elif executed is not None:
                    executed[pid] = at_ns
            elif what:
                self.has_forks = True
            else:
                self.requested = True
        else:
            left = max(0, behind - limit)
        self._behind = left
        lost = lost or (behind > 0 and left == 0)
        if self._is_asked or self._own in pids:
            self._take_answer(pids, lost=lost, emptied=emptied)
        return lost

    def _take_answer(self, pids: MutableSet[int], *, lost: bool, emptied: bool) -> None:
        """Take the event of this process, which may come late, from those received; it is for nobody else."""
        if self._own in pids:
            pids.discard(self._own)
            self.changed = [pid for pid in self.changed if pid != self._own]
            self._is_asked, self.answer = False, True
        elif emptied:
            self._is_asked, self.answer = False, None if lost else False

    @property
    def is_behind(self) -> bool:
        """Whether events were lost, and not all that were queued before are read."""
        return self._behind > 0

    def next_exec(self) -> tuple[int, int] | None:
        """Receive one event; if a process ran another program, return its pid and when that was.

        Any other event, and any loss, is left for `receive`, which must be called then.
        """
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._behind = 1 + _QUEUE_LENGTH
            return None
        if size == _MESSAGE_SIZE:
            what, at_ns, pid = _EVENT.unpack_from(self._buffer, EVENT_OFFSET)
            if what == EXEC:
                return pid, at_ns
        self._left = size
        return None

    def forks(self, note: Callable[[int, int, int], object], *, until: int = 0) -> bool:
        """Call `note(parent, child, time)` for each fork since the last call; return whether some were lost.

        With `until`, later forks than that of this process are left for the next call.

        Pids are of processes, the time is CLOCK_MONOTONIC in nanoseconds. The kernel reports a fork before
        the child runs.
        """
        receive, unpack = self._forks.recv_into, _FORK.unpack_from
        buffer, lost, self.has_forks = self._fork_buffer, False, False
        for _ in range(_QUEUE_LENGTH):
            try:
                size = receive(buffer)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            if size == _MESSAGE_SIZE:
                at_ns, parent, child = unpack(buffer, EVENT_OFFSET)
                note(parent, child, at_ns)
                if child == until:
                    break
        return lost

    def watch_parents(self, parents: frozenset[int]) -> bool:
        """Report every fork of these processes on the first socket; return whether that is new."""
        return self._want(self._wanted._replace(parents=parents))

    def mute(self, pids: frozenset[int], *, all_renames: bool) -> None:
        """Drop changes of name and user by `pids`; with `all_renames`, all renames except our own."""
        self._want(self._wanted._replace(muted=pids, all_renames=all_renames))

    def _want(self, wanted: Wanted) -> bool:
        if wanted == self._wanted:
            return False
        attach(self._socket, event_filter(wanted))
        self._wanted = wanted
        return True

    def close(self) -> None:
        """Unsubscribe: otherwise the kernel counts this listener forever."""
        for opened in (self._socket, self._forks):
            try:
                with suppress(OSError, ConnectorUnavailableError):
                    self._send(opened, PROC_CN_MCAST_IGNORE)
            finally:
                opened.close()
        os.close(self._comm)

    def _send(self, opened: socket.socket, operation: int, mask: int | None = None) -> None:
        try:
            opened.send(_request(operation, mask))
        except ConnectionRefusedError as error:
            raise ConnectorUnavailableError(
                "there are no process events in this network namespace"
            ) from error


def _request(operation: int, mask: int | None = None) -> bytes:
    body = struct.pack("=I", operation) if mask is None else struct.pack("=II", operation, mask)
    length = HEADERS.size + len(body)
    return HEADERS.pack(length, _NLMSG_DONE, 0, 0, 0, CN_IDX_PROC, CN_IDX_PROC, 0, 0, len(body), 0) + body


def _open(program: bytes) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR)
    except OSError as error:
        raise ConnectorUnavailableError(
            f"this kernel has no connector ({os.strerror(error.errno or 0)})"
        ) from error
    try:
        _enlarge(opened)
        attach(opened, program)
        opened.bind((0, CN_IDX_PROC))
    except PermissionError as error:
        opened.close()
        raise ConnectorUnavailableError(
            "CAP_NET_ADMIN is missing, which this kernel needs for process events"
        ) from error
    except OSError:
        opened.close()
        raise
    return opened


def _enlarge(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN, net.core.rmem_max limits it
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _check_namespaces() -> None:
    for name in ("pid", "user"):
        if not is_in_initial_namespace(name):
            raise ConnectorUnavailableError(f"there are no process events in this {name} namespace")


def _check_kernel() -> None:
    try:
        with open("/proc/net/connector", "rb") as file:
            has_events = b"cn_proc" in file.read()
    except OSError:
        has_events = False
    if not has_events:
        raise ConnectorUnavailableError("this kernel has no process events (CONFIG_PROC_EVENTS is off)")


def _kernel_version() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int("".join(c for c in minor if c.isdecimal()) or 0)
