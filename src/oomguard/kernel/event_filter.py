"""The socket filters of the proc connector: which events the kernel queues.

A classic BPF program on each socket drops unused events, and those of threads, before they are queued.
Otherwise programs that name their threads would wake the daemon for each.
"""

import ctypes
import os
import socket
import struct

from oomguard.core.typed import NamedTuple

NONE, FORK, EXEC, UID, COMM = 0x0, 0x1, 0x2, 0x4, 0x200
"""Events of include/uapi/linux/cn_proc.h that are used; NONE is the acknowledgement."""

HEADERS = struct.Struct("=IHHII IIIIHH")  # struct nlmsghdr, struct cn_msg
EVENT_OFFSET = HEADERS.size
"""Where struct proc_event starts in a message."""

_SO_ATTACH_FILTER = 26

_SAMPLED = 1024 - 1
"""Forks whose random number has none of these bits arrive on the first socket."""

# Classic BPF (linux/filter.h), which every kernel runs for any socket. A jump skips 255 instructions at most.

_Instruction = tuple[int, str | int, str | int, int]

_LOAD, _LOAD_X, GIVE = 0x20, 0x07, 0x06
_JUMP_IF_EQUAL, _JUMP_IF_EQUAL_X, _JUMP_IF_SET = 0x15, 0x1D, 0x45
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_EVERYTHING = 0xFFFFFFFF
_WHAT, _PID, _TGID, _CHILD_PID, _CHILD_TGID = (EVENT_OFFSET + at for at in (0, 16, 20, 24, 28))


class Wanted(NamedTuple):
    """Which of the used events to queue. Each set has at most 65 pids: a jump skips 255 instructions."""

    parents: frozenset[int] = frozenset()
    """Queue each fork of these processes; of all others, one in 1,024."""
    muted: frozenset[int] = frozenset()
    """Queue no change of name or user of these processes."""
    all_renames: bool = False
    """Queue no change of name except our own."""
    requests: bool = False
    """Queue acknowledgements, which the kernel sends to all listeners for every request."""


def attach(opened: socket.socket, program: bytes) -> None:
    """Replace a socket's filter (struct sock_fprog)."""
    code = ctypes.create_string_buffer(program)
    opened.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    )


def event_filter(wanted: Wanted) -> bytes:
    """Return a filter that passes the wanted events of main threads, and some forks."""
    own = (_JUMP_IF_EQUAL, "pass", "drop", _swapped(os.getpid()))
    return assembled(
        (_LOAD, 0, 0, _WHAT),
        (_JUMP_IF_EQUAL, "pass" if wanted.requests else "drop", 0, _swapped(NONE)),
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
        *((_JUMP_IF_EQUAL, "pass", 0, _swapped(pid)) for pid in wanted.parents),
        (_LOAD, 0, 0, _RANDOM),
        (_JUMP_IF_SET, "drop", "pass", _SAMPLED),
        "pass",
        (GIVE, 0, 0, _EVERYTHING),
        "drop",
        (GIVE, 0, 0, 0),
    )


def fork_filter() -> bytes:
    """Return a filter that passes forks of processes, not of threads."""
    return assembled(
        (_LOAD, 0, 0, _WHAT),
        (_JUMP_IF_EQUAL, 0, "drop", _swapped(FORK)),
        *_compared(_CHILD_PID, _CHILD_TGID),
        (_JUMP_IF_EQUAL_X, 0, "drop", 0),
        (GIVE, 0, 0, _EVERYTHING),
        "drop",
        (GIVE, 0, 0, 0),
    )


def _compared(one: int, other: int) -> tuple[_Instruction, ...]:
    """Return the instructions that load two words of the message for _JUMP_IF_EQUAL_X."""
    return (_LOAD, 0, 0, one), (_LOAD_X, 0, 0, 0), (_LOAD, 0, 0, other)  # _LOAD_X is A to X


def _swapped(word: int) -> int:
    return socket.htonl(word)  # BPF loads words in network order


def assembled(*lines: "_Instruction | str") -> bytes:
    """Return a program. A jump of 0 continues; any other goes to a label below, a line that is only text."""
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
