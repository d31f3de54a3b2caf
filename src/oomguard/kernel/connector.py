"""The proc connector: the kernel tells of every exec, rename and change of user.

A netlink socket in the multicast group of drivers/connector/cn_proc.c. An event only says where
to look; what is done is decided by what /proc says then. So a forged one could make oomguard look,
and nothing else (and forging takes CAP_NET_ADMIN: net/netlink/af_netlink.c, NL_CFG_F_NONROOT_SEND).

Three ways, the best that proves itself: subscribed with an event mask, which Linux 6.6 brought and
older kernels silently ignore; subscribed to everything; not at all (`ConnectorUnavailableError`).
In each a classic BPF program drops, before it is queued, what is not used and what concerns a
thread only: programs that name their threads would wake us for each.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableSet

NETLINK_CONNECTOR = 11
CN_IDX_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_CN_MCAST_IGNORE = 2

NONE, EXEC, UID, COMM = 0x0, 0x2, 0x4, 0x200
"""Events of include/uapi/linux/cn_proc.h that are used; NONE is the acknowledgement."""

RECEIVE_BUFFER = 8 * 1024 * 1024
"""Bytes asked for. The kernel takes twice that (net/core/sock.c:__sock_set_rcvbuf) and counts 832 an
event, so it queues about 20,000."""

_NLMSG_DONE = 3
_HEADERS = struct.Struct("=IHHII IIIIHH")  # struct nlmsghdr, struct cn_msg
_EVENT = struct.Struct("=I16xI")
"""`what` of struct proc_event, and the tgid of its body behind cpu, timestamp and pid."""

_EVENT_OFFSET = _HEADERS.size
_MESSAGE_SIZE = _HEADERS.size + 40
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_QUEUE_LENGTH = 2 * RECEIVE_BUFFER // 512
"""More events than can ever be queued: no socket buffer counts less, whatever the kernel."""

_PROOF_SECONDS = 0.2
_INITIAL_NAMESPACES = {"pid": 0xEFFFFFFC, "user": 0xEFFFFFFD}
"""Inodes of the namespaces the kernel boots with (include/linux/proc_ns.h)."""


class ConnectorUnavailableError(Exception):
    """There are no events here; the message is the reason, for a person."""


class Connector:
    """A proven subscription. `filtered` tells whether the kernel masks events at the source."""

    def __init__(self) -> None:
        _check_namespaces()
        self._buffer = bytearray(4096)
        self._behind = 0  # how many of the events queued at the last loss may still be unread
        self._socket = _open()
        try:
            self.filtered = self._subscribe()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def receive(self, pids: "MutableSet[int]", *, limit: int) -> bool:
        """Add to `pids` whom up to `limit` events are about; True if others were lost before.

        A loss is told when all that was queued at the time is read: the kernel queues nothing more
        until then (net/netlink/af_netlink.c: netlink_overrun, netlink_rcv_wake), and who looks at
        everything any sooner misses what happens meanwhile. It takes several calls. None of them goes
        on until the queue is empty: one process that renames itself in a loop sends as fast as we read.
        """
        buffer, receive, unpack, add = self._buffer, self._socket.recv_into, _EVENT.unpack_from, pids.add
        behind, lost = self._behind, False
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
            if what:
                add(pid)
        else:
            left = max(0, behind - limit)
        self._behind = left
        return lost or (behind > 0 and left == 0)

    def close(self) -> None:
        """Unsubscribe: a listener that does not say so is counted by the kernel for ever."""
        try:
            with suppress(OSError, ConnectorUnavailableError):
                self._send(PROC_CN_MCAST_IGNORE)
        finally:
            self._socket.close()

    def _subscribe(self) -> bool:
        if _kernel_version() >= (6, 6):
            self._send(PROC_CN_MCAST_LISTEN, EXEC | UID | COMM)
            if self._proves_itself():
                return True
        self._send(PROC_CN_MCAST_LISTEN)
        if self._proves_itself():
            return False
        raise ConnectorUnavailableError(
            "the kernel sends no process events (CONFIG_PROC_EVENTS is off, or a container)"
        )

    def _send(self, operation: int, mask: int | None = None) -> None:
        body = struct.pack("=I", operation) if mask is None else struct.pack("=II", operation, mask)
        length = _HEADERS.size + len(body)
        headers = _HEADERS.pack(
            length, _NLMSG_DONE, 0, 0, os.getpid(), CN_IDX_PROC, CN_IDX_PROC, 0, 0, len(body), 0
        )
        try:
            self._socket.send(headers + body)
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


def _open() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR)
    except OSError as error:
        raise ConnectorUnavailableError(
            f"this kernel has no connector ({os.strerror(error.errno or 0)})"
        ) from error
    try:
        _enlarge(opened)
        length, code = _bpf_program()
        program = struct.pack("@HP", length, ctypes.addressof(code))  # struct sock_fprog
        opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
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


def _bpf_program() -> "tuple[int, ctypes.Array[ctypes.c_char]]":
    """Return the socket filter, its length in instructions and its code.

    It passes the events that are used, and of these the main thread's.
    """
    load, load_x, jump_if_equal, jump_if_equal_x, give = 0x20, 0x07, 0x15, 0x1D, 0x06
    what, pid, tgid = _EVENT_OFFSET, _EVENT_OFFSET + 16, _EVENT_OFFSET + 20
    everything = 0xFFFFFFFF

    def swapped(event: int) -> int:
        return socket.htonl(event)  # BPF loads words in network order

    instructions = (
        (load, 0, 0, what),
        (jump_if_equal, 7, 0, swapped(NONE)),
        (jump_if_equal, 2, 0, swapped(EXEC)),
        (jump_if_equal, 1, 0, swapped(COMM)),
        (jump_if_equal, 0, 5, swapped(UID)),
        (load, 0, 0, pid),
        (load_x, 0, 0, 0),  # A to X
        (load, 0, 0, tgid),
        (jump_if_equal_x, 0, 1, 0),
        (give, 0, 0, everything),
        (give, 0, 0, 0),
    )
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    return len(instructions), ctypes.create_string_buffer(code)


def _check_namespaces() -> None:
    for name, inode in _INITIAL_NAMESPACES.items():
        if os.stat(f"/proc/self/ns/{name}").st_ino != inode:
            raise ConnectorUnavailableError(f"process events do not reach this {name} namespace")


def _kernel_version() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int("".join(c for c in minor if c.isdecimal()) or 0)
