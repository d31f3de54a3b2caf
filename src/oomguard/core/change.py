"""Changes of values, their causes, and their outcomes."""

from collections.abc import Iterable
from itertools import groupby

from oomguard.core.process import Identity
from oomguard.core.rule import Rule
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.core.choices import Cause, Result
    from oomguard.core.decide import Obstacle


class SetSysctl(NamedTuple):
    """Write one sysctl. `source` is the policy line that sets it, "" for a restore.

    `said` is how the policy puts the value if not as this number.
    Changes of one `group` are made together or not at all; a change without one is made alone.
    """

    name: str
    before: int
    after: int
    cause: "Cause"
    source: str = ""
    obstacle: "Obstacle | None" = None
    group: str = ""
    said: str = ""

    @property
    def target(self) -> str:
        """What it changes, as a key."""
        return self.name


class SetOomScoreAdj(NamedTuple):
    """Write one process's `oom_score_adj`. `rule` is None for a restore.

    `own` is the value without oomguard, `before` the current one. `moved_floor`: setting the current value
    moved the floor, so this write must move it, too. `inherited`: the value was set for an ancestor.
    """

    identity: Identity
    comm: bytes
    before: int
    after: int
    own: int
    cause: "Cause"
    rule: Rule | None = None
    obstacle: "Obstacle | None" = None
    moved_floor: bool = False
    inherited: bool = False

    @property
    def target(self) -> Identity:
        """What it changes, as a key."""
        return self.identity


Change = SetSysctl | SetOomScoreAdj


class Planned(NamedTuple):
    """A change, and the rule that matches the process, even if the rule sets the original value."""

    change: Change
    rule: Rule | None


class Outcome(NamedTuple):
    """The result of a change. `errno` is the kernel's, 0 if there was no write.

    `made` is the value the kernel set if it differs from the one written, else None.
    """

    change: Change
    result: "Result"
    errno: int = 0
    reason: str = ""
    hint: str = ""
    made: int | None = None


def grouped(changes: Iterable[SetSysctl]) -> list[list[SetSysctl]]:
    """Return the changes in lists; each list is made as a whole or not at all."""
    return [[*group] for _, group in groupby(changes, key=lambda change: change.group or change.name)]
