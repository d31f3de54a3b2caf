"""Alert rules and dashboard: each means something to a real Prometheus, and is due when it should be."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus import DASHBOARD, PROMTOOL, RULES, needs_prometheus, needs_promtool, prometheus
from scraping import exporting
from test_page import PAGE, metrics

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


def samples() -> set[str]:
    """Return the name of every sample that the exporter gives."""
    return {sample.name for metric in metrics() for sample in metric.samples}


def test_rules_and_panels_ask_for_metrics_that_there_are() -> None:
    """A name that nobody gives matches nothing, and says nothing."""
    for text in [*(rule["expr"] for rule in alerts()), *queries()]:
        assert set(_NAME.findall(text)) <= samples(), text
        assert "$" not in text


def test_every_alert_says_what_to_do_and_is_in_the_page() -> None:
    """If the table fails, paste what it prints."""
    for rule in alerts():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])
    rows = []
    for rule in alerts():
        expression = " ".join(rule["expr"].split())
        cells = (
            f"`{rule['alert']}`",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            f"`{expression}`",
        )
        rows.append(f"| {' | '.join(cells)} |")
    table = "\n".join(rows)
    assert table in PAGE.read_text(), f"\n{table}"


def test_every_alert_is_tried() -> None:
    """Once where it is due; what stays silent beside it is in the same test."""
    tried = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tried == {rule["alert"] for rule in alerts()}


@needs_promtool
def test_rules_are_valid_and_do_what_they_should() -> None:
    """By Prometheus's own tools."""
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_tests_notice_a_rule_that_never_is_due(rule: dict[str, Any], tmp_path: Path) -> None:
    """A test of alerts that cannot fail would be worth nothing."""
    document = yaml.safe_load(RULES.read_text())
    for other in document["groups"][0]["rules"]:
        if other["alert"] == rule["alert"]:
            other["expr"] = "vector(0) > 1"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document))
    tests = TESTS.read_text().replace("../../etc/prometheus/oomguard.rules.yml", "rules.yml")
    (tmp_path / "tests.yml").write_text(tests)
    command = [PROMTOOL, "test", "rules", str(tmp_path / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr


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
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))


@needs_prometheus
def test_real_prometheus_takes_rules_and_panels(tmp_path: Path) -> None:
    """Each expression is one it understands, and each panel has something to show of a real daemon."""
    policy = "vm: {swappiness: 60}\nrules: [{name: '*', oom_score_adj: {at_least: 0}}]\n"
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        address = exporter.url.removeprefix("http://")
        with prometheus(tmp_path, {"here": address}) as server:
            wait_until(lambda: all(server.ask("query", query=one)["result"] for one in queries()), "samples")
            (group,) = server.ask("rules")["groups"]
            assert [rule["health"] for rule in group["rules"]] == ["ok"] * len(alerts())
