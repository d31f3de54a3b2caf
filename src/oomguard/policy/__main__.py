"""Entry point of `python -m oomguard.policy`, the child of the daemon."""

import os
import sys

# Plugins of pydantic would run here as root, and looking for them takes 10 ms.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

if __name__ == "__main__":
    from oomguard.policy.child import main

    sys.exit(main(sys.argv[1:]))
