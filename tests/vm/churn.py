#!/usr/bin/python3
"""Starts programs for ever: churn.py RATE PROGRAM [ARGUMENT...].

Up to RATE a second, or as many as the machine can. At SIGTERM it says `N programs in S s` and waits for the
last of them.
"""

import os
import signal
import sys
import time

STEP_SECONDS = 0.05
"""How often it looks whether more are due."""


def main() -> int:
    """Start what is due, collect what has ended."""
    rate, command = float(sys.argv[1]), sys.argv[2:]
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    start = time.monotonic()
    started = running = 0
    while not stopped:
        due = (time.monotonic() - start) * rate
        while started < due and not stopped:
            os.posix_spawn(command[0], command, os.environ)
            started += 1
            running += 1
            running -= collect()
            if time.monotonic() - start > started / rate + 1:
                due = 0  # the machine is slower; do not save up
        running -= collect()
        time.sleep(STEP_SECONDS)
    print(f"{started} programs in {time.monotonic() - start:.0f} s", flush=True)
    while running > 0:
        os.wait()
        running -= 1
    return 0


def collect() -> int:
    """Take leave of the programs that have ended; return how many."""
    count = 0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return count
        if pid == 0:
            return count
        count += 1


if __name__ == "__main__":
    sys.exit(main())
