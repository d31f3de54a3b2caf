"""What is known about one process: what oomguard set and decided, and what its parent passed on to it."""

from oomguard.core.entry import Entry
from oomguard.core.typed import NamedTuple


class Known:
    """A process that a rule matches, or whose value oomguard set. Rules are in it by number.

    `entry` is the ledger's. `rule` matches the process, as last seen. `raised_by` is the rule that raises it,
    which it must not escape by a name, cgroup or value of its own choice. `is_held`: that rule no longer
    matches; if it does, the process had its value already, so there is no entry. `unchanged` is the hash of
    inode, name and value: it needs nothing while these stay the same. `is_sharing`: its children keep the
    value (`children: inherit`).
    """

    __slots__ = ("entry", "is_held", "is_sharing", "raised_by", "rule", "start_time_ticks", "unchanged")

    def __init__(self) -> None:
        self.start_time_ticks = 0
        self.entry: Entry | None = None
        self.rule: int | None = None
        self.raised_by: int | None = None
        self.is_held = False
        self.unchanged: int | None = None
        self.is_sharing = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return self.entry is None and self.rule is None and self.raised_by is None


class Descent(NamedTuple):
    """What a process has from its parent; siblings and their children share one.

    `origin` is the entry of the managed process that its value comes from. `raised_by` is the number of the
    rule that raised the parent, whose program it may still run. Not `is_certain`: only its value shows
    whether `origin` is right, because the parent was reset within 0.1 s of the fork. `former` is the origin
    of a process that got another value at `former_until` (in the clock of forks): later children have that.
    """

    origin: Entry | None = None
    raised_by: int | None = None
    is_certain: bool = True
    former: Entry | None = None
    former_until: int = 0


NOTHING = Known()
"""What is known about most processes. It is in no table, and never changes."""

UNRELATED = Descent()
"""The descent of most processes."""
