"""The difference between what a policy asks for and what was observed, as changes.

Everything here is pure: the same functions make the table of `oomguard plan` and the writes of
the daemon, so the two cannot disagree.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.core.commit import KNOBS, MODE, STRICT, Refusal, interlock, write_order
from oomguard.core.sysctl import SYSCTLS

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from oomguard.core.commit import Memory
    from oomguard.core.policy import Policy, Rule
    from oomguard.core.process import Identity

Cause = Literal["start", "exec", "drift", "policy", "resync", "restore"]
Result = Literal["applied", "denied", "vanished", "refused", "contended"]


class SetSysctl(NamedTuple):
    """Write one sysctl. `source` is the policy line that asks for it, "" for a restore."""

    name: str
    before: int
    after: int
    cause: Cause
    source: str = ""
    refusal: Refusal | None = None

    @property
    def target(self) -> str:
        """What it changes, as a key."""
        return self.name


class SetOomScoreAdj(NamedTuple):
    """Write one process's `oom_score_adj`. `rule` is None for a restore.

    `own` is the value the process has by itself, which the ledger keeps; `before` is what it
    has at this moment. `moved_floor` tells that the value it was given moved its floor as well, so that
    what is written now has to move it, too; `inherited`, that an ancestor was given it.
    """

    identity: "Identity"
    comm: bytes
    before: int
    after: int
    own: int
    cause: Cause
    rule: "Rule | None" = None
    refusal: Refusal | None = None
    moved_floor: bool = False
    inherited: bool = False

    @property
    def target(self) -> "Identity":
        """What it changes, as a key."""
        return self.identity


Change = SetSysctl | SetOomScoreAdj


class Outcome(NamedTuple):
    """What became of a change. `errno` is the kernel's answer, 0 where it was not asked."""

    change: Change
    result: Result
    errno: int = 0
    reason: str = ""
    hint: str = ""


class Entry(NamedTuple):
    """What the ledger knows of a value: what it was before oomguard, and what oomguard gave it.

    `given_before` is the gift that `given` replaces: after a crash between the ledger's line and
    the write, the value still is that one. `since_ticks` is when a process was given it, in the clock
    of its start time: what started before cannot have inherited it. `moved_floor` tells that it took
    CAP_SYS_RESOURCE, which moves the floor below which a process may not lower itself.
    """

    original: int
    given: int
    given_before: int | None = None
    since_ticks: int = 0
    moved_floor: bool = False

    def is_ours(self, value: int) -> bool:
        """Tell whether `value` is one oomguard gave; any other is somebody else's by now."""
        return value in (self.given, self.given_before)


def own_oom_score_adj(entry: Entry | None, value: int) -> int:
    """Return the value that a process would have without oomguard, given that it has `value` now."""
    return entry.original if entry is not None and entry.is_ours(value) else value


def diff_sysctls(
    policy: "Policy",
    actual: "Mapping[str, int]",
    memory: "Memory | None",
    ledger: "Mapping[str, Entry]",
    *,
    cause: Cause,
    leave: "Container[str]" = (),
) -> list[SetSysctl]:
    """Return the writes that bring the `actual` sysctls to the policy, in the order to make them.

    `actual` holds every sysctl the policy or the ledger names, with its partner and the
    overcommit knobs; one this kernel lacks is missing from it, and is left out. A sysctl that the
    policy no longer names goes back to its original value, if it still has the one it was given.
    What is in `leave` is left as it is, and the rest is judged by that.
    """
    wanted: dict[str, tuple[int, Cause, str]] = {}
    for name, entry in ledger.items():
        ours = name in actual and entry.is_ours(actual[name])
        if ours and not _is_foreign(SYSCTLS[name].partner, actual, ledger):
            wanted[name] = (entry.original, "restore", "")
    for setting in policy.sysctls:
        if setting.name in actual:
            known = ledger.get(setting.name)
            drifted = known is not None and known.given == setting.value
            wanted[setting.name] = (setting.value, "drift" if drifted else cause, setting.source)
            wanted.pop(SYSCTLS[setting.name].partner, None)
    names = [
        name
        for name, (value, _, _) in wanted.items()
        if name not in leave and _must_write(name, value, actual, wanted)
    ]
    if not names:
        return []

    final = _after_writing(actual, {name: wanted[name][0] for name in names})
    tightening = final.get(MODE) == STRICT and actual.get(MODE) != STRICT
    refusal = None
    if memory is not None and not policy.force:
        refusal = interlock(
            memory, actual=actual, final=final, headroom_percent=policy.commit_headroom_percent
        )
    changes = []
    for name in write_order(names, tightening=tightening):
        value, why, source = wanted[name]
        # Before the mode is strict a limit binds nobody: only what would put it in force is refused.
        binding = name == MODE or (name in KNOBS and not tightening)
        changes.append(SetSysctl(name, actual[name], value, why, source, refusal if binding else None))
    return changes


def _must_write(
    name: str, value: int, actual: "Mapping[str, int]", wanted: "Mapping[str, tuple[int, Cause, str]]"
) -> bool:
    partner = wanted.get(SYSCTLS[name].partner)
    if value == 0 and partner is not None and partner[0] != 0:
        return False  # writing the partner zeroes this one
    return actual[name] != value


def _is_foreign(partner: str, actual: "Mapping[str, int]", ledger: "Mapping[str, Entry]") -> bool:
    """Tell whether somebody else put a partner in force: to write the other one would zero it."""
    value = actual.get(partner, 0)
    return value != 0 and not (partner in ledger and ledger[partner].is_ours(value))


def _after_writing(actual: "Mapping[str, int]", writes: "Mapping[str, int]") -> dict[str, int]:
    final = dict(actual)
    for name, value in writes.items():
        final[name] = value
        partner = SYSCTLS[name].partner
        if partner and partner not in writes:
            final[partner] = 0
    return final
