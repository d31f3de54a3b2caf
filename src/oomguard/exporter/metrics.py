"""What is measured: one row a metric, from the status file and from /proc.

No label grows with the number of processes or of rules: docs/metrics.md has the bounds.
"""

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from oomguard.core.plan import Cause, Result
from oomguard.kernel.sysctl import meminfo_fields, observe_kills, read_sysctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from oomguard.kernel.procfs import Procfs
    from oomguard.report.status_document import Document

OOM_SCORE_ADJ = "oom_score_adj"

ALWAYS_SHOWN = ("vm.overcommit_memory", "vm.panic_on_oom")
"""Sysctls shown whether or not the policy has them: without the mode, CommitLimit means nothing."""

_LABEL_LENGTH = 200
_KIB = 1024


class _Row(NamedTuple):
    """A metric without labels: its name, what it tells, and its value in the status file."""

    name: str
    help: str
    value: "Callable[[Document], float]"


_GAUGES = (
    _Row("oomguard_start_time_seconds", "When the daemon was started.", lambda d: d["started_at"]),
    _Row(
        "oomguard_status_written_timestamp_seconds",
        "When the daemon last wrote its status file; at least once in a resync interval.",
        lambda d: d["written_at"],
    ),
    _Row(
        "oomguard_resync_interval_seconds",
        "Longest time between two passes over all processes.",
        lambda d: d["policy"]["resync_interval_seconds"],
    ),
    _Row(
        "oomguard_policy_loaded_timestamp_seconds",
        "When the policy in force was loaded.",
        lambda d: d["policy"]["loaded_at"],
    ),
    _Row(
        "oomguard_policy_rejected",
        "1 if the policy was edited and is not valid, so that the one before stays in force.",
        lambda d: bool(d["policy"]["errors"]),
    ),
    _Row("oomguard_policy_rules", "Rules of the policy in force.", lambda d: d["policy"]["rules"]),
    _Row("oomguard_held_processes", "Processes that a rule holds.", lambda d: d["processes_held"]),
    _Row(
        "oomguard_contended_values",
        "Values corrected less often, because something else keeps rewriting them.",
        lambda d: len(d["contended"]),
    ),
    _Row("oomguard_watched_values", "Values watched for foreign writes.", lambda d: d["watches"]),
    _Row(
        "oomguard_process_events",
        "1 if process events are relied on, 0 if new processes are found by looking.",
        lambda d: d["events"],
    ),
    _Row(
        "oomguard_throttled",
        "1 while the daemon pauses at its CPU limit, so that new processes get their values later.",
        lambda d: d["throttled"],
    ),
    _Row(
        "oomguard_limitations",
        "Things the daemon cannot do on this host; `oomguard status` names them.",
        lambda d: len(d["limits"]),
    ),
)

_COUNTERS = (
    _Row("oomguard_passes", "Passes over all processes.", lambda d: d["passes"]),
    _Row(
        "oomguard_event_losses",
        "Times that events were lost; each was followed by a pass.",
        lambda d: d["losses"],
    ),
    _Row("oomguard_log_entries_lost", "Log entries that nobody took.", lambda d: d["log_entries_lost"]),
)


def daemon_metrics(document: "Document", *, rule_limit: int) -> "Iterator[Metric]":
    """Return what the status file of a running daemon says."""
    yield InfoMetricFamily("oomguard_build", "Version of the daemon.", value={"version": document["version"]})
    yield InfoMetricFamily(
        "oomguard_policy",
        "SHA-256 of the policy in force: of the names and contents of its files.",
        value={"digest": document["policy"]["digest"]},
    )
    for row in _GAUGES:
        yield GaugeMetricFamily(row.name, row.help, value=float(row.value(document)))
    for row in _COUNTERS:
        yield CounterMetricFamily(row.name, row.help, value=float(row.value(document)))
    yield _labelled(
        GaugeMetricFamily,
        "oomguard_sysctl_desired",
        "What the policy asks for, or as much of it as the kernel granted.",
        ("sysctl",),
        {(row["name"],): row["granted"] for row in document["sysctls"]},
    )
    yield from _changes(document)
    yield from _rules(document["rules"], rule_limit)
    yield _kills(document, rule_limit)


def host_metrics(procfs: "Procfs", declared: "Iterable[str]") -> "Iterator[Metric]":
    """Return what /proc says, with or without a daemon. What it does not have here is left out."""
    actual = {name: read_sysctl(procfs, name) for name in sorted({*ALWAYS_SHOWN, *declared})}
    yield _labelled(
        GaugeMetricFamily,
        "oomguard_sysctl_actual",
        "What the kernel has.",
        ("sysctl",),
        {(name,): value for name, value in actual.items() if value is not None},
    )
    meminfo = meminfo_fields(_read(procfs, "meminfo"))
    for key, name, help_text in (
        ("CommitLimit", "commit_limit", "What may be promised to programs, if vm.overcommit_memory is 2."),
        ("Committed_AS", "committed", "What is promised to programs."),
        ("MemTotal", "total", "RAM."),
        ("MemAvailable", "available", "RAM that programs could have without swapping."),
        ("SwapTotal", "swap_total", "Swap."),
        ("SwapFree", "swap_free", "Swap that is not used."),
    ):
        if (found := meminfo.get(key.encode())) is not None:
            yield GaugeMetricFamily(
                f"oomguard_memory_{name}_bytes", f"{help_text} {key} of /proc/meminfo.", value=found * _KIB
            )
    if (kills := observe_kills(procfs)) is not None:
        yield CounterMetricFamily(
            "oomguard_kernel_oom_kills",
            "Processes killed by the kernel's OOM killer since boot, for a cgroup's limit included.",
            value=kills,
        )


