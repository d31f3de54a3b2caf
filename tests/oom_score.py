"""/proc/PID/oom_score as the formula gives it, to compare the formula with the running kernel."""

from oomguard.oom.badness import CURRENT, Era

_PER_MILLE = 1000


def oom_score(points: int | None, total_pages: int, *, era: Era = CURRENT) -> int:
    """Return the /proc/PID/oom_score of a badness (fs/proc/base.c:proc_oom_score).

    The kernel always computes it relative to RAM and swap, whichever cgroup the process is in.
    """
    if points is None:
        return 0
    if era.is_per_mille:
        return points
    share = _divide(points * _PER_MILLE, max(total_pages, 1))
    return (_PER_MILLE + share) * 2 // 3 if era.least is None else share


def _divide(number: int, by: int) -> int:
    """Divide as C does, towards zero."""
    return number // by if number >= 0 else -(-number // by)
