"""The proc connector: the kernel tells of every exec, rename, change of user and fork.

A netlink socket in the multicast group of drivers/connector/cn_proc.c. An event only says where
to look; what is done is decided by what /proc says then. So a forged one could make oomguard look,
and nothing else (and forging takes CAP_NET_ADMIN: net/netlink/af_netlink.c, NL_CFG_F_NONROOT_SEND).

Three ways, the best that proves itself: subscribed with an event mask, which Linux 6.6 brought and
older kernels silently ignore; subscribed to everything; not at all (`ConnectorUnavailableError`).
In each a classic BPF program drops, before it is queued, what is not used and what concerns a
thread only: programs that name their threads would wake us for each.

Forks come on a socket of their own, which nobody waits on: who a process came from matters only once it
runs a program, and that wakes us anyway. So that its queue does not run over on a host that forks and
never execs, one fork in 1,024, at random, is told on the first socket as well.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSet

NETLINK_CONNECTOR = 11
CN_IDX_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_CN_MCAST_IGNORE = 2

NONE, FORK, EXEC, UID, COMM = 0x0, 0x1, 0x2, 0x4, 0x200
"""Events of include/uapi/linux/cn_proc.h that are used; NONE is the acknowledgement."""

RECEIVE_BUFFER = 8 * 1024 * 1024
"""Bytes asked for. The kernel takes twice that (net/core/sock.c:__sock_set_rcvbuf) and counts 832 an
event, so it queues about 20,000."""

_NLMSG_DONE = 3
_HEADERS = struct.Struct("=IHHII IIIIHH")  # struct nlmsghdr, struct cn_msg
_EVENT = struct.Struct("=I16xI")
"""`what` of struct proc_event, and the tgid of its body behind cpu, timestamp and pid."""

_FORK = struct.Struct("=8xQ4xI4xI")
"""The time of a fork, the parent's tgid and the child's: the pid in front of each is a thread's."""

_EVENT_OFFSET = _HEADERS.size
_MESSAGE_SIZE = _HEADERS.size + 40
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_QUEUE_LENGTH = 2 * RECEIVE_BUFFER // 512
"""More events than can ever be queued: no socket buffer counts less, whatever the kernel."""

_SAMPLED = 1024 - 1
"""Of the forks, those are told on the first socket whose random number has none of these bits."""

_PROOF_SECONDS = 0.2
_INITIAL_NAMESPACES = {"pid": 0xEFFFFFFC, "user": 0xEFFFFFFD}
"""Inodes of the namespaces the kernel boots with (include/linux/proc_ns.h)."""


class ConnectorUnavailableError(Exception):
    """There are no events here; the message is the reason, for a person."""


class Wanted(NamedTuple):
    """Which events are to be queued, of those that are used at all. Of pids there are 64 each, at most."""

    attended: frozenset[int] = frozenset()
    """Processes of which each fork is; of all others one in 1,024."""
    muted: frozenset[int] = frozenset()
    """Processes of which no change of name or user is."""
    all_renames: bool = False
    """Whether no change of name is, but our own."""


