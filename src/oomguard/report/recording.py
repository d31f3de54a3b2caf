"""The content of the flight recorder, for `oomguard history`: memory over time, and what grew."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from oomguard.core.sample import NOTICED_KIB, Growth, Holder, Sample, growth
from oomguard.core.text import counted, kib, legible, some_of
from oomguard.report.cgroup_title import cgroup_title

_STEPS = "▁▂▃▄▅▆▇█"
_ONCE = 3
"""Processes named that only one sample has."""


class Grown(NamedTuple):
    """Growth worth a row, most first: of processes in several samples, and of those in only one."""

    seen_often: Sequence[Growth]
    seen_once: Sequence[Growth]


def condensed(samples: Sequence[Sample], rows: int) -> list[Sample]:
    """Return some samples: from equal parts of the time, those with the least memory left."""
    return [min(part, key=_share_left) for part in _parts(samples, rows) if part]


def of_host(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that show what is left of the host, not of a cgroup."""
    return [one for one in samples if not one.cgroup]


def headline(samples: Sequence[Sample]) -> str:
    """Return the lowest amount that was left, and when."""
    lowest = min(of_host(samples) or samples, key=_share_left)
    place = f" in {legible(lowest.cgroup)}" if lowest.cgroup else ""
    return f"At the lowest, {kib(lowest.left.available_kib)} were available{place}, at {clock(lowest)}."


def extent(samples: Sequence[Sample]) -> str:
    """Return from when to when the samples are, how many, and of how many processes."""
    processes = {holder[:2] for sample in samples for holder in sample.holders}
    first, last = clock(samples[0]), clock(samples[-1])
    if first[:10] == last[:10]:
        last = last[11:]
    counts = f"{counted(len(samples), 'sample')} of {counted(len(processes), 'process', 'es')}"
    return f"{first} to {last}, {counts}" if samples[1:] else f"{first}, {counts}"


def what_grew(samples: Sequence[Sample]) -> Grown:
    """Return what grew until its last sample, by at least 1 MiB and a hundredth of its memory."""
    seen = Counter(holder[:2] for sample in samples for holder in sample.holders)
    found = [
        one
        for one in growth(reversed(samples), gone=True)
        if one.kib >= max(NOTICED_KIB, one.holder.held_kib / 100)
    ]
    often = [one for one in found if seen[one.holder[:2]] > 1]
    once = [one for one in found if seen[one.holder[:2]] == 1]
    return Grown(often, once)


def seen_once(grown: Grown) -> str:
    """Return what only one sample has as a sentence, "" if there is none."""
    names = [f"{one.holder.label} ({kib(one.holder.held_kib)})" for one in grown.seen_once]
    return f"In only one sample: {some_of(names, _ONCE)}." if names else ""


def course(samples: Sequence[Sample], process: Holder, *, cells: int) -> list[int]:
    """Return the memory of a process at equal intervals, 0 before its first sample and after its last."""
    held = [
        max((one.held_kib for sample in part for one in sample.holders if one.is_same(process)), default=0)
        for part in _parts(samples, cells)
    ]
    last = max((at for at, size in enumerate(held) if size), default=0)
    for at in range(1, last):
        held[at] = held[at] or held[at - 1]  # not among the largest, or no sample
    return held


def moment(sample: Sample, amount: Callable[[int], str]) -> tuple[str, ...]:
    """Return what was left at one moment, promised and stalled, and the largest process with its memory."""
    left, first = sample.left, sample.holders[0] if sample.holders else None
    return (
        amount(left.available_kib),
        amount(left.swap_kib) if left.swap_total_kib else "none",
        amount(sample.committed_kib),
        "" if sample.stalled_percent is None else f"{sample.stalled_percent:.0f} %",
        "" if first is None else first.label,
        "" if first is None else amount(first.held_kib),
    )


def clock(sample: Sample, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return when a sample was taken, in local time."""
    return datetime.fromtimestamp(sample.at).astimezone().strftime(form)


def clock_form(samples: Sequence[Sample]) -> str:
    """Return how to write when samples were taken, in a table: without the date if that was on one day."""
    return "%H:%M:%S" if len({clock(sample, "%x") for sample in samples}) == 1 else "%m-%d %H:%M"


def shown_by(sample: Sample) -> str:
    """Return what a sample shows: the host, or a cgroup by its short name."""
    return cgroup_title(sample.cgroup) if sample.cgroup else "the host"


def sparkline(values: Sequence[int]) -> str:
    """Return values as a row of bars, a blank for 0."""
    most = max(values, default=0)
    return "".join(_STEPS[(value * len(_STEPS) - 1) // most] if value else " " for value in values)


def recording_document(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return all samples, for JSON."""
    return [
        {
            **sample._asdict(),
            "left": sample.left._asdict(),
            "holders": [{**one._asdict(), "rule": one.rule or None} for one in sample.holders],
            "cgroup": sample.cgroup or None,
        }
        for sample in samples
    ]


def _share_left(sample: Sample) -> float:
    return sample.left.available_kib / max(sample.left.total_kib, 1)


def _parts(samples: Sequence[Sample], count: int) -> list[list[Sample]]:
    """Divide samples into parts of equal length in time."""
    parts: list[list[Sample]] = [[] for _ in range(count)]
    if samples:
        begin, end = samples[0].at, samples[-1].at
        for sample in samples:
            place = int((sample.at - begin) / (end - begin) * count) if end > begin else count - 1
            parts[min(max(place, 0), count - 1)].append(sample)
    return parts
