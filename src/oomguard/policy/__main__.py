"""Entry point of `python -m oomguard.policy`, the child of the daemon."""

import os
import sys
from contextlib import suppress

if __name__ == "__main__":
    with suppress(OSError):  # the daemon is real-time in its unit, and this is not urgent
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    from oomguard.policy.child import main

    os._exit(main(sys.argv[1:]))  # all is written, and taking a large policy apart takes 40 ms
