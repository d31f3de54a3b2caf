"""Every metric that the exporter has: what it says, and what it counts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric

from oomguard.exporter.metrics import daemon_metrics, host_metrics, up_metric
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import (
    ChangeCount,
    Complaint,
    ContendedValue,
    KillCount,
    PolicyStatus,
    RuleStatus,
    SysctlStatus,
)
from statuses import IDLE

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

STATUS = IDLE._replace(
    version="1",
    started_at=1.0,
    written_at=2.0,
    policy=PolicyStatus("/etc/oomguard.yaml", ("/etc/oomguard.yaml",), "d", 2, 1.5, 60, ()),
    sysctls=(SysctlStatus("vm.swappiness", 11, 10, "/etc/oomguard.yaml:1"),),
    rules=(
        RuleStatus(0, "name=a", "", "300", 2),
        RuleStatus(1, "name=a", "", "300", 3),
        RuleStatus(2, "name=b" + "b" * 500, "", "-900", 1),
    ),
    processes_held=6,
    changes=(
        ChangeCount("vm.swappiness", "drift", "applied", 4),
        ChangeCount("oom_score_adj", "drift", "contended", 5),
        ChangeCount("oom_score_adj", "exec", "denied", 6),
    ),
    complaints=(
        Complaint("vm.swappiness", 10, "denied", "read-only", "", "/etc/oomguard.yaml:1", 3),
        Complaint("vm.swappiness", 11, "denied", "read-only", "", "/etc/oomguard.yaml:1", 1),
        Complaint("sshd[7]", -900, "refused", "a name", "", "rule name=sshd", 1),
    ),
    kills=(KillCount("", protected=False, count_=2), KillCount("name=sshd", protected=True, count_=1)),
    contended=(ContendedValue("vm.swappiness"),),
    watches=3,
    passes=7,
    losses=8,
    log_entries_lost=9,
)


def metrics(rule_limit: int = 100) -> Iterator[Metric]:
    """Return every metric of a daemon and of this host."""
    yield up_metric(up=True)
    yield from daemon_metrics(STATUS, rule_limit=rule_limit)
    yield from host_metrics(Procfs(), STATUS.sysctls)


def value(name: str, *, rule_limit: int = 100, **labels: str) -> float:
    """Return the one sample of that name which has these labels."""
    samples = [sample for metric in metrics(rule_limit) for sample in metric.samples]
    (found,) = [s for s in samples if s.name == name and labels.items() <= s.labels.items()]
    return float(found.value)


def test_every_metric_says_what_it_is() -> None:
    """In the sentences of its HELP, which is all the reference there is."""
    for metric in metrics():
        assert metric.documentation.endswith("."), metric.name


def test_metrics_that_the_page_names_are_there() -> None:
    """docs/metrics.md explains some of them, and of their labels."""
    page = PAGE.read_text()
    samples = [sample for metric in metrics() for sample in metric.samples]
    named = set(re.findall(r"\boomguard_\w+", page))
    assert named
    assert named <= {sample.name for sample in samples}
    assert {"cause", "reason"} <= {label for sample in samples for label in sample.labels}


def test_drift_is_counted_whatever_became_of_it() -> None:
    """By sysctl; of processes together."""
    assert value("oomguard_drift_total", target="vm.swappiness") == 4
    assert value("oomguard_drift_total", target="oom_score_adj") == 5


def test_adjustments_and_failures_are_told_apart() -> None:
    """And what did not happen is 0, not missing."""
    assert value("oomguard_adjustments_total", target="sysctl", cause="drift") == 4
    assert value("oomguard_adjustments_total", target="oom_score_adj", cause="drift") == 0
    assert value("oomguard_change_failures_total", target="oom_score_adj", reason="denied") == 6
    assert value("oomguard_change_failures_total", target="oom_score_adj", reason="contended") == 5
    assert value("oomguard_change_failures_total", target="sysctl", reason="refused") == 0


def test_what_cannot_be_made_now_is_told_until_it_can() -> None:
    """A counter would not tell, with passes an hour apart."""
    assert value("oomguard_failing_changes", target="sysctl", reason="denied") == 2
    assert value("oomguard_failing_changes", target="sysctl", reason="refused") == 0
    assert value("oomguard_failing_changes", target="oom_score_adj", reason="refused") == 1


def test_memory_is_in_bytes() -> None:
    """The kernel counts in KiB."""
    meminfo = Path("/proc/meminfo").read_text()
    found = re.search(r"MemTotal: +(\d+) kB", meminfo)
    assert found is not None
    assert value("oomguard_memory_total_bytes") == int(found[1]) * 1024


def test_kills_are_told_by_rule_and_begin_at_zero() -> None:
    """Who died and whether it was protected; of the rules that hold something, a zero for a rate."""
    assert value("oomguard_kernel_kills_total", rule="", protected="false") == 2
    assert value("oomguard_kernel_kills_total", rule="", protected="true") == 0
    assert value("oomguard_kernel_kills_total", rule="name=sshd", protected="true") == 1
    assert value("oomguard_kernel_kills_total", rule="name=a", protected="false") == 0


@pytest.mark.parametrize(
    ("given", "protected"),
    [
        ("300", ["false"]),
        ("0", ["false"]),
        ("-900", ["true"]),
        ("keep", ["false", "true"]),
        ("at_most 0", ["false", "true"]),
        ("at_least -500", ["false", "true"]),
    ],
)
def test_a_kill_that_a_rule_allows_has_a_zero_before(given: str, protected: list[str]) -> None:
    """With `keep` and a bound, a process has a value of its own."""
    rules = (RuleStatus(0, "name=a", "", given, 1),)
    found = daemon_metrics(STATUS._replace(kills=(), rules=rules), rule_limit=1)
    [kills] = [metric for metric in found if metric.name == "oomguard_kernel_kills"]
    assert [one.labels["protected"] for one in kills.samples if one.labels["rule"] == "name=a"] == protected


def test_kills_never_move_to_another_series() -> None:
    """Whichever rules match now, and have a zero: a counter that falls looks like kills."""
    sshd, chrome = KillCount("name=sshd", protected=True, count_=1), KillCount("name=chrome", False, 3)
    by_limit = {
        1: {("", "false"): 3, ("", "true"): 0, ("name=sshd", "true"): 1},
        2: {("", "false"): 0, ("", "true"): 0, ("name=sshd", "true"): 1, ("name=chrome", "false"): 3},
    }
    for limit, expected in by_limit.items():
        for rules in ((), STATUS.rules, STATUS.rules[:1]):
            found = daemon_metrics(STATUS._replace(kills=(sshd, chrome), rules=rules), rule_limit=limit)
            [kills] = [metric for metric in found if metric.name == "oomguard_kernel_kills"]
            counts = {(one.labels["rule"], one.labels["protected"]): one.value for one in kills.samples}
            assert counts == expected


def test_rules_that_look_alike_share_a_series_and_labels_are_bounded() -> None:
    """One series twice would void the scrape."""
    assert value("oomguard_rule_processes", rule="name=a") == 5
    (long,) = [
        sample.labels["rule"]
        for metric in metrics()
        for sample in metric.samples
        if sample.labels.get("value") == "-900"
    ]
    assert len(long) == 200


def test_series_are_as_few_as_the_page_says() -> None:
    """At most three of a rule, three of each declared sysctl, and fewer than 70 besides."""
    status = STATUS._replace(rules=(RuleStatus(0, "name=a", "", "keep", 2),), kills=())
    told = [
        *daemon_metrics(status, rule_limit=1),
        *host_metrics(Procfs(), status.sysctls),
        up_metric(up=True),
    ]
    samples = [sample for metric in told for sample in metric.samples]
    for name in ("name=a", "vm.swappiness"):
        assert sum(name in sample.labels.values() for sample in samples) == 3
    assert len(samples) - 6 < 70


def test_rules_beyond_the_limit_have_no_series_and_are_counted() -> None:
    """The first of the policy that hold a process have one."""
    assert value("oomguard_rule_processes", rule_limit=1) == 2
    assert value("oomguard_rules_without_series", rule_limit=1) == 2
    assert value("oomguard_rules_without_series", rule_limit=0) == 3