def up_metric(*, up: bool) -> "Metric":
    """Return whether a daemon runs whose status can be read."""
    return GaugeMetricFamily(
        "oomguard_up", "1 if a daemon keeps the policy, and its status file is current.", value=int(up)
    )


def _changes(document: "Document") -> "Iterator[Metric]":
    """Return what became of changes. Every series is there from the start: a rate needs its zero."""
    targets = (OOM_SCORE_ADJ, "sysctl")
    adjustments: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(targets, get_args(Cause)), 0))
    failed = [result for result in get_args(Result) if result != "applied"]
    failures: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(targets, failed), 0))
    declared = [row["name"] for row in document["sysctls"]]
    drift: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product((OOM_SCORE_ADJ, *declared)), 0))
    for change in document["changes"]:
        target = OOM_SCORE_ADJ if change["target"] == OOM_SCORE_ADJ else "sysctl"
        if change["result"] == "applied":
            adjustments[target, change["cause"]] += change["count"]
        else:
            failures[target, change["result"]] += change["count"]
        if change["cause"] == "drift":
            drift[change["target"],] += change["count"]
    yield _labelled(
        CounterMetricFamily,
        "oomguard_adjustments",
        "Values that were changed, by what made oomguard look.",
        ("target", "cause"),
        adjustments,
    )
    yield _labelled(
        CounterMetricFamily,
        "oomguard_change_failures",
        "Changes that were not made: denied by the kernel, refused as unsafe, contended, or too late.",
        ("target", "reason"),
        failures,
    )
    yield _labelled(
        CounterMetricFamily,
        "oomguard_drift",
        "Times that something else was seen to rewrite a kept value.",
        ("target",),
        drift,
    )


def _rules(rules: "list[dict[str, Any]]", limit: int) -> "Iterator[Metric]":
    """Return how many processes rules hold: of the first `limit` of the policy that hold any."""
    held: Counter[tuple[str, ...]] = Counter()
    for rule in rules[:limit]:
        # Two rules may look alike; one series twice would void the whole scrape.
        held[_rule_label(rule["label"]), rule["value"]] += rule["processes"]
    yield _labelled(
        GaugeMetricFamily,
        "oomguard_rule_processes",
        "Processes that a rule holds, and the oom_score_adj it asks for.",
        ("rule", "value"),
        held,
    )
    yield GaugeMetricFamily(
        "oomguard_rules_without_series",
        "Rules that hold processes, and are beyond the number that get a series of their own.",
        value=max(len(rules) - limit, 0),
    )


def _kills(document: "Document", limit: int) -> "Metric":
    """Return who died, by rule: of as many rules as get a series of their own. A rate needs its zero."""
    rules = document["rules"][:limit]
    counts: Counter[tuple[str, ...]] = Counter({("", "false"): 0, ("", "true"): 0})
    counts.update({(_rule_label(rule["label"]), _truth(_protects(rule["value"]))): 0 for rule in rules})
    for row in document["kills"]:
        key = (_rule_label(row["rule"]), _truth(row["protected"]))
        counts[key if key in counts or len(counts) < 2 * limit else ("", key[1])] += row["count"]
    return _labelled(
        CounterMetricFamily,
        "oomguard_kernel_kills",
        "Processes that the kernel killed while the daemon ran, by the rule that held them and whether their"
        " oom_score_adj was below 0.",
        ("rule", "protected"),
        counts,
    )


def _protects(value: str) -> bool:
    """Tell whether a rule's value, `-900` or `at_most -500`, is below 0."""
    return value.rpartition(" ")[2].startswith("-")


def _truth(value: bool) -> str:  # noqa: FBT001 - a label's value
    return "true" if value else "false"


def _rule_label(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"


def _labelled(
    family: "type[GaugeMetricFamily | CounterMetricFamily]",
    name: str,
    help_text: str,
    labels: tuple[str, ...],
    values: "Mapping[tuple[str, ...], float]",
) -> "Metric":
    made = family(name, help_text, labels=labels)
    for key, value in values.items():
        made.add_metric(key, value)
    return made


def _read(procfs: "Procfs", path: str) -> bytes:
    """Read a file of /proc; b"" where there is none, as with `subset=pid`."""
    try:
        return procfs.read(path)
    except FileNotFoundError:
        return b""
