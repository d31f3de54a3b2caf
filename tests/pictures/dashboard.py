"""Draw etc/grafana/oomguard.json as docs/pictures/dashboard.svg: `python tests/pictures/dashboard.py`.

Runs two daemons, their exporters and a Prometheus on the loopback interface, gives them programs to value and
memory cgroups to run out of for some minutes, asks what the panels ask, and draws the answers. As root,
with Debian's prometheus.
"""

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "exporter")]

from prometheus import DASHBOARD, Prometheus, prometheus  # noqa: E402
from scraping import exporting  # noqa: E402

import memcg  # noqa: E402 - needs the path above
from running import running  # noqa: E402

WIDTH, ROW, COLUMN, GAP = 1200, 30, 50, 8
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
NAMED = {"green": "#37872d", "orange": "#fa6400", "red": "#c4162a"}
STEP = 5

POLICIES = {
    "db1": (
        "vm: {swappiness: 60}\nrules:\n"
        "  - {name: pg-worker, oom_score_adj: 100}\n  - {name: report-gen, oom_score_adj: 600}\n"
    ),
    "web1": (
        "rules:\n  - {name: php-worker, oom_score_adj: 300}\n  - {name: thumbnailer, oom_score_adj: 800}\n"
    ),
}


def main() -> int:
    """Make the data, and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures" / "dashboard.svg")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = {}
        for name, policy in POLICIES.items():
            (folder / name).mkdir()
            daemon = stack.enter_context(running(folder / name, policy))
            exporter = stack.enter_context(exporting(folder / name, daemon.state))
            targets[name] = exporter.url.removeprefix("http://")
        server = stack.enter_context(prometheus(folder, targets, interval=f"{STEP}s"))
        began = time.time()
        live(began + options.minutes * 60)
        options.output.write_text(draw(server, began, time.time()))
    return 0


def live(until: float) -> None:
    """Start programs that come and go, some of which run out of what their cgroup may have."""
    names = ("pg-worker", "report-gen", "php-worker", "thumbnailer")
    held: list[subprocess.Popen[bytes]] = []
    with memcg.memory_cgroup("oomguard-picture", limit_mib=48) as cgroup:
        try:
            for turn in itertools.count():
                if time.time() > until:
                    return
                for name in names[: 2 + turn % 3]:
                    command = f"printf {name} >/proc/$$/comm; sleep 600"
                    held.append(subprocess.Popen(["sh", "-c", command]))
                if turn % 5 == 2:
                    with cgroup.hog(names[1 + 2 * (turn % 2)], 90):
                        pass
                if turn % 4 == 3:
                    for one in held[:6]:
                        with suppress(OSError):
                            Path(f"/proc/{one.pid}/oom_score_adj").write_text("900")
                time.sleep(6)
                while len(held) > 12 + 4 * (turn % 4):
                    held.pop(0).kill()
        finally:
            for one in held:
                one.kill()
                one.wait()


def draw(server: Prometheus, start: float, end: float) -> str:
    """Return the dashboard as SVG."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW + GAP
    look = f'viewBox="0 0 {WIDTH + GAP} {height}" font-family="Helvetica, Arial, sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {look}>',
        f'<rect width="{WIDTH + GAP}" height="{height}" fill="#111217"/>',
    ]
    for panel in panels:
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP, place["y"] * ROW + GAP
        w, h = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        parts.append(f'<g transform="translate({x},{y})">')
        parts.append(f'<rect width="{w}" height="{h}" rx="3" fill="#181b1f" stroke="#2c3235"/>')
        answers = [ask(server, target, start, end) for target in panel["targets"]]
        parts += {"stat": stat, "timeseries": lines, "table": table}[panel["type"]](panel, answers, w, h)
        parts.append(
            f'<text x="10" y="18" fill="#ccccdc" font-weight="600">{escape(panel["title"])}</text></g>'
        )
    return "\n".join([*parts, "</svg>\n"])


def ask(server: Prometheus, target: dict[str, Any], start: float, end: float) -> list[dict[str, Any]]:
    """Return the series that a panel's query has, each with its legend."""
    query = target["expr"].replace("$job", ".*").replace("$instance", ".*")
    query = query.replace("$__rate_interval", f"{4 * STEP}s").replace("$__range", f"{int(end - start)}s")
    if target.get("instant"):
        found = server.ask("query", query=query)["result"]
    else:
        found = server.ask("query_range", query=query, start=str(start), end=str(end), step=str(STEP))[
            "result"
        ]
    for one in found:
        legend = target["legendFormat"]
        for label, value in one["metric"].items():
            legend = legend.replace("{{" + label + "}}", value)
        one["legend"] = legend or " ".join(one["metric"].values()) or "no rule"
    return list(found)


