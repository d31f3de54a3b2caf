"""What prometheus_client asks on each scrape, and what the page shows. Nothing is cached between requests."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from oomguard.exporter.metrics import daemon_metrics, host_metrics, up_metric
from oomguard.exporter.page import Page, describe
from oomguard.exporter.status_source import StatusSource
from oomguard.kernel.procfs import Procfs


class HostCollector:
    """Reads the status file and /proc on each request."""

    def __init__(self, state_dir: str, procfs: Procfs, *, rule_limit: int) -> None:
        self._source = StatusSource(state_dir, procfs)
        self._procfs = procfs
        self._rule_limit = rule_limit

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; without a running daemon, only the host's: old values would look current."""
        status, _ = self._source.read(time.time())
        yield up_metric(up=status is not None)
        if status is not None:
            yield from daemon_metrics(status, rule_limit=self._rule_limit)
        yield from host_metrics(self._procfs, () if status is None else status.sysctls)

    def home(self) -> Page:
        """Return the page for a person."""
        now = time.time()
        return describe(*self._source.read(now), now=now, rule_limit=self._rule_limit)


def make_registry(collector: HostCollector) -> CollectorRegistry:
    """Return a registry of this collector alone, without metrics of Python and of the exporter itself."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
