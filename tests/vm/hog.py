#!/usr/bin/python3
"""Takes memory until it has enough or dies: hog.py MIB [HOLD_SECONDS].

The kernel names a script after its file, so a copy called `victim` is a process called `victim`. Says `got N`
when it has N MiB, and `refused` (exit status 12, ENOMEM) when the kernel says no.
"""

import mmap
import sys
import time

STEP_MIB = 8
PAGE = 4096


def main() -> int:
    """Map and touch page by page: only a touched page is taken."""
    wanted_mib = int(sys.argv[1])
    taken: list[mmap.mmap] = []
    while len(taken) * STEP_MIB < wanted_mib:
        try:
            chunk = mmap.mmap(-1, STEP_MIB << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            print(f"refused after {len(taken) * STEP_MIB} MiB: {error}", flush=True)
            return 12
        for offset in range(0, len(chunk), PAGE):
            chunk[offset] = 1
        taken.append(chunk)
    print(f"got {len(taken) * STEP_MIB}", flush=True)
    time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
