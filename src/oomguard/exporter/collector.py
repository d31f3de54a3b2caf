"""What prometheus_client asks on each scrape, what the page shows, and metrics in a file. Nothing is kept."""

import sys
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable
from oomguard.exporter.metrics import daemon_metrics, host_metrics, up_metric
from oomguard.exporter.page import Page, describe
from oomguard.exporter.status_source import StatusSource
from oomguard.kernel.procfs import Procfs
from oomguard.report.output_file import replace_file


class HostCollector:
    """Reads the status file and /proc on each request."""

    def __init__(self, state_dir: str, procfs: Procfs, *, rule_limit: int) -> None:
        self._source = StatusSource(state_dir, procfs)
        self._procfs = procfs
        self._rule_limit = rule_limit

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; without a running daemon, only the host's: old values would look current."""
        status, _ = self._source.read(time.monotonic())
        yield up_metric(up=status is not None)
        if status is not None:
            yield from daemon_metrics(status, rule_limit=self._rule_limit)
        yield from host_metrics(self._procfs, () if status is None else status.sysctls)

    def home(self) -> Page:
        """Return the page for a person."""
        found = self._source.read(time.monotonic())
        return describe(*found, now=time.time(), rule_limit=self._rule_limit)


def write_textfile(path: str, registry: CollectorRegistry) -> None:
    """Write metrics to a file, for node_exporter's textfile collector; `-` is standard output.

    The file is replaced atomically, since it may be read at any time, and no link in its folder is followed.
    OomguardError: it cannot be written.
    """
    if path == "-":
        sys.stdout.buffer.write(generate_latest(registry))
        return
    try:
        replace_file(path, generate_latest(registry), mode=0o644)  # node_exporter runs as another user
    except OSError as error:
        raise OomguardError(
            f"{printable(path)} cannot be written: {error.strerror}",
            hint="use the folder given to node_exporter as --collector.textfile.directory",
        ) from error
