"""A real Prometheus for a moment: what it makes of our rules and of the exporter's answers."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

import pytest

from running import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "etc" / "prometheus" / "oomguard.rules.yml"
DASHBOARD = ROOT / "etc" / "grafana" / "oomguard.json"

_PATH = f"{sys.prefix}/bin:{os.environ['PATH']}"
PROMTOOL = shutil.which("promtool", path=_PATH) or ""
PROMETHEUS = shutil.which("prometheus", path=_PATH) or ""

needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="needs promtool: sh .ci/extras")
needs_prometheus = pytest.mark.skipif(not PROMETHEUS, reason="needs prometheus: sh .ci/extras")


class Prometheus(NamedTuple):
    """A server with data of its own, which scrapes every second."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """Return what its API answers."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str], *, interval: str = "1s") -> Iterator[Prometheus]:
    """Run one that scrapes these targets, address by name, and evaluates the rules."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scraped = [
        {"targets": [target], "labels": {"instance": name, "job": "oomguard"}}
        for name, target in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "oomguard", "static_configs": scraped}],
    }
    path = folder / "prometheus.yml"  # JSON is YAML, too
    path.write_text(json.dumps(configuration))
    command = [PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={folder}/tsdb"]
    command += [f"--web.listen-address={address}", "--log.level=error"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            found = Prometheus(f"http://{address}")
            wait_until(lambda: _answers(found), "Prometheus to answer", seconds=60)
            yield found
        finally:
            server.terminate()


def _answers(found: Prometheus) -> bool:
    try:
        return bool(found.ask("query", query="up")["result"])
    except HTTPError as error:
        error.close()  # Python 3.14 warns of an answer that nobody closed
        return False
    except OSError:
        return False
