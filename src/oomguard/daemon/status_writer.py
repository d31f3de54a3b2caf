"""The content of the status file, who may read it, and when it is replaced."""

import os
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from oomguard import __version__
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Identity
from oomguard.core.rule import Rule
from oomguard.core.text import printable
from oomguard.core.typed import NamedTuple
from oomguard.daemon.loop import Loop
from oomguard.kernel.hidepid import hides_processes, observe_privileged_group
from oomguard.kernel.procfs import Procfs
from oomguard.oom.kill import Kill
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder
from oomguard.report import status_file
from oomguard.report.reporter import Degradations, Reporter
from oomguard.report.status_file import Complaint

STATUS_SECONDS = 1.0
"""Minimum time between two replacements."""

_LONGEST_SECONDS = 10.0
_SHARE = 0.02
"""Of a CPU, what the file may take while it keeps changing, unless it takes 0.2 s or more."""

_RULES_LIMIT = 1000
"""Rules listed, those with most processes first."""

_STILL_RAISED_LIMIT = 1000
"""Listed processes that left a rule by their own doing. A user can have any number."""

_KILLS_LIMIT = 60
"""The last kills listed, of all uids."""


class Matched(NamedTuple):
    """What the rules of one policy match, and which changes cannot be made.

    `rule_of` has, by pid, the number of the rule in `rules`.
    """

    rules: Sequence[Rule]
    rule_of: Mapping[int, int]
    complaints: tuple[Complaint, ...]

    def rule(self, pid: int) -> Rule | None:
        """Return the rule that matches a process, or None."""
        number = self.rule_of.get(pid)
        return None if number is None else self.rules[number]


