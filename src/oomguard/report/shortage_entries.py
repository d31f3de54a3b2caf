"""Entries about memory that runs out, before anything is killed."""

from collections.abc import Sequence

from oomguard.core.overcommit import Memory
from oomguard.core.policy import PressureLimit
from oomguard.core.sample import NOTICED_KIB, Growth, Holder, Left, Sample
from oomguard.core.text import kib, span
from oomguard.report.events import COMMIT_LIMIT_NEAR, MEMORY_RECOVERED, MEMORY_SHORT, LogEntry


def short_entry(
    sample: Sample, victim: Holder | None, grown: Growth | None, stalled: PressureLimit | None
) -> LogEntry:
    """Return the warning that memory is short.

    `victim` is who would be killed next, and `grown` how that has grown, None if unknown; `stalled` is the
    limit that stalls reached, None if none did.
    """
    fields = {"OOMGUARD_AVAILABLE_KIB": str(sample.left.available_kib)}
    where = f" in {sample.cgroup}" if sample.cgroup else ""
    if sample.cgroup:
        fields["OOMGUARD_MEMCG"] = sample.cgroup
    why, percent = "", sample.stalled_percent or 0.0
    if stalled is not None and percent < stalled.some_percent:  # the kernel's average rises slowly
        why = f"tasks stalled over {stalled.some_percent} % of {stalled.over_seconds} s, "
    elif stalled is not None:
        why = f"tasks stalled {percent:.0f} % of the last 10 s, "
        fields["OOMGUARD_STALLED_PERCENT"] = f"{percent:.0f}"
    message = f"memory is running out{where}: {why}{remaining(sample.left)}"
    if victim is not None:
        fields |= {
            "OBJECT_PID": str(victim.pid),
            "OOMGUARD_COMM": victim.comm,
            "OOMGUARD_OOM_SCORE_ADJ": str(victim.oom_score_adj),
            "OOMGUARD_RSS_KIB": str(victim.rss_kib),
        }
        if victim.rule:
            fields["OOMGUARD_RULE"] = victim.rule
        parts = [kib(victim.held_kib)]
        if grown is not None and grown.kib >= NOTICED_KIB:
            parts.append(f"+{kib(grown.kib)} in {span(grown.seconds)}")
        parts.append(f"oom_score_adj {victim.oom_score_adj}")
        if victim.rule:
            parts.append(f"rule {victim.rule}")
        message += f"; the kernel would kill {victim.label} next ({', '.join(parts)})"
    return LogEntry(MEMORY_SHORT, message, fields)


def remaining(left: Left) -> str:
    """Return what is left: `212 MiB available, swap full`."""
    text = f"{kib(left.available_kib)} available"
    if not left.swap_total_kib:
        return f"{text}, no swap"
    if left.swap_kib * 100 < left.swap_total_kib:
        return f"{text}, swap full"
    return f"{text}, {kib(left.swap_kib)} of swap free"


def over_entry(lowest: Sample, seconds: float, killed: Sequence[str]) -> LogEntry:
    """Return the entry for the end of an episode: how long it was, the least memory, and who was killed."""
    where = f" in {lowest.cgroup}" if lowest.cgroup else ""
    ended = f"the kernel killed {', '.join(killed)}" if killed else "nothing was killed"
    return LogEntry(
        MEMORY_RECOVERED,
        f"memory is no longer short{where}, after {span(seconds)}: {ended}; "
        f"at the lowest, {remaining(lowest.left)}",
        {"OOMGUARD_SECONDS": f"{seconds:.0f}", "OOMGUARD_AVAILABLE_KIB": str(lowest.left.available_kib)},
    )


def commit_limit_entry(memory: Memory) -> LogEntry:
    """Return the warning that nearly all is promised that may be."""
    percent = memory.committed_kib * 100 // max(memory.commit_limit_kib, 1)
    return LogEntry(
        COMMIT_LIMIT_NEAR,
        f"{kib(memory.committed_kib)} of {kib(memory.commit_limit_kib)} are promised ({percent} %):"
        " at the limit, every allocation fails, and nothing is killed",
        {"OOMGUARD_COMMITTED_KIB": str(memory.committed_kib)},
    )


def grew(grown: Growth) -> str:
    """Return how a process grew: `it grew from 0.7 GiB to 2.1 GiB in 6 minutes`; "" if it did not."""
    if grown.kib < NOTICED_KIB:
        return ""
    return f"it grew from {kib(grown.before_kib)} to {kib(grown.holder.held_kib)} in {span(grown.seconds)}"