class Connector:
    """A proven subscription. `filtered` tells whether the kernel masks events at the source."""

    def __init__(self) -> None:
        _check_namespaces()
        self._buffer = bytearray(4096)
        self._behind = 0  # how many of the events queued at the last loss may still be unread
        self._wanted = Wanted()
        self.changed: list[int] = []
        """Who changed their name or user since this was last cleared, as often as they did."""
        self.has_forks = False
        """Whether a fork was told of on the socket that is waited on, since `forks` was called."""
        self._socket = _open(_event_filter(self._wanted))
        try:
            self._forks = _open(_fork_filter())
        except BaseException:
            self._socket.close()
            raise
        try:
            self.filtered = self._subscribe()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def receive(
        self, pids: "MutableSet[int]", executed: "MutableSet[int] | None" = None, *, limit: int
    ) -> bool:
        """Add to `pids` the processes that up to `limit` events are about; True if others were lost before.

        To `executed` are added those that ran another program.

        A loss is told when all that was queued at the time is read: the kernel queues nothing more
        until then (net/netlink/af_netlink.c: netlink_overrun, netlink_rcv_wake), and who looks at
        everything any sooner misses what happens meanwhile. It takes several calls. None of them goes
        on until the queue is empty: one process that renames itself in a loop sends as fast as we read.
        """
        buffer, receive, unpack, add = self._buffer, self._socket.recv_into, _EVENT.unpack_from, pids.add
        behind, lost, changed = self._behind, False, self.changed.append
        for done in range(limit):
            try:
                size = receive(buffer)
            except BlockingIOError:
                left = 0
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = lost or behind > done  # the queue was emptied since the loss before, and filled again
                behind = done + 1 + _QUEUE_LENGTH
                continue
            if size != _MESSAGE_SIZE:
                lost = True  # of a shape we do not know: it may have been about anybody
                continue
            what, pid = unpack(buffer, _EVENT_OFFSET)
            if what > FORK:
                add(pid)
                if what != EXEC:
                    changed(pid)
                elif executed is not None:
                    executed.add(pid)
            elif what:
                self.has_forks = True
        else:
            left = max(0, behind - limit)
        self._behind = left
        return lost or (behind > 0 and left == 0)

    def forks(self, note: "Callable[[int, int, int], object]") -> bool:
        """Call `note(parent, child, time)` for each fork since the last call; True if some were lost.

        Pids are of processes, the time is CLOCK_MONOTONIC in nanoseconds. The kernel tells of a fork
        before the child runs, and so before whatever the child does.
        """
        buffer, receive, unpack = self._buffer, self._forks.recv_into, _FORK.unpack_from
        lost = self.has_forks = False
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
                at_ns, parent, child = unpack(buffer, _EVENT_OFFSET)
                note(parent, child, at_ns)
        return lost

    def attend(self, parents: frozenset[int]) -> bool:
        """Report every fork of these processes on the socket that is waited on; True if that is new."""
        return self._want(self._wanted._replace(attended=parents))

    def mute(self, pids: frozenset[int], *, all_renames: bool) -> None:
        """Drop changes of name and user by `pids`, and with `all_renames` all renames but our own."""
        self._want(self._wanted._replace(muted=pids, all_renames=all_renames))

    def _want(self, wanted: Wanted) -> bool:
        if wanted == self._wanted:
            return False
        _attach(self._socket, _event_filter(wanted))
        self._wanted = wanted
        return True

    def close(self) -> None:
        """Unsubscribe: a listener that does not say so is counted by the kernel for ever."""
        for opened in (self._socket, self._forks):
            try:
                with suppress(OSError, ConnectorUnavailableError):
                    self._send(opened, PROC_CN_MCAST_IGNORE)
            finally:
                opened.close()

    def _subscribe(self) -> bool:
        if _kernel_version() >= (6, 6):
            self._send(self._socket, PROC_CN_MCAST_LISTEN, FORK | EXEC | UID | COMM)
            if self._proves_itself():
                self._send(self._forks, PROC_CN_MCAST_LISTEN, FORK)
                return True
        self._send(self._socket, PROC_CN_MCAST_LISTEN)
        if self._proves_itself():
            self._send(self._forks, PROC_CN_MCAST_LISTEN)
            return False
        raise ConnectorUnavailableError(
            "the kernel sends no process events (CONFIG_PROC_EVENTS is off, or a container)"
        )

    def _send(self, opened: socket.socket, operation: int, mask: int | None = None) -> None:
        body = struct.pack("=I", operation) if mask is None else struct.pack("=II", operation, mask)
        length = _HEADERS.size + len(body)
        headers = _HEADERS.pack(
            length, _NLMSG_DONE, 0, 0, os.getpid(), CN_IDX_PROC, CN_IDX_PROC, 0, 0, len(body), 0
        )
        try:
            opened.send(headers + body)
        except ConnectionRefusedError as error:
            raise ConnectorUnavailableError("process events do not reach this network namespace") from error

    def _proves_itself(self) -> bool:
        """Rename this process to the name it has, and see whether the kernel tells us."""
        own = os.getpid()
        with open("/proc/self/comm", "r+b", buffering=0) as file:
            name = file.read().removesuffix(b"\n")
            file.write(name)
        end = time.monotonic() + _PROOF_SECONDS
        seen: set[int] = set()
        while own not in seen and (left := end - time.monotonic()) > 0:
            select.select([self._socket], [], [], left)
            self.receive(seen, limit=1024)
        return own in seen


def _open(program: bytes) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR)
    except OSError as error:
        raise ConnectorUnavailableError(
            f"this kernel has no connector ({os.strerror(error.errno or 0)})"
        ) from error
    try:
        _enlarge(opened)
        _attach(opened, program)
        opened.bind((0, CN_IDX_PROC))
    except PermissionError as error:
        opened.close()
        raise ConnectorUnavailableError("this kernel gives process events to CAP_NET_ADMIN only") from error
    except OSError:
        opened.close()
        raise
    return opened


