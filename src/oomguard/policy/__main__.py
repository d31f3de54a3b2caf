"""Entry point of `python -m oomguard.policy`, the child of the daemon."""

import os
import sys

if __name__ == "__main__":
    from oomguard.policy.child import main

    os._exit(main(sys.argv[1:]))  # all is written, and taking a large policy apart takes 40 ms
