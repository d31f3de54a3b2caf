"""Entry point of `python -m oomguard.policy`, the child of the daemon."""

import sys

if __name__ == "__main__":
    from oomguard.policy.child import main

    sys.exit(main(sys.argv[1:]))
