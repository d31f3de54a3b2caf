#!/usr/bin/python3
"""Takes memory at a steady rate, until it dies: leak.py MIB_A_SECOND."""

import mmap
import sys
import time

PAGE = 4096
STEP_SECONDS = 0.05
STEP_BYTES = 16 << 20
"""More at once could be refused."""


def main() -> None:
    """Map and touch what is due, twenty times a second."""
    rate = float(sys.argv[1]) * (1 << 20)
    begun, taken, kept = time.monotonic(), 0, []
    while True:
        due = min(int((time.monotonic() - begun) * rate) - taken, STEP_BYTES)
        if due >= PAGE:
            kept.append(mmap.mmap(-1, due, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            for offset in range(0, due, PAGE):
                kept[-1][offset] = 1
            taken += due
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    main()