def _enlarge(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:  # takes CAP_NET_ADMIN; then as much as net.core.rmem_max allows
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


# Classic BPF (linux/filter.h), which every kernel runs for any socket. A jump skips 255 instructions at most.

_Instruction = tuple[int, str | int, str | int, int]

_LOAD, _LOAD_X, _GIVE = 0x20, 0x07, 0x06
_JUMP_IF_EQUAL, _JUMP_IF_EQUAL_X, _JUMP_IF_SET = 0x15, 0x1D, 0x45
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_EVERYTHING = 0xFFFFFFFF
_WHAT, _PID, _TGID, _CHILD_PID, _CHILD_TGID = (_EVENT_OFFSET + at for at in (0, 16, 20, 24, 28))


def _attach(opened: socket.socket, program: bytes) -> None:
    """Put a filter on a socket, in place of the one it had (struct sock_fprog)."""
    code = ctypes.create_string_buffer(program)
    opened.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    )


def _event_filter(wanted: Wanted) -> bytes:
    """Return a filter that passes what is wanted of the events of main threads, and some forks."""
    own = (_JUMP_IF_EQUAL, "pass", "drop", _swapped(os.getpid()))
    return _assembled(
        (_LOAD, 0, 0, _WHAT),
        (_JUMP_IF_EQUAL, "pass", 0, _swapped(NONE)),
        (_JUMP_IF_EQUAL, "fork", 0, _swapped(FORK)),
        (_JUMP_IF_EQUAL, "exec", 0, _swapped(EXEC)),
        (_JUMP_IF_EQUAL, "uid", 0, _swapped(UID)),
        (_JUMP_IF_EQUAL, 0, "drop", _swapped(COMM)),
        *(((_LOAD, 0, 0, _TGID), own) if wanted.all_renames else ()),
        "uid",
        (_LOAD, 0, 0, _TGID),
        *((_JUMP_IF_EQUAL, "drop", 0, _swapped(pid)) for pid in wanted.muted),
        "exec",
        *_compared(_PID, _TGID),
        (_JUMP_IF_EQUAL_X, "pass", "drop", 0),
        "fork",
        *_compared(_CHILD_PID, _CHILD_TGID),
        (_JUMP_IF_EQUAL_X, 0, "drop", 0),
        (_LOAD, 0, 0, _TGID),
        *((_JUMP_IF_EQUAL, "pass", 0, _swapped(pid)) for pid in wanted.attended),
        (_LOAD, 0, 0, _RANDOM),
        (_JUMP_IF_SET, "drop", "pass", _SAMPLED),
        "pass",
        (_GIVE, 0, 0, _EVERYTHING),
        "drop",
        (_GIVE, 0, 0, 0),
    )


def _fork_filter() -> bytes:
    """Return a filter that passes the forks of processes, not those of threads."""
    return _assembled(
        (_LOAD, 0, 0, _WHAT),
        (_JUMP_IF_EQUAL, 0, "drop", _swapped(FORK)),
        *_compared(_CHILD_PID, _CHILD_TGID),
        (_JUMP_IF_EQUAL_X, 0, "drop", 0),
        (_GIVE, 0, 0, _EVERYTHING),
        "drop",
        (_GIVE, 0, 0, 0),
    )


def _compared(one: int, other: int) -> tuple[_Instruction, ...]:
    """Return the instructions in front of _JUMP_IF_EQUAL_X for two words of the message."""
    return (_LOAD, 0, 0, one), (_LOAD_X, 0, 0, 0), (_LOAD, 0, 0, other)  # _LOAD_X is A to X


def _swapped(word: int) -> int:
    return socket.htonl(word)  # BPF loads words in network order


def _assembled(*lines: "_Instruction | str") -> bytes:
    """Return a program. A jump of 0 goes on, any other is to a label further down: a line of text only."""
    labels: dict[str | int, int] = {}
    instructions: list[_Instruction] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    code = bytearray()
    for at, (operation, if_so, if_not, word) in enumerate(instructions, start=1):
        code += struct.pack("=HBBI", operation, labels.get(if_so, at) - at, labels.get(if_not, at) - at, word)
    return bytes(code)


def _check_namespaces() -> None:
    for name, inode in _INITIAL_NAMESPACES.items():
        if os.stat(f"/proc/self/ns/{name}").st_ino != inode:
            raise ConnectorUnavailableError(f"process events do not reach this {name} namespace")


def _kernel_version() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int("".join(c for c in minor if c.isdecimal()) or 0)
