"""The YAML policy language: reading, faults by line, lint and compilation."""

import os

# Plugins of pydantic would run in whatever reads a policy, often as root, and looking for them takes 10 ms.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
