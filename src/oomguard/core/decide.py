"""Decides the value of one process from the policy, the ledger and /proc. Every verb shows this decision."""

from oomguard.core.change import SetOomScoreAdj
from oomguard.core.entry import Entry
from oomguard.core.process import Identity, UnknownFactError
from oomguard.core.rule import Rule
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.core.choices import Cause, ObstacleKind


TO_LOWER = "grant CAP_SYS_RESOURCE to oomguard; in a container: --cap-add SYS_RESOURCE"
"""What to do if the kernel denies a value below the floor of a process."""


class Refusal(NamedTuple):
    """Why a change must not be attempted, and a fix."""

    reason: str
    hint: str = ""


class Obstacle(NamedTuple):
    """Why a wanted value is not written: by oomguard (`refused`), or by the kernel (`denied`).

    `may-be-denied`: the kernel does not show whether it will allow it. `contended`: something else keeps
    rewriting the value. `unknown`: a fact that the rules need cannot be read.
    """

    kind: "ObstacleKind"
    reason: str
    hint: str = ""


class Decision(NamedTuple):
    """The value a process should have, and why.

    `rule` is the rule that matches it, or would if the process were trusted. `own` is its value without
    oomguard, `current` its value now, `wanted` the value it should have. `entry` is its own, or with
    `is_inherited` that of the managed process that it inherited its current value from. `is_held`: it left
    the rule by its own doing, and that still applies until it runs another program.
    """

    identity: Identity
    comm: bytes
    rule: Rule | None
    own: int
    current: int
    wanted: int
    entry: Entry | None = None
    is_inherited: bool = False
    is_held: bool = False
    obstacle: Obstacle | None = None

    @property
    def matched(self) -> Rule | None:
        """The rule that matches it: a refused rule does not."""
        is_refused = self.obstacle is not None and self.obstacle.kind == "refused"
        return None if is_refused else self.rule

    @property
    def result(self) -> int:
        """The value to count on: the wanted one, or the current one if anything may prevent the change."""
        return self.wanted if self.obstacle is None else self.current

    def change(self, cause: "Cause") -> SetOomScoreAdj | None:
        """Return the write that it asks for, or None."""
        obstacle, own, entry = self.obstacle, self.own, self.entry
        if self.wanted == self.current or (obstacle is not None and obstacle.kind == "unknown"):
            return None
        rule = self.rule if self.wanted != own else None
        if rule is None:
            cause = "restore"
        elif entry is not None and not self.is_inherited and entry.is_written and entry.given == self.wanted:
            cause = "drift"
        # A privileged ancestor that set it, sshd for one, moved the floor, though oomguard did not.
        is_reset = self.is_inherited and rule is None and own > self.current
        return SetOomScoreAdj(
            self.identity,
            self.comm,
            before=self.current,
            after=self.wanted,
            own=own,
            cause=cause,
            rule=rule,
            obstacle=obstacle,
            moved_floor=is_reset or (entry is not None and entry.moved_floor),
            inherited=self.is_inherited and rule is None,
        )


class Situation(NamedTuple):
    """The value of a process, its own one, and the entry that shows this, maybe that of another process."""

    current: int
    own: int
    entry: Entry | None
    is_inherited: bool


class Match(NamedTuple):
    """The rule that may set the value of a process, if any.

    `refused` is the first that matches it but must not, and why. `unknown` is why another one could not be
    tried: then the value is not lowered. The `situation` is that of the process, if it was needed.
    """

    rule: Rule | None = None
    refused: tuple[Rule, Refusal] | None = None
    unknown: UnknownFactError | None = None
    situation: Situation | None = None


def decide(
    identity: Identity, comm: bytes, situation: Situation, match: Match, *, is_held: bool = False
) -> Decision:
    """Return the decision on a process."""
    current, own, entry, is_inherited = situation
    rule, refused, unknown, _ = match
    obstacle = None
    wanted = wanted_by(rule, own)
    if unknown is not None and wanted < current:
        obstacle = Obstacle("unknown", str(unknown))
    elif rule is None and refused is not None and current == own:  # otherwise it is reset first
        rule, why = refused
        wanted, obstacle = wanted_by(rule, own), Obstacle("refused", *why)
    return Decision(identity, comm, rule, own, current, wanted, entry, is_inherited, is_held, obstacle)


def wanted_by(rule: Rule | None, own: int) -> int:
    """Return the value that a process should have under a rule, or without one."""
    return own if rule is None else rule.terms.value.wanted(own)


class Rights(NamedTuple):
    """The rights of the process that writes: its uid and capabilities."""

    uid: int
    overrides_owner: bool = True
    """Whether it may write files of other users (CAP_DAC_OVERRIDE)."""
    lowers_any: bool = True
    """Whether it may lower a value below a process's floor (CAP_SYS_RESOURCE)."""


def denial(
    after: int, *, highest_floor: int, owner_uid: int, is_read_only: bool, rights: Rights
) -> Obstacle | None:
    """Return why the kernel will deny this write of an `oom_score_adj`, or may; None if it allows it.

    /proc does not show the floor of a process (`oom_score_adj_min`, fs/proc/base.c:__set_oom_adj).
    `highest_floor` is its highest possible value.
    """
    if is_read_only:
        return Obstacle("denied", "/proc is read-only here", "run where /proc is mounted writable")
    if rights.uid != owner_uid and not rights.overrides_owner:
        return Obstacle(
            "denied",
            f"uid {rights.uid} cannot change processes of uid {owner_uid}: CAP_DAC_OVERRIDE is missing",
            "run as root",
        )
    if after < highest_floor and not rights.lowers_any:
        return Obstacle(
            "may-be-denied",
            "CAP_SYS_RESOURCE is missing, and the kernel does not show the floor (oom_score_adj_min)",
            TO_LOWER,
        )
    return None
