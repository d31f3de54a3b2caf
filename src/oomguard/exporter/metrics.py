"""The metrics, from the status file and from /proc.

The number of series does not grow with processes, and is bounded for rules: see docs/metrics.md.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import NamedTuple, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from oomguard.core.choices import Cause, Result
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import meminfo_fields, observe_kills, read_sysctl
from oomguard.report.status_file import RuleStatus, StatusFile, SysctlStatus

OOM_SCORE_ADJ = "oom_score_adj"

ALWAYS_SHOWN = ("vm.overcommit_memory", "vm.panic_on_oom")
"""Sysctls shown even if the policy does not set them: CommitLimit has no meaning without the mode."""

_LABEL_LENGTH = 200
_KIB = 1024


class _Row(NamedTuple):
    """A metric without labels: its name, its help text, and how to get its value from the status file."""

    name: str
    help: str
    value: Callable[[StatusFile], float]


_GAUGES = (
    _Row("oomguard_start_time_seconds", "When the daemon started.", lambda s: s.started_at),
    _Row(
        "oomguard_status_written_timestamp_seconds",
        "When the daemon last wrote its status file.",
        lambda s: s.written_at,
    ),
    _Row(
        "oomguard_resync_interval_seconds",
        "Maximum time between two passes.",
        lambda s: s.policy.resync_interval_seconds,
    ),
    _Row(
        "oomguard_policy_loaded_timestamp_seconds",
        "When the policy in force was loaded.",
        lambda s: s.policy.loaded_at,
    ),
    _Row(
        "oomguard_policy_rejected", "1 if the policy on disk is not valid.", lambda s: bool(s.policy.errors)
    ),
    _Row("oomguard_policy_rules", "Rules in the policy in force.", lambda s: s.policy.rules),
    _Row("oomguard_held_processes", "Processes that a rule matches.", lambda s: s.processes_held),
    _Row(
        "oomguard_contended_values", "Values that something else keeps rewriting.", lambda s: len(s.contended)
    ),
    _Row("oomguard_watched_values", "Values watched for changes by other programs.", lambda s: s.watches),
    _Row("oomguard_process_events", "1 if process events arrive.", lambda s: s.events),
    _Row("oomguard_throttled", "1 while the daemon pauses at its CPU limit.", lambda s: s.throttled),
    _Row(
        "oomguard_memory_short",
        "1 while memory of the host, not of a cgroup, is running out.",
        lambda s: s.pressure.short,
    ),
    _Row(
        "oomguard_limitations", "What oomguard cannot do, see or write on this host.", lambda s: len(s.limits)
    ),
)

_COUNTERS = (
    _Row("oomguard_passes", "Passes over all processes.", lambda s: s.passes),
    _Row("oomguard_event_losses", "Times that process events were lost.", lambda s: s.losses),
    _Row(
        "oomguard_pressure_episodes",
        "Times that tasks stalled for memory or it fell quickly, and no longer.",
        lambda s: s.pressure.episodes,
    ),
    _Row("oomguard_pressure_seconds", "How long those lasted in all.", lambda s: s.pressure.seconds),
    _Row("oomguard_log_entries_lost", "Log entries that could not be written.", lambda s: s.log_entries_lost),
)

_MEMINFO = (
    ("CommitLimit", "commit_limit", "Memory that may be promised to programs if vm.overcommit_memory is 2."),
    ("Committed_AS", "committed", "Memory promised to programs."),
    ("MemTotal", "total", "RAM."),
    ("MemAvailable", "available", "RAM available to programs without swapping."),
    ("SwapTotal", "swap_total", "Swap."),
    ("SwapFree", "swap_free", "Free swap."),
)
"""The figures of /proc/meminfo that are metrics, with their names and help texts."""


def daemon_metrics(status: StatusFile, *, rule_limit: int) -> Iterator[Metric]:
    """Yield the metrics from the status file of a running daemon."""
    yield InfoMetricFamily("oomguard_build", "Version of the daemon.", value={"version": status.version})
    yield InfoMetricFamily(
        "oomguard_policy", "SHA-256 of the policy in force.", value={"digest": status.policy.digest}
    )
    for row in _GAUGES:
        yield GaugeMetricFamily(row.name, row.help, value=float(row.value(status)))
    for row in _COUNTERS:
        yield CounterMetricFamily(row.name, row.help, value=float(row.value(status)))
    yield InfoMetricFamily(
        "oomguard_next_victim",
        "The rule of the process that the kernel would kill next, empty for none.",
        value={"rule": _rule_label(status.pressure.next_rule)},
    )
    yield from _changes(status)
    yield from _rules(status.rules, rule_limit)
    yield _kills(status, rule_limit)


def host_metrics(procfs: Procfs, declared: Sequence[SysctlStatus]) -> Iterator[Metric]:
    """Yield the host's metrics from /proc, except those that cannot be read; and which it should have.

    The kernel may lack them, and lxcfs, which serves meminfo in a container, may have ended.
    """
    actual: dict[str, int | None] = dict.fromkeys(sorted({*ALWAYS_SHOWN, *(row.name for row in declared)}))
    for name in actual:
        with suppress(OSError):
            actual[name] = read_sysctl(procfs, name)
    if declared:
        yield _labelled(
            GaugeMetricFamily,
            "oomguard_sysctl_desired",
            "Value that the policy sets, as far as the kernel grants it, or that it leaves alone.",
            ("sysctl",),
            {(row.name,): row.desired(actual[row.name]) for row in declared},
        )
    yield _labelled(
        GaugeMetricFamily,
        "oomguard_sysctl_actual",
        "Value in the kernel.",
        ("sysctl",),
        {(name,): value for name, value in actual.items() if value is not None},
    )
    meminfo: dict[bytes, int] = {}
    with suppress(OSError, ValueError, IndexError):  # the latter two: what no kernel writes
        meminfo = meminfo_fields(procfs.read("meminfo"))
    for key, name, help_text in _MEMINFO:
        if (found := meminfo.get(key.encode())) is not None:
            yield GaugeMetricFamily(
                f"oomguard_memory_{name}_bytes", f"{help_text} {key} of /proc/meminfo.", value=found * _KIB
            )
    kills = None
    with suppress(OSError):
        kills = observe_kills(procfs)
    if kills is not None:
        yield CounterMetricFamily(
            "oomguard_kernel_oom_kills",
            "Processes that the OOM killer killed since boot, including those at a cgroup's limit.",
            value=kills,
        )


def up_metric(*, up: bool) -> Metric:
    """Return whether the daemon runs and its status can be read."""
    return GaugeMetricFamily(
        "oomguard_up", "1 if the daemon runs and its status file is current.", value=int(up)
    )


def _changes(status: StatusFile) -> Iterator[Metric]:
    """Yield how many changes had which result. Every series starts at 0, because rate() needs it."""
    targets = (OOM_SCORE_ADJ, "sysctl")
    adjustments: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(targets, get_args(Cause)), 0))
    failed = [result for result in get_args(Result) if result != "applied"]
    failures: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(targets, failed), 0))
    failing: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(targets, ("denied", "refused")), 0))
    declared = [row.name for row in status.sysctls]
    drift: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product((OOM_SCORE_ADJ, *declared)), 0))
    for change in status.changes:
        target = OOM_SCORE_ADJ if change.target == OOM_SCORE_ADJ else "sysctl"
        if change.result == "applied":
            adjustments[target, change.cause] += change.count_
        else:
            failures[target, change.result] += change.count_
        if change.cause == "drift":
            drift[change.target,] += change.count_
    for one in status.complaints:
        failing["sysctl" if one.subject in declared else OOM_SCORE_ADJ, one.result] += 1
    for name, help_text, labels, counts in (
        ("adjustments", "Values changed, by why oomguard checked them.", ("target", "cause"), adjustments),
        ("change_failures", "Changes not made, by reason.", ("target", "reason"), failures),
        ("drift", "Times that a watch reported a rewritten value.", ("target",), drift),
    ):
        yield _labelled(CounterMetricFamily, f"oomguard_{name}", help_text, labels, counts)
    yield _labelled(
        GaugeMetricFamily,
        "oomguard_failing_changes",
        "Kinds of changes that the last pass could not make, by reason.",
        ("target", "reason"),
        failing,
    )


def _rules(rules: Sequence[RuleStatus], limit: int) -> Iterator[Metric]:
    """Yield how many processes each rule matches, for the first `limit` rules that match any."""
    held: Counter[tuple[str, ...]] = Counter()
    for rule in rules[:limit]:
        # Two rules may have the same label, and a duplicate series makes Prometheus reject the scrape.
        held[_rule_label(rule.label), rule.value] += rule.processes
    yield _labelled(
        GaugeMetricFamily,
        "oomguard_rule_processes",
        "Processes that a rule matches, by rule and the oom_score_adj it sets.",
        ("rule", "value"),
        held,
    )
    yield GaugeMetricFamily(
        "oomguard_rules_without_series",
        "Rules in the status file beyond --rules, which have no series.",
        value=max(len(rules) - limit, 0),
    )


def _kills(status: StatusFile, limit: int) -> Metric:
    """Return the kills by rule, for `limit` rules. Every series starts at 0, because rate() needs it.

    Rules with kills come first, in the order of the status: which rules match changes, and no counter may
    fall.
    """
    labels = [row.rule for row in status.kills] + [rule.label for rule in status.rules]
    own = set([*dict.fromkeys(_rule_label(label) for label in labels if label)][:limit])
    counts: Counter[tuple[str, ...]] = Counter({("", "false"): 0, ("", "true"): 0})
    for rule in status.rules:
        if (label := _rule_label(rule.label)) in own:
            for protected in _may_protect(rule.value):
                counts[label, protected] += 0
    for row in status.kills:
        label = _rule_label(row.rule)
        counts[label if label in own else "", str(row.protected).lower()] += row.count_
    return _labelled(
        CounterMetricFamily,
        "oomguard_kernel_kills",
        "Processes that the kernel killed, by their rule and whether their oom_score_adj was below 0.",
        ("rule", "protected"),
        counts,
    )


def _may_protect(value: str) -> tuple[str, ...]:
    """Return as labels whether values under a rule are below 0: `keep` or a bound may allow both."""
    is_exact = value.removeprefix("-").isdecimal()
    return (str(value.startswith("-")).lower(),) if is_exact else ("false", "true")


def _rule_label(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"


def _labelled(
    family: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    help_text: str,
    labels: tuple[str, ...],
    values: Mapping[tuple[str, ...], float],
) -> Metric:
    made = family(name, help_text, labels=labels)
    for key, value in values.items():
        made.add_metric(key, value)
    return made
