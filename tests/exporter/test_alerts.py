"""Alert rules and dashboard: each means something to a real Prometheus, and is due when it should be."""

import json
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus import (
    DASHBOARD,
    PROMTOOL,
    ROOT,
    RULES,
    Prometheus,
    needs_prometheus,
    needs_promtool,
    prometheus,
)
from scraping import exporting
from test_page import metrics

import memcg
from pages import anchors
from running import running, wait_until

TESTS = Path(__file__).with_name("alerts.test.yml")
_NAME = re.compile(r"\boomguard_\w+")
_FOREIGN = {"up"}


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> list[str]:
    """Return what the panels ask, with Grafana's variables filled in."""
    variables = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m", "$__range": "1h"}
    pattern = re.compile("|".join(map(re.escape, variables)))
    texts = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [pattern.sub(lambda found: variables[found[0]], text) for text in texts]


def unbounded(expression: str) -> str:
    """Return an alert's expression with comparisons that always hold: what is left is what it looks at."""
    return re.sub(r" (==|!=|>=|>) ", " >= -1e12 + ", expression)


def samples() -> set[str]:
    """Return the name of every sample that the exporter gives."""
    return {sample.name for metric in metrics() for sample in metric.samples}


def test_rules_and_panels_ask_for_metrics_that_there_are() -> None:
    """A name that nobody gives matches nothing, and says nothing."""
    for text in [*(rule["expr"] for rule in alerts()), *queries()]:
        assert set(_NAME.findall(text)) <= samples(), text
        assert "$" not in text


def test_every_alert_says_what_to_do() -> None:
    """In itself, and in a page that there is."""
    for rule in alerts():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert {"summary", "description", "runbook"} == set(rule["annotations"])
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (ROOT / path).is_file()
        assert not anchor or anchor in anchors(ROOT / path), rule["alert"]


def tried_alerts(test: dict[str, Any]) -> set[str]:
    """Return the names of the alerts that come at some time in a test of promtool."""
    return {case["alertname"] for case in test["alert_rule_test"] if case["exp_alerts"]}


def test_every_alert_is_tried() -> None:
    """Once where it is due; what stays silent beside it is in the same test."""
    tried = set().union(*map(tried_alerts, yaml.safe_load(TESTS.read_text())["tests"]))
    assert tried == {rule["alert"] for rule in alerts()}


@needs_promtool
def test_rules_are_valid_and_do_what_they_should() -> None:
    """By Prometheus's own tools."""
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def lasting(rule: dict[str, Any], times: float) -> dict[str, Any]:
    """Return an alert that is due after so many times as long."""
    due = rule["for"]
    minutes = int(due[:-1]) * {"m": 1, "h": 60}[due[-1]]
    return rule | {"for": f"{int(minutes * times)}m"}


MUTANTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "never": lambda rule: rule | {"expr": "vector(0) > 1"},
    "always": lambda rule: rule | {"expr": unbounded(rule["expr"])},
    "at once": lambda rule: {key: value for key, value in rule.items() if key != "for"},
    "soon": lambda rule: lasting(rule, 0.5) if "for" in rule else rule,
    "late": lambda rule: lasting(rule, 2) if "for" in rule else rule | {"for": "3h"},
}


@needs_promtool
@pytest.mark.parametrize(
    ("name", "mutant"),
    [(rule["alert"], mutant) for rule in alerts() for mutant in MUTANTS if MUTANTS[mutant](rule) != rule],
)
def test_tests_notice_an_alert_that_comes_too_soon_too_late_always_or_never(
    name: str, mutant: str, tmp_path: Path
) -> None:
    """A test of alerts that cannot fail would be worth nothing."""
    document = yaml.safe_load(RULES.read_text())
    rules = document["groups"][0]["rules"]
    (number,) = (number for number, rule in enumerate(rules) if rule["alert"] == name)
    rules[number] = MUTANTS[mutant](rules[number])
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document))
    tests = yaml.safe_load(TESTS.read_text())
    tests["rule_files"] = ["rules.yml"]
    tests["tests"] = [test for test in tests["tests"] if name in tried_alerts(test)]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    command = [PROMTOOL, "test", "rules", str(tmp_path / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"alertname: {name}," in done.stdout + done.stderr


def test_dashboard_is_whole() -> None:
    """Panels have ids of their own, do not overlap, and take their data from the one that is chosen."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFG"[: len(panel["targets"])])
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] == "bytes" or defaults["decimals"] == 0, "what is counted is an integer"
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends) or panel["type"] == "table", panel["title"]
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))


@needs_prometheus
def test_real_prometheus_takes_rules_and_panels(tmp_path: Path) -> None:
    """Each expression is one it understands, and finds something of a real daemon to show or to compare."""
    policy = "vm: {swappiness: 60}\nrules: [{name: '*', oom_score_adj: {at_least: 0}}]\n"
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        address = exporter.url.removeprefix("http://")
        with prometheus(tmp_path, {"here": address}) as server:
            shown = [query.replace(" > 0", "") for query in queries()]
            for query in [*shown, *(unbounded(rule["expr"]) for rule in alerts())]:
                wait_until(partial(finds, server, query), query)
            (group,) = server.ask("rules")["groups"]
            assert [rule["health"] for rule in group["rules"]] == ["ok"] * len(alerts())


@needs_prometheus
@pytest.mark.skipif(bool(memcg.missing()), reason=memcg.missing() or "there can be")
def test_a_kill_by_the_real_kernel_is_an_alert(tmp_path: Path) -> None:
    """From the kernel through the exporter to Prometheus; the other alerts take minutes to be due."""
    with running(tmp_path, "vm: {}\n") as daemon, exporting(tmp_path, daemon.state) as exporter:
        target = {"here": exporter.url.removeprefix("http://")}
        with (
            prometheus(tmp_path, target) as server,
            memcg.memory_cgroup("oomguard-alert", limit_mib=16) as cgroup,
        ):
            wait_until(partial(finds, server, "rate(oomguard_up[1m])"), "two scrapes")
            with cgroup.hog("oomguard-alert", 32) as victim:
                victim.wait(10)
            wait_until(lambda: "OomguardKernelKills" in names_of_alerts(server), "the alert")


def finds(server: Prometheus, query: str) -> bool:
    """Tell whether a query has an answer."""
    return bool(server.ask("query", query=query)["result"])


def names_of_alerts(server: Prometheus) -> set[str]:
    """Return the alerts that are told now."""
    told = server.ask("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in told if alert["state"] == "firing"}
