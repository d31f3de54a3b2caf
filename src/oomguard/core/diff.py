"""The changes that bring the observed values to those of the policy.

All of it is pure: `oomguard plan` and the daemon use the same functions, so they cannot differ.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.core.decide import Obstacle, refused
from oomguard.core.guard import guard
from oomguard.core.overcommit import MODE, STRICT, Refusal, interlock, write_order
from oomguard.core.sysctl import SYSCTLS, after_writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from oomguard.core.decide import Decision
    from oomguard.core.overcommit import Memory, Peak
    from oomguard.core.policy import Policy
    from oomguard.core.process import Identity
    from oomguard.core.rule import Rule

Cause = Literal["start", "exec", "drift", "policy", "resync", "restore"]
Result = Literal["applied", "denied", "vanished", "refused", "contended", "left-alone"]


class SetSysctl(NamedTuple):
    """Write one sysctl. `source` is the policy line that sets it, "" for a restore.

    Changes of one `group` are made together or not at all; a change without one is made alone.
    """

    name: str
    before: int
    after: int
    cause: Cause
    source: str = ""
    obstacle: Obstacle | None = None
    group: str = ""

    @property
    def target(self) -> str:
        """What it changes, as a key."""
        return self.name


class SetOomScoreAdj(NamedTuple):
    """Write one process's `oom_score_adj`. `rule` is None for a restore.

    `own` is the original value, which the ledger keeps; `before` is the current one. `moved_floor`: setting
    the current value moved the floor, so this write must move it, too. `inherited`: the value was set for
    an ancestor.
    """

    identity: "Identity"
    comm: bytes
    before: int
    after: int
    own: int
    cause: Cause
    rule: "Rule | None" = None
    obstacle: Obstacle | None = None
    moved_floor: bool = False
    inherited: bool = False

    @property
    def target(self) -> "Identity":
        """What it changes, as a key."""
        return self.identity


Change = SetSysctl | SetOomScoreAdj


class Planned(NamedTuple):
    """A change, and the rule that matches the process, even if the rule sets the original value."""

    change: Change
    rule: "Rule | None"


class Outcome(NamedTuple):
    """The result of a change. `errno` is the kernel's, 0 if there was no write.

    `made` is the value the kernel set if it differs from the one written, else None.
    """

    change: Change
    result: Result
    errno: int = 0
    reason: str = ""
    hint: str = ""
    made: int | None = None


class Entry(NamedTuple):
    """The ledger's entry for a value: the original, and the one oomguard set.

    `given_before` is what oomguard had set before `given`; children may still have inherited it.
    `is_written` is False from just before a write until it has happened: the value is then `given` or the
    one before. `since_ticks` is when it was set for a process, in the clock of start times: processes that
    started earlier cannot have inherited it. `moved_floor`: it needed CAP_SYS_RESOURCE, which moves the
    floor (`oom_score_adj_min`). `made` is the value the kernel set if it is not `given`, else None.
    `is_open`: the kernel may grant only a part, and how much is not known yet.
    """

    original: int
    given: int
    given_before: int | None = None
    since_ticks: int = 0
    moved_floor: bool = False
    made: int | None = None
    is_open: bool = False
    is_written: bool = True

    def is_ours(self, value: int) -> bool:
        """Return whether oomguard set `value`; if not, something else changed it since."""
        low, high = sorted((self.original, self.given))
        if self.is_open and low <= value <= high:
            return True
        is_given = value == (self.given if self.made is None else self.made)
        return is_given or (not self.is_written and value == self.given_before)

    def was_ours(self, value: int) -> bool:
        """Return whether oomguard set `value`, now or before: a child may have inherited it."""
        return value == self.given_before or self.is_ours(value)

    def after_crash(self, value: int) -> "Entry | None":
        """Return the entry after a crash; the current value shows whether the write happened.

        None: oomguard has set nothing. If something else has set the same value meanwhile, that counts as
        written, because the two cannot be distinguished.
        """
        written = self._replace(is_written=True)
        if self.is_written or (value != self.original and written.is_ours(value)):
            return written
        if self.given_before is None:
            return None
        return written._replace(given=self.given_before, given_before=None, made=None, is_open=False)


def intended(
    known: Entry | None,
    own: int,
    before: int,
    after: int,
    since_ticks: int = 0,
    *,
    moved_floor: bool = False,
    is_open: bool = False,
) -> Entry:
    """Return the entry for a write of `after` over `before` that is not made yet."""
    given_before = before if known is not None and known.is_ours(before) else None
    original = own if known is None else known.original
    return Entry(original, after, given_before, since_ticks, moved_floor, None, is_open, is_written=False)


def own_oom_score_adj(entry: Entry | None, value: int) -> int:
    """Return the value that a process would have without oomguard, given that it has `value` now."""
    return entry.original if entry is not None and entry.is_ours(value) else value


class Judged(NamedTuple):
    """What is decided on a process. `entry` is its own, or that of the one it inherited its value from."""

    decision: "Decision"
    entry: Entry | None

    def change(self, cause: Cause) -> SetOomScoreAdj | None:
        """Return the write that the decision asks for, or None."""
        decision, entry = self.decision, self.entry
        obstacle, own = decision.obstacle, decision.original
        if decision.wanted == decision.current or (obstacle is not None and obstacle.kind == "unknown"):
            return None
        rule = decision.rule if decision.wanted != own else None
        if entry is not None and not decision.is_inherited and entry.is_written:
            cause = "drift" if entry.given == decision.wanted else cause
        # A privileged ancestor that set it, sshd for one, moved the floor, though oomguard did not.
        is_reset = decision.is_inherited and rule is None and own > decision.current
        return SetOomScoreAdj(
            identity=decision.identity,
            comm=decision.comm,
            before=decision.current,
            after=decision.wanted,
            own=own,
            cause="restore" if rule is None else cause,
            rule=rule,
            obstacle=obstacle,
            moved_floor=is_reset or (entry is not None and entry.moved_floor),
            inherited=decision.is_inherited and rule is None,
        )


def diff_sysctls(
    policy: "Policy",
    actual: "Mapping[str, int]",
    memory: "Memory | None",
    ledger: "Mapping[str, Entry]",
    *,
    cause: Cause,
    peak: "Peak | None" = None,
) -> list[SetSysctl]:
    """Return the writes that bring the `actual` sysctls to the policy, in the order to make them.

    `actual` holds every sysctl the policy or the ledger names, with its partner and the
    overcommit knobs; those this kernel lacks are missing, and are skipped. A sysctl that the
    policy no longer names is restored, if it still has the value that oomguard set. Those of one group
    are adjacent.
    """
    wanted: dict[str, tuple[int, Cause, str]] = {}
    for name, entry in ledger.items():
        if name in actual and _is_ours(name, actual, ledger):
            wanted[name] = (entry.original, "restore", "")
    for setting in policy.sysctls:
        if setting.name in actual:
            known = ledger.get(setting.name)
            drifted = known is not None and known.is_written and known.given == setting.value
            wanted[setting.name] = (setting.value, "drift" if drifted else cause, setting.source)
            wanted.pop(SYSCTLS[setting.name].partner, None)
    groups: dict[str, list[str]] = {}
    for name in wanted:
        if _must_write(name, actual, wanted, ledger):
            groups.setdefault(SYSCTLS[name].group or name, []).append(name)
    return [
        change
        for names in groups.values()
        for change in _diff_group(names, policy, actual, memory, wanted, peak)
    ]


def left_alone(policy: "Policy", actual: "Mapping[str, int]", ledger: "Mapping[str, Entry]") -> list[str]:
    """Return the sysctls that are left alone, because something else has changed them since."""
    named = {setting.name for setting in policy.sysctls}
    return [
        name
        for name in ledger
        if name in actual and not named & {name, SYSCTLS[name].partner} and not _is_ours(name, actual, ledger)
    ]


def _diff_group(
    names: list[str],
    policy: "Policy",
    actual: "Mapping[str, int]",
    memory: "Memory | None",
    wanted: "Mapping[str, tuple[int, Cause, str]]",
    peak: "Peak | None",
) -> "Iterator[SetSysctl]":
    final = after_writing(actual, {name: wanted[name][0] for name in names})
    # Restoring sysctls one by one is safe, unless it restores strict accounting.
    is_one = final.get(MODE) == STRICT or any(wanted[name][1] != "restore" for name in names)
    changes = []
    for name in write_order(names, actual=actual, final=final, memory=memory):
        value, why, source = wanted[name]
        group = SYSCTLS[name].group if is_one else ""
        changes.append(SetSysctl(name, actual[name], value, why, source, group=group))
    refusal = refusal_of(changes, policy, actual, memory, peak)
    for change in changes:
        yield change._replace(obstacle=refused(refusal))


def refusal_of(
    changes: "Sequence[SetSysctl]",
    policy: "Policy",
    actual: "Mapping[str, int]",
    memory: "Memory | None",
    peak: "Peak | None",
) -> Refusal | None:
    """Return why none of these writes must be made on this host, or None."""
    if memory is None or policy.force:
        return None
    asked = [change for change in changes if change.cause != "restore"]
    for change in asked:
        refusal = guard(change.name, change.after, actual[change.name], memory)
        if refusal is not None:
            return refusal
    return interlock(
        memory,
        actual=actual,
        final=after_writing(actual, {change.name: change.after for change in changes}),
        headroom_percent=policy.commit_headroom_percent,
        peak=peak if asked else None,
    )


def grouped(changes: "Iterable[SetSysctl]") -> list[list[SetSysctl]]:
    """Return the changes in lists; each list is made as a whole or not at all."""
    found: list[list[SetSysctl]] = []
    for change in changes:
        if found and change.group and change.group == found[-1][0].group:
            found[-1].append(change)
        else:
            found.append([change])
    return found


def _must_write(
    name: str,
    actual: "Mapping[str, int]",
    wanted: "Mapping[str, tuple[int, Cause, str]]",
    ledger: "Mapping[str, Entry]",
) -> bool:
    value = wanted[name][0]
    partner = wanted.get(SYSCTLS[name].partner)
    if value == 0 and partner is not None and partner[0] != 0:
        return False  # writing the partner zeroes this one
    known = ledger.get(name)
    is_granted = known is not None and known.given == value and known.made == actual[name]
    return actual[name] != value and not is_granted


def _is_ours(name: str, actual: "Mapping[str, int]", ledger: "Mapping[str, Entry]") -> bool:
    return ledger[name].is_ours(actual[name]) and not _is_foreign(SYSCTLS[name].partner, actual, ledger)


def _is_foreign(partner: str, actual: "Mapping[str, int]", ledger: "Mapping[str, Entry]") -> bool:
    """Return whether something else has set the partner: writing this one would zero it."""
    value = actual.get(partner, 0)
    return value != 0 and not (partner in ledger and ledger[partner].is_ours(value))
