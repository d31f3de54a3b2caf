"""The writes that bring the sysctls to the policy, in groups and in order, and what prevents them.

All of it is pure: `oomguard plan` and the daemon use the same functions, so they cannot differ.
"""

from collections.abc import Iterator, Mapping, Sequence

from oomguard.core.change import SetSysctl
from oomguard.core.decide import Obstacle, Refusal
from oomguard.core.entry import Entry, own_value
from oomguard.core.guard import guard, is_bound_by_host
from oomguard.core.overcommit import KNOBS, MODE, STRICT, Memory, Peak, interlock, write_order
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.sysctl import SYSCTLS, after_writing
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.core.choices import Cause


_NO_MEMINFO = Refusal(
    "/proc/meminfo cannot be read: how much this host can spare is not known",
    "find out why; oomguard tries again at each pass (`force: true` overrides)",
)


class _Wanted(NamedTuple):
    value: int
    cause: "Cause"
    setting: SysctlSetting | None = None


def diff_sysctls(
    policy: Policy,
    actual: Mapping[str, int],
    memory: Memory | None,
    ledger: Mapping[str, Entry],
    *,
    cause: "Cause",
    peak: Peak | None = None,
) -> list[SetSysctl]:
    """Return the writes that bring the `actual` sysctls to the policy, in the order to make them.

    `actual` holds every sysctl the policy or the ledger names, with its partner and the
    overcommit knobs; those this kernel lacks are missing, and are skipped. A sysctl that the
    policy no longer names is restored, if it still has the value that oomguard set. Those of one group
    are adjacent.
    """
    wanted: dict[str, _Wanted] = {}
    for name, entry in ledger.items():
        if name in actual and _is_ours(name, actual, ledger):
            wanted[name] = _Wanted(entry.original, "restore")
    for setting in policy.sysctls:
        if setting.name in actual:
            known = ledger.get(setting.name)
            value = setting.wanted(own_value(known, actual[setting.name]))
            restored = wanted.get(setting.name)
            if setting.kind != "exact" and restored is not None and restored.value == value:
                continue  # the original value is within the bound
            drifted = known is not None and known.is_written and known.given == value
            wanted[setting.name] = _Wanted(value, "drift" if drifted else cause, setting)
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


def left_alone(policy: Policy, actual: Mapping[str, int], ledger: Mapping[str, Entry]) -> list[str]:
    """Return the sysctls that are left alone, because something else has changed them since."""
    named = {setting.name for setting in policy.sysctls}
    return [
        name
        for name in ledger
        if name in actual and not named & {name, SYSCTLS[name].partner} and not _is_ours(name, actual, ledger)
    ]


def _diff_group(
    names: list[str],
    policy: Policy,
    actual: Mapping[str, int],
    memory: Memory | None,
    wanted: Mapping[str, _Wanted],
    peak: Peak | None,
) -> Iterator[SetSysctl]:
    final = after_writing(actual, {name: wanted[name].value for name in names})
    # Restoring sysctls one by one is safe, unless it restores strict accounting.
    is_one = final.get(MODE) == STRICT or any(wanted[name].cause != "restore" for name in names)
    changes = []
    for name in write_order(names, actual=actual, final=final, memory=memory):
        value, why, setting = wanted[name]
        source, said = ("", "") if setting is None else (setting.source, setting.said)
        group = SYSCTLS[name].group if is_one else ""
        changes.append(SetSysctl(name, actual[name], value, why, source, group=group, said=said))
    refusal = refusal_of(changes, policy, actual, memory, peak)
    obstacle = None if refusal is None else Obstacle("refused", *refusal)
    yield from (change._replace(obstacle=obstacle) for change in changes)


def refusal_of(
    changes: Sequence[SetSysctl],
    policy: Policy,
    actual: Mapping[str, int],
    memory: Memory | None,
    peak: Peak | None,
) -> Refusal | None:
    """Return why none of these writes must be made on this host, or None."""
    if policy.force:
        return None
    asked = [change for change in changes if change.cause != "restore"]
    if memory is None:
        refusal = _NO_MEMINFO if any(map(_depends_on_memory, asked)) else None
    else:
        refusal = interlock(
            memory,
            actual=actual,
            final=after_writing(actual, {change.name: change.after for change in changes}),
            headroom_percent=policy.commit_headroom_percent,
            peak=peak if asked else None,
        )
    refusals = (guard(change.name, change.after, actual[change.name], memory) for change in asked)
    return refusal or next(filter(None, refusals), None)


def _depends_on_memory(change: SetSysctl) -> bool:
    """Return whether it depends on the memory of a host if a value is fatal for it."""
    if change.name == MODE:
        return change.after == STRICT
    return change.name in KNOBS or is_bound_by_host(change.name)


def _must_write(
    name: str, actual: Mapping[str, int], wanted: Mapping[str, _Wanted], ledger: Mapping[str, Entry]
) -> bool:
    value = wanted[name].value
    partner = wanted.get(SYSCTLS[name].partner)
    if value == 0 and partner is not None and partner.value != 0:
        return False  # writing the partner zeroes this one
    known = ledger.get(name)
    is_granted = known is not None and known.given == value and known.made == actual[name]
    return actual[name] != value and not is_granted


def _is_ours(name: str, actual: Mapping[str, int], ledger: Mapping[str, Entry]) -> bool:
    """Return whether oomguard set it, and nothing else its partner: writing this one would zero that."""
    partner = SYSCTLS[name].partner
    beside = actual.get(partner, 0)
    is_foreign = beside != 0 and not (partner in ledger and ledger[partner].is_ours(beside))
    return ledger[name].is_ours(actual[name]) and not is_foreign
