"""Types of words: of the policy's language, of what becomes of a change, and of which memory ran out.

The daemon does not import this module, nor `typing`: see `core.typed`.
"""

from typing import Literal

ValueKind = Literal["exact", "keep", "at_most", "at_least"]
Scope = Literal["all", "main"]
Children = Literal["reset", "inherit"]
Trust = Literal["verified", "name"]
SysctlKind = Literal["exact", "at_least", "at_most"]

ObstacleKind = Literal["refused", "denied", "may-be-denied", "contended", "unknown"]
Cause = Literal["start", "exec", "drift", "policy", "resync", "restore"]
Result = Literal["applied", "denied", "vanished", "refused", "contended", "left-alone"]

Constraint = Literal["none", "cpuset", "memory-policy", "memcg"]
