"""The proc connector in as little Python as does the job: `guard.py NAME`.

A blocking socket and one open a program: what any daemon in this language takes at least. It looks
at the name only, so it is the floor for programs that no rule matches.
"""

import os
import socket
import struct
import sys


def main() -> None:
    """Look at the name of every program that starts."""
    name = os.fsencode(sys.argv[1]) + b"\n"
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)  # NETLINK_CONNECTOR
    events.bind((0, 1))
    # nlmsghdr, cn_msg, PROC_CN_MCAST_LISTEN, PROC_EVENT_EXEC
    events.send(struct.pack("=IHHII IIIIHH II", 44, 3, 0, 0, os.getpid(), 1, 1, 0, 0, 8, 0, 1, 2))
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    buffer = bytearray(4096)
    pid_of = struct.Struct("=I").unpack_from
    print("ready", flush=True)
    while True:
        events.recv_into(buffer)
        (pid,) = pid_of(buffer, 56)
        try:
            fd = os.open(f"{pid}/comm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        except (FileNotFoundError, ProcessLookupError):
            continue
        try:
            if os.read(fd, 64) == name:
                print("matched")
        except ProcessLookupError:
            continue
        finally:
            os.close(fd)


main()
