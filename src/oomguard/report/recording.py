"""The content of the flight recorder, for `oomguard history`: memory over time, and what grew."""

from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.core.sample import NOTICED_KIB, growth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oomguard.core.sample import Growth, Sample

_STEPS = "▁▂▃▄▅▆▇█"


class Course(NamedTuple):
    """How one process grew, with its memory at equal intervals, 0 where no sample has it."""

    growth: "Growth"
    kib: tuple[int, ...]


def condensed(samples: "Sequence[Sample]", rows: int) -> "list[Sample]":
    """Return some samples of the host: from equal parts of the time, those with the least memory left."""
    parts = [part for part in _parts([one for one in samples if not one.cgroup], rows) if part]
    return [min(part, key=lambda one: one.left.available_kib) for part in parts]


def courses(samples: "Sequence[Sample]", *, cells: int) -> list[Course]:
    """Return how each process grew until its last sample, those that grew most first."""
    parts = _parts(samples, cells)
    found = []
    for grown in growth(samples, gone=True):
        held = (
            [one.held_kib for sample in part for one in sample.holders if one.is_same(grown.holder)]
            for part in parts
        )
        found.append(Course(grown, tuple(max(sizes, default=0) for sizes in held)))
    return found


def moment(sample: "Sample", amount: "Callable[[int], str]") -> tuple[str, ...]:
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


def is_noticed(grown: "Growth") -> bool:
    """Return whether growth is worth a row: at least 1 MiB, and a hundredth of the process's memory."""
    return grown.kib >= max(NOTICED_KIB, grown.holder.held_kib / 100)


def sparkline(values: "Sequence[int]") -> str:
    """Return values as a row of bars, a blank for 0."""
    most = max(values, default=0)
    return "".join(_STEPS[(value * len(_STEPS) - 1) // most] if value else " " for value in values)


def recording_document(samples: "Sequence[Sample]") -> list[dict[str, Any]]:
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


def _parts(samples: "Sequence[Sample]", count: int) -> "list[list[Sample]]":
    """Divide samples into parts of equal length in time."""
    parts: list[list[Sample]] = [[] for _ in range(count)]
    if samples:
        begin, end = samples[0].at, samples[-1].at
        for sample in samples:
            place = int((sample.at - begin) / (end - begin) * count) if end > begin else count - 1
            parts[min(max(place, 0), count - 1)].append(sample)
    return parts
