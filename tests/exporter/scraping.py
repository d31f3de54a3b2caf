"""The exporter as a process, and what it serves."""

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from running import PATIENCE_SECONDS, wait_until

OPENMETRICS = "application/openmetrics-text;version=1.0.0"

Series = dict[tuple[str, ...], float]
"""Values by name and label values, in the order of the label names: ("oomguard_up",)."""


def parse(text: str, *, is_openmetrics: bool = False) -> Series:
    """Return every series of a scrape, as the client's own parser reads it."""
    read = openmetrics.text_string_to_metric_families if is_openmetrics else text_string_to_metric_families
    found: Series = {}
    for family in read(text):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


class Exporter(NamedTuple):
    """A running exporter."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str = "/metrics", **headers: str) -> str:
        """Return what it answers."""
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return str(answer.read().decode())

    def scrape(self) -> Series:
        """Return every series."""
        return parse(self.get())


@contextmanager
def exporting(folder: Path, state: Path, *options: str) -> Iterator[Exporter]:
    """Run an exporter on a free port, and end it whatever happens."""
    log = folder / "exporter.log"
    command = [sys.executable, "-m", "oomguard", "exporter", "--state-dir", str(state)]
    command += ["--listen", "127.0.0.1:0", *options]
    with log.open("wb") as written:
        process = subprocess.Popen(command, stderr=written)
    try:
        wait_until(lambda: "metrics are at" in log.read_text() or process.poll() is not None, "an address")
        found = re.search(r"(http://[\d.]+:\d+)/metrics", log.read_text())
        assert found, log.read_text()
        yield Exporter(process, found[1], log)
    finally:
        process.kill()
        process.wait()
