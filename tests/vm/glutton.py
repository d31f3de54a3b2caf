#!/usr/bin/python3
"""Takes every promise of memory there is, and keeps none of it busy: glutton.py.

Under strict overcommit nobody else without a reserve gets any then. What others let go of, it takes as
well. Says `full` the first time that not even a page is left.
"""

import mmap
import time

SIZES = [1 << shift for shift in range(26, 11, -1)]
AGAIN_SECONDS = 0.05


def main() -> None:
    """Map from large to small until refused, for ever."""
    taken: list[mmap.mmap] = []
    said = False
    while True:
        for size in SIZES:
            try:
                while True:
                    taken.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            except (OSError, MemoryError):
                continue
        if not said:
            print("full", flush=True)
            said = True
        time.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    main()