def stat(panel: dict[str, Any], answers: list[Any], w: int, h: int) -> Iterator[str]:
    """Yield a number on the colour of its threshold."""
    value = float(answers[0][0]["value"][1]) if answers[0] else 0.0
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    yield f'<rect width="{w}" height="{h}" rx="3" fill="{NAMED[colour]}"/>'
    style = 'fill="#fff" font-size="44" text-anchor="middle"'
    yield f'<text x="{w / 2}" y="{h / 2 + 24}" {style}>{value:.0f}</text>'


def lines(panel: dict[str, Any], answers: list[Any], w: int, h: int) -> Iterator[str]:
    """Yield each series as a line, or as bars where the panel has them, with legends below."""
    series = [one for answer in answers for one in answer if one.get("values")]
    points = [(float(at), float(value)) for one in series for at, value in one["values"]]
    is_bars = panel["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") == "bars"
    if not points:
        yield f'<text x="{w / 2}" y="{h / 2}" fill="#8e8e8e" text-anchor="middle">No data</text>'
        return
    begin, finish = min(at for at, _ in points), max(at for at, _ in points)
    totals: dict[float, float] = defaultdict(float)
    for at, value in points:
        totals[at] += value
    top = max(totals.values() if is_bars else (value for _, value in points)) or 1
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if panel["fieldConfig"]["defaults"].get("decimals") == 0:
        top = 2.0 * max(math.ceil(top / 2), 1)  # half of it is an integer, too
    stacked: dict[float, float] = defaultdict(float)
    left, right, up, down = 70, w - 12, 34, h - 62
    for fraction in (0, 0.5, 1):
        at = down - (down - up) * fraction
        yield f'<line x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#2c3235"/>'
        tick = amount(top * fraction, unit)
        yield f'<text x="{left - 6}" y="{at + 4:.1f}" fill="#8e8e8e" text-anchor="end">{tick}</text>'
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        placed = [
            (
                left + (right - left) * (float(at) - begin) / max(finish - begin, 1),
                down - (down - up) * float(value) / top,
            )
            for at, value in one["values"]
        ]
        if is_bars:
            for x, y in placed:
                tall = down - y
                stacked[x] += tall
                if tall:
                    bar = f'y="{down - stacked[x]:.1f}" width="5" height="{tall:.1f}" fill="{colour}"'
                    yield f'<rect x="{x:.1f}" {bar}/>'
        else:
            joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            yield f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    x, y = 12.0, h - 32.0
    for number, one in enumerate(series):
        legend = one["legend"][:34]
        width = 34 + 7.3 * len(legend)
        if x + width > w and x > 12:
            x, y = 12.0, y + 20
        colour = COLOURS[number % len(COLOURS)]
        yield f'<rect x="{x:.1f}" y="{y - 7:.0f}" width="12" height="3" fill="{colour}"/>'
        yield f'<text x="{x + 17:.1f}" y="{y:.0f}" fill="#ccccdc">{escape(legend)}</text>'
        x += width


def table(_panel: dict[str, Any], answers: list[Any], w: int, h: int) -> Iterator[str]:
    """Yield a row for each sysctl of each host."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for kind, answer in zip(("desired", "actual"), answers, strict=True):
        for one in answer:
            key = (one["metric"]["instance"], one["metric"]["sysctl"])
            rows.setdefault(key, {})[kind] = one["value"][1]
    columns = (12, w * 0.2, w * 0.68, w * 0.84)
    shown = [("instance", "sysctl", "desired", "actual")]
    shown += [
        (*key, found.get("desired", ""), found.get("actual", "")) for key, found in sorted(rows.items())
    ]
    for number, row in enumerate(shown):
        y = 44 + number * 22
        if y > h - 8:
            return
        for x, text in zip(columns, row, strict=True):
            colour = "#6e9fff" if number == 0 else "#ccccdc"
            yield f'<text x="{x:.0f}" y="{y}" fill="{colour}">{escape(text)}</text>'


def amount(value: float, unit: str) -> str:
    """Write a value in its unit, in few cells."""
    if unit == "bytes":
        return f"{value / 2**30:.1f} GiB"
    text = f"{value:.2f}".rstrip("0").rstrip(".") or "0"
    return f"{text} /s" if unit == "ops" else text


if __name__ == "__main__":
    sys.exit(main())
