"""CAP_SYS_RESOURCE, kept out of effect but for the writes that need it.

A process may lower its own `oom_score_adj` down to its floor, which nothing shows. Whatever a holder of the
capability writes, raising or lowering, also becomes the floor (fs/proc/base.c:__set_oom_adj): with it a
raised process could never come down again by itself, and one that was lowered could always go back.
"""

from contextlib import contextmanager
from typing import TYPE_CHECKING

from oomguard.kernel.capability import CAP_SYS_RESOURCE, drop_effective, effective, has, own_sets

if TYPE_CHECKING:
    from collections.abc import Iterator


class Privilege:
    """The right to write below a floor, and to move it. This one has none: it writes as it is."""

    moves_every_floor = False
    """Whether the capability cannot be put aside, so that each write moves the floor of its process."""

    @contextmanager
    def raised(self) -> "Iterator[bool]":
        """Have the capability in effect for the block; gives whether it is."""
        yield False


class SysResource(Privilege):
    """The calling thread's CAP_SYS_RESOURCE, put aside from here on."""

    def __init__(self) -> None:
        try:
            drop_effective(CAP_SYS_RESOURCE)
        except OSError:  # a sandbox forbids capset(2)
            self.moves_every_floor = has(own_sets().effective, CAP_SYS_RESOURCE)

    @contextmanager
    def raised(self) -> "Iterator[bool]":
        """Have the capability in effect for the block; gives whether it is."""
        if self.moves_every_floor:
            yield True
            return
        with effective(CAP_SYS_RESOURCE) as is_raised:
            yield is_raised