class StatusWriter:
    """Collects the status of the daemon, and writes it to the state folder."""

    def __init__(
        self,
        loop: Loop,
        folder: StateFolder,
        procfs: Procfs,
        identity: Identity,
        reporter: Reporter,
        degradations: Degradations,
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._procfs = procfs
        self._identity = identity
        self._reporter = reporter
        self._degradations = degradations
        self._started_at = time.time()
        self._mode = 0o600
        self._pause = STATUS_SECONDS
        self._is_unwritten = False
        """Whether the last write failed."""
        self._kills: list[status_file.LastKill] = []
        self.policy_loaded_at = self._started_at
        self.policy_error = ""
        """Why a newer policy was rejected, "" if none was."""
        self.passes = 0
        self.losses = 0
        """How often events were lost."""
        self.committed_peak_kib = 0
        """The largest Committed_AS that a pass has seen."""

    def collect(
        self,
        reconciler: Reconciler,
        matched: Matched,
        *,
        has_events: bool = True,
        watches: int = 0,
        pressure: status_file.PressureStatus = status_file.NO_PRESSURE,
        is_throttled: bool = False,
        passing_limits: Sequence[str] = (),
    ) -> status_file.StatusFile:
        """Return the status. `passing_limits` are those that may end."""
        policy, reporter = reconciler.policy, self._reporter
        matching = Counter(matched.rule_of.values()).most_common(_RULES_LIMIT)
        return status_file.StatusFile(
            format=status_file.FORMAT,
            version=__version__,
            pid=self._identity.pid,
            start_time_ticks=self._identity.start_time_ticks,
            started_at=self._started_at,
            written_at=time.time(),
            written_monotonic=time.monotonic(),
            policy=self._policy_status(policy),
            sysctls=tuple(
                [
                    status_file.SysctlStatus(
                        one.name, one.value, _granted(one, reconciler.ledger), one.source, one.kind, one.said
                    )
                    for one in policy.sysctls
                ]
            ),
            rules=tuple([_rule_status(matched.rules[number], count) for number, count in sorted(matching)]),
            processes_held=len(matched.rule_of),
            outcomes=reporter.counts,
            changes=tuple(
                [status_file.ChangeCount(*key, count) for key, count in sorted(reporter.changes.items())]
            ),
            complaints=matched.complaints,
            kills=tuple([status_file.KillCount(*key, count) for key, count in reporter.kills.counts.items()]),
            contended=(*map(_contended_value, reconciler.backoff.contended()),),
            limits=(*self._degradations.texts, *passing_limits),
            still_raised=(*_still_raised(reconciler),),
            recent=tuple(reporter.recent),
            events=has_events,
            watches=watches,
            passes=self.passes,
            losses=self.losses,
            throttled=is_throttled,
            committed_peak_kib=self.committed_peak_kib,
            log_entries_lost=reporter.sink.lost,
            pressure=pressure,
            last_kills=tuple(self._kills),
        )

    def _policy_status(self, policy: Policy) -> status_file.PolicyStatus:
        return status_file.PolicyStatus(
            path=_absolute(policy.path),
            files=(*map(_absolute, policy.files),),
            digest=policy.digest,
            rules=len(policy.rules),
            loaded_at=self.policy_loaded_at,
            resync_interval_seconds=policy.resync_interval_seconds,
            errors=tuple(self.policy_error.splitlines()),
        )

    def take_kill(self, kill: Kill, rule: Rule | None) -> None:
        """Remember a kill.

        Few of each uid are kept, so a storm of one hides no other; one of many subordinate uids can. Whoever
        may read the file could see the process in /proc (choose_readers).
        """
        uid = -1 if kill.uid is None else kill.uid
        own = [one for one in self._kills if one.uid == uid]
        if len(own) >= status_file.KILLS_A_UID:
            self._kills.remove(own[0])
        elif len(self._kills) >= _KILLS_LIMIT:
            del self._kills[0]
        label = "" if rule is None else rule.label
        self._kills.append(
            status_file.LastKill(time.time(), kill.pid, printable(kill.comm), uid, kill.rss_kib or 0, label)
        )

    def request(self, now: float) -> None:
        """Write the file soon: something in it changed."""
        self._loop.set_earlier("status", now + self._pause)

    def took(self, seconds: float) -> None:
        """Note the CPU time that a replacement took: if much, the file is replaced less often."""
        self._pause = min(max(STATUS_SECONDS, seconds / _SHARE), _LONGEST_SECONDS)

    def write(self, status: status_file.StatusFile) -> None:
        """Replace the file."""
        try:
            self._folder.replace(status_file.STATUS_FILE, status_file.encode_status(status), mode=self._mode)
            if self._is_unwritten:
                self.request(time.monotonic())  # the file just written has the limit that no longer holds
            self._is_unwritten = False
            self._degradations.set("status")
        except OSError as error:
            limit = f"{self._folder.path}/{status_file.STATUS_FILE} cannot be written: {error.strerror}"
            self._is_unwritten = True
            self._degradations.set("status", limit)

    def remove(self) -> None:
        """Remove the file when the daemon stops."""
        with suppress(OSError):  # readers see by its pid that the daemon has stopped
            self._folder.remove(status_file.STATUS_FILE)

    def choose_readers(self) -> None:
        """Let those read the file who may see all processes in it."""
        group = observe_privileged_group(self._procfs)
        self._degradations.set("readers")
        if group is None:
            self._mode = 0o644
            return
        is_ours = group == os.getegid()
        self._mode = 0o640 if is_ours else 0o600
        if os.geteuid() != 0:
            return
        is_blind = hides_processes(self._procfs)
        if is_ours and not is_blind:
            return
        how, cure = f"hidepid= and gid={group}", f"Group={group}"
        if is_ours:  # the only value that exempts no group
            how, cure = "hidepid=ptraceable", "CapabilityBoundingSet=CAP_SYS_PTRACE"
        limit, end = f"only root can read {status_file.STATUS_FILE}", "lets that group read it, too"
        if is_blind:
            limit, end = "oomguard does not see most processes", "shows them"
        self._degradations.set(
            "readers", f"{limit}: /proc is mounted with {how} (systemctl edit oomguard: {cure} {end})"
        )


def _granted(setting: SysctlSetting, ledger: Ledger) -> int:
    """Return the value that the kernel set; it may differ from the one written."""
    entry = ledger.sysctls.get(setting.name)
    return setting.value if entry is None or entry.made is None else entry.made


def _rule_status(rule: Rule, count: int) -> status_file.RuleStatus:
    return status_file.RuleStatus(rule.number, rule.label, rule.source, str(rule.terms.value), count)


def _still_raised(reconciler: Reconciler) -> Iterator[status_file.StillRaised]:
    found = (
        status_file.StillRaised(pid, one.start_time_ticks, one.raised_by)
        for pid, one in reconciler.managed.known.items()
        if one.raised_by is not None and one.is_held
    )
    return islice(found, _STILL_RAISED_LIMIT)


def _contended_value(target: Hashable) -> status_file.ContendedValue:
    if isinstance(target, Identity):
        return status_file.ContendedValue("oom_score_adj", *target)
    return status_file.ContendedValue(str(target))


def _absolute(file: str) -> str:
    """Return the path of a policy file as it is for readers in any folder; `<stdin>` is none."""
    return printable(file if file.startswith("<") else os.path.abspath(file))
