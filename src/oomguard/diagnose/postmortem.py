"""The reports of a log examined, and what would have happened under another policy."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import starmap

from oomguard.core.errors import OomguardError
from oomguard.core.policy import Policy
from oomguard.core.sample import Sample, before
from oomguard.core.text import counted
from oomguard.diagnose.kernel_logs import KernelLog
from oomguard.oom.backtest import Backtester
from oomguard.oom.log_reader import OomLog
from oomguard.oom.log_time import moment_of
from oomguard.oom.postmortem import examine
from oomguard.oom.report import Report
from oomguard.reconcile.flight_recorder import read_samples
from oomguard.report.postmortem import Incident, ValueOrigin

_BATCH, _TASKS_A_REPORT = 500, 20
"""A query is about so many reports; twenty rows count as one, as they take as much memory."""


class Examiner:
    """Examines the reports of one log. `log` counts what else is in it, once all reports are read.

    `state_dir` has the flight recorder of this host. Reports have up to `raw_limit` characters of the log.
    """

    def __init__(
        self,
        source: KernelLog,
        policy: Policy | None,
        policy_file: str,
        state_dir: str,
        *,
        raw_limit: int,
    ) -> None:
        self.log = OomLog(raw_limit=raw_limit)
        self.source = source
        self._backtester = None if policy is None else Backtester(policy)
        self._policy_file = policy_file
        self._samples: list[Sample] = []
        if source.is_of_this_host:
            with suppress(OSError, OomguardError):  # only root can read it
                self._samples = read_samples(state_dir) or []

    def reports(self, only: int | None) -> Iterator[tuple[int, Report]]:
        """Yield each report with its number, or `only` one; OomguardError: it is not there, and why."""
        number = 0
        for number, report in enumerate(self.source.reports(self.log), 1):
            if only is None or number == only:
                yield number, report
        if only is not None and not 1 <= only <= number:
            if self.source.damage is not None:
                raise self.source.damage
            found = f"{counted(number, 'report')}; the first is 1" if number else "no report"
            raise OomguardError(f"no report {only}", hint=f"the log has {found}")

    def examine(self, number: int, report: Report, origin: ValueOrigin | None = None) -> Incident:
        """Return everything known about a report."""
        finding = examine(report)
        backtest = None if self._backtester is None else self._backtester.replay(finding)
        return Incident(number, finding, origin, backtest, self._policy_file, self._before(report))

    def _before(self, report: Report) -> list[Sample]:
        """Return what was recorded of the minutes before a report."""
        at = moment_of(report.when) if self._samples else None
        if at is None or at < self._samples[0].at:
            return []
        return before(self._samples, at, report.uptime_seconds)

    def examine_wholly(self, numbered: Iterable[tuple[int, Report]]) -> Iterator[Incident]:
        """Yield everything known about the reports, with the values that oomguard set, from the journal."""
        if not self.source.is_journal:
            yield from starmap(self.examine, numbered)
            return
        numbered = iter(numbered)
        while batch := [*_until_full(numbered)]:
            origins = self.source.value_origins([report for _, report in batch])
            for (number, report), origin in zip(batch, origins, strict=True):
                yield self.examine(number, report, origin)


def _until_full(numbered: Iterator[tuple[int, Report]]) -> Iterator[tuple[int, Report]]:
    """Yield the next reports, as many as fit one query to the journal."""
    size = 0
    for one in numbered:
        yield one
        size += 1 + len(one[1].tasks) // _TASKS_A_REPORT
        if size >= _BATCH:
            return
