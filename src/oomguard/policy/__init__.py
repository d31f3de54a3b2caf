"""The YAML policy language: from bytes to a policy, in the order below.

`source` reads the files, `yaml_tree` parses one into `nodes`, `model` says which keys there are and what
they take, `relations` finds keys that contradict each other, `compile` makes the policy that the daemon
applies. `load` does all of it; `child` is the process in which the daemon does. What is wrong is a `fault`
with its place: `messages` words what pydantic and the parser find, `lint` warns of what is valid.
"""

import os

# Plugins of pydantic would run in whatever reads a policy, often as root, and looking for them takes 10 ms.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
