"""The state of a daemon and its host, and the problems, one per line, wherever they are shown."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import Memory, Peak
from oomguard.core.text import counted, some_of, span
from oomguard.report.status_file import Complaint, StatusFile, SysctlStatus

_RULES = 5
"""Rules named whose processes were killed."""


class HostStatus(NamedTuple):
    """The status file, None if there is none, and the kernel's current values.

    `daemon` is the status file if the daemon runs. `damage`: why the file cannot be read. `policy_error`: why
    the policy cannot, if the sysctls are from there. `lock_holder`: the pid of a daemon without a status file
    that can be read, such as one that just started.
    """

    status: StatusFile | None
    daemon: StatusFile | None
    sysctls: list[tuple[SysctlStatus, int | None]]
    """Each with its current value; None if this kernel lacks it."""
    memory: Memory | None
    mode: int | None
    peak: Peak | None
    damage: str
    policy_error: OomguardError | None
    lock_holder: int | None

    def is_as_wanted(self, now: float) -> bool:
        """Return whether the daemon works with the policy on disk, and everything is as it wants."""
        status = self.daemon
        return (
            status is not None
            and not status.is_overdue(now)
            and not (status.policy.errors or status.complaints or status.contended)
            and all(
                actual is not None and (row.is_met(actual) or actual == row.granted)
                for row, actual in self.sysctls
            )
        )


def problems(status: StatusFile, now: float) -> Iterator[tuple[str, str]]:
    """Yield the problems of the daemon or its policy, one per line, each with its style.

    `now` is time.monotonic().
    """
    if status.is_overdue(now):
        age = span(now - status.written_monotonic)
        yield f"it has not written its status for {age}: it hangs", "red"
    faults = status.policy.errors
    if faults:
        yield "the policy on disk is not valid; the previous one stays in force:", "red"
        for fault in faults:
            yield f"  {fault}", "red"
    if kills := status.kills:
        by_rule = Counter[str]()
        for row in kills:
            by_rule[row.rule] += row.count_
        each = [f"{count} by {rule or 'no rule'}" for rule, count in by_rule.most_common()]
        of = f", matched: {some_of(each, _RULES, 'more rules')}"
        if len(by_rule) == 1:
            of = f" matched by {kills[0].rule}" if kills[0].rule else " that no rule matches"
        is_grave = any(row.protected for row in kills)
        killed = counted(by_rule.total(), "process", "es")
        text = f"since oomguard started, the kernel killed {killed}{of}; see oomguard postmortem"
        yield text, "red" if is_grave else "yellow"
    if status.throttled:
        yield "throttled at its CPU limit: new processes get their values later", "yellow"
    for limit in status.limits:
        yield f"limited: {limit}", "yellow"
    names = [row.target for row in status.contended]
    for name in sorted(set(names)):
        times = f" of {counted(names.count(name), 'process', 'es')}" if name == "oom_score_adj" else ""
        yield f"contended: something else keeps rewriting {name}{times}", "yellow"


def complaints(status: StatusFile) -> list[list[Complaint]]:
    """Return the changes that cannot be made; sysctls that are refused together are one group."""
    names = {row.name for row in status.sysctls}
    groups: dict[object, list[Complaint]] = {}
    for number, one in enumerate(status.complaints):
        key = (one.result, one.reason, one.hint) if one.subject in names else number
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def complaint(group: list[Complaint]) -> str:
    """Return a group of complaints as one sentence."""
    first = group[0]
    changes = ", ".join(f"{one.subject} → {one.wanted}" for one in group)
    return f"{first.result}: {changes}: {first.reason} ({', '.join(one.by for one in group)})"
