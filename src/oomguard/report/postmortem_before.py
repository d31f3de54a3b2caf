"""What the flight recorder has about the minutes before a kill: what grew, and how much memory was left."""

from collections.abc import Iterator, Sequence
from typing import Any

from oomguard.core.sample import NOTICED_KIB, Growth, Sample, growth
from oomguard.core.text import kib, printable, span
from oomguard.oom.log_time import moment_of
from oomguard.oom.report import Report


def course_of(report: Report, samples: Sequence[Sample]) -> Iterator[str]:
    """Yield what grew most, how the victim grew, and how much was left."""
    found = grown(report, samples)
    killed = {kill.pid for kill in report.kills}
    shown = found[:1] + [one for one in found[1:] if one.holder.pid in killed][:1]
    parts = [
        f"{one.holder.label} grew from {kib(one.before_kib)} to {kib(one.holder.held_kib)}" for one in shown
    ]
    left = left_before(report, samples)
    if left and left[0] - left[-1] >= NOTICED_KIB:
        what = "what the cgroup had left" if report.constraint == "memcg" else "MemAvailable"
        parts.append(f"{what} fell from {kib(left[0])} to {kib(left[-1])}")
    if parts:
        yield f"In the {span(_seconds(report, samples))} before, {'; '.join(parts)}."


def before_document(report: Report, samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Return the same for JSON, with everything that grew; None if nothing was recorded."""
    if not samples:
        return None
    left = left_before(report, samples)
    return {
        "seconds": round(_seconds(report, samples), 3),
        "available_bytes": [left[0] * 1024, left[-1] * 1024] if left else None,
        "grew": [
            {
                "pid": one.holder.pid,
                "comm": one.holder.comm,
                "from_bytes": one.before_kib * 1024,
                "to_bytes": one.holder.held_kib * 1024,
            }
            for one in grown(report, samples)
        ],
    }


def grown(report: Report, samples: Sequence[Sample]) -> list[Growth]:
    """Return how the processes that could be killed grew until the kill, those that grew most first."""
    named = {task.pid: printable(task.comm) for task in report.tasks}
    named |= {kill.pid: printable(kill.comm) for kill in report.kills}
    is_whole = bool(report.tasks) or report.constraint == "memcg"
    return [
        one
        for one in growth(reversed(until_kill(report, samples)))
        if one.kib >= NOTICED_KIB
        and named.get(one.holder.pid, "" if is_whole else one.holder.comm) == one.holder.comm
    ]


def left_before(report: Report, samples: Sequence[Sample]) -> list[int]:
    """Return how much was left of what ran out, in KiB, at each sample that has it."""
    return [one.left.available_kib for one in samples if is_of_same(report, one)]


def is_of_same(report: Report, sample: Sample) -> bool:
    """Return whether a sample has what was left of that which ran out: of the host, or of a cgroup."""
    return sample.cgroup == (printable(report.oom_memcg) if report.constraint == "memcg" else "")


def _seconds(report: Report, samples: Sequence[Sample]) -> float:
    return (moment_of(report.when) or samples[-1].at) - samples[0].at


def until_kill(report: Report, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples, and one of the kill itself: the kernel prints how large its victims were."""
    if not samples:
        return []
    last, sizes = samples[-1], {kill.pid: kill.rss_kib or 0 for kill in report.kills}
    holders = tuple(one._replace(rss_kib=max(one.rss_kib, sizes.get(one.pid, 0))) for one in last.holders)
    seconds = _seconds(report, samples)
    at, booted = samples[0].at + seconds, samples[0].booted + seconds
    return [*samples, last._replace(at=at, booted=booted, holders=holders)]
