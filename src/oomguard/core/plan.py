"""The difference between what a policy asks for and what was observed, as changes.

Everything here is pure: the same functions make the table of `oomguard plan` and the writes of
the daemon, so the two cannot disagree.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from oomguard.core.commit import MODE, STRICT, Refusal, interlock, write_order
from oomguard.core.decide import Obstacle, refused
from oomguard.core.guard import guard
from oomguard.core.sysctl import SYSCTLS, after_writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from oomguard.core.commit import Memory, Peak
    from oomguard.core.policy import Policy, Rule
    from oomguard.core.process import Identity

Cause = Literal["start", "exec", "drift", "policy", "resync", "restore"]
Result = Literal["applied", "denied", "vanished", "refused", "contended", "left-alone"]


class SetSysctl(NamedTuple):
    """Write one sysctl. `source` is the policy line that asks for it, "" for a restore.

    Changes of one `group` are made together or not at all; one without is made by itself.
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
    obstacle: Obstacle | None = None
    moved_floor: bool = False
    inherited: bool = False

    @property
    def target(self) -> "Identity":
        """What it changes, as a key."""
        return self.identity


Change = SetSysctl | SetOomScoreAdj


class Planned(NamedTuple):
    """A change, and the rule that governs the process, even if that asks for its original value."""

    change: Change
    rule: "Rule | None"


class Outcome(NamedTuple):
    """What became of a change. `errno` is the kernel's answer, 0 where it was not asked.

    `made` is what the kernel made of the value of an applied change, None if it took it as it is.
    """

    change: Change
    result: Result
    errno: int = 0
    reason: str = ""
    hint: str = ""
    made: int | None = None


class Entry(NamedTuple):
    """What the ledger knows of a value: what it was before oomguard, and what oomguard gave it.

    `given_before` is what oomguard had set before `given`; children may still have inherited it.
    `is_written` is False from just before a write until it is known to have happened: the value then is
    `given`, or what was there before. `since_ticks` is when a process was given it, in the clock
    of its start time: what started before cannot have inherited it. `moved_floor` tells that it took
    CAP_SYS_RESOURCE, which moves the floor below which a process may not lower itself.
    `made` is what the kernel made of `given`, None if it took it as it is. `is_open`: it may grant a part
    only, and how much is not known yet.
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
        """Return whether oomguard sets `value` or did: a child may have inherited it."""
        return value == self.given_before or self.is_ours(value)

    def after_crash(self, value: int) -> "Entry | None":
        """Return the entry once the value found after a crash tells whether the write happened.

        None: oomguard has set nothing. If something else has set the same value before it was read, that
        counts as written: nothing tells the two apart.
        """
        written = self._replace(is_written=True)
        if self.is_written or (value != self.original and written.is_ours(value)):
            return written
        if self.given_before is None:
            return None
        return written._replace(given=self.given_before, given_before=None, made=None, is_open=False)


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
    peak: "Peak | None" = None,
) -> list[SetSysctl]:
    """Return the writes that bring the `actual` sysctls to the policy, in the order to make them.

    `actual` holds every sysctl the policy or the ledger names, with its partner and the
    overcommit knobs; one this kernel lacks is missing from it, and is left out. A sysctl that the
    policy no longer names goes back to its original value, if it still has the one it was given.
    Those of one group follow each other.
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
    """Return the sysctls that do not go back to their original value: something else has set them since."""
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
    # What goes back is safe piece by piece, unless it goes back to strict accounting.
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
    """Return the changes in lists: each is made as a whole or not at all."""
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
    """Return whether somebody else put a partner in force: to write the other one would zero it."""
    value = actual.get(partner, 0)
    return value != 0 and not (partner in ledger and ledger[partner].is_ours(value))
