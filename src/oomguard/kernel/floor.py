"""Keeps CAP_SYS_RESOURCE out of effect, except for the writes that need it.

A process can lower its own `oom_score_adj` down to its floor (`oom_score_adj_min`), which /proc does not
show. Any value that a holder of the capability writes also becomes the floor (fs/proc/base.c:__set_oom_adj):
a raised process could never lower itself again, and a lowered one could always return to that value.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from oomguard.kernel.capability import CAP_SYS_RESOURCE, drop_effective, effective, has, own_sets


class Privilege:
    """The right to write below a floor, and to move it. This class changes nothing."""

    moves_every_floor = False
    """Whether the capability cannot be taken out of effect, so that each write moves a floor."""

    @contextmanager
    def raised(self) -> Iterator[bool]:
        """Put the capability into effect for the block; yield whether it is."""
        yield False


class SysResource(Privilege):
    """The calling thread's CAP_SYS_RESOURCE, taken out of effect."""

    def __init__(self) -> None:
        try:
            drop_effective(CAP_SYS_RESOURCE)
        except OSError:  # a sandbox forbids capset(2)
            self.moves_every_floor = has(own_sets().effective, CAP_SYS_RESOURCE)

    @contextmanager
    def raised(self) -> Iterator[bool]:
        """Put the capability into effect for the block; yield whether it is."""
        if self.moves_every_floor:
            yield True
            return
        with effective(CAP_SYS_RESOURCE) as is_raised:
            yield is_raised
