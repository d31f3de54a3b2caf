"""The collector that prometheus_client asks at each scrape: nothing is kept between two."""

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from oomguard.exporter.metrics import daemon_metrics, host_metrics, up_metric
from oomguard.exporter.source import StatusSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from oomguard.kernel.procfs import Procfs


class HostCollector:
    """Reads the status file and /proc anew whenever it is asked."""

    def __init__(self, state_dir: str, procfs: "Procfs", *, rule_limit: int) -> None:
        self._source = StatusSource(state_dir, procfs)
        self._procfs = procfs
        self._rule_limit = rule_limit

    def collect(self) -> "Iterator[Metric]":
        """Return every metric. Without a daemon, those of the host: old values would look like new ones."""
        document = self._source.read(time.time())
        yield up_metric(up=document is not None)
        declared = []
        if document is not None:
            declared = [row["name"] for row in document["sysctls"]]
            yield from daemon_metrics(document, rule_limit=self._rule_limit)
        yield from host_metrics(self._procfs, declared)


def make_registry(collector: HostCollector) -> CollectorRegistry:
    """Return a registry with nothing else in it: neither Python's own metrics nor the exporter's."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(collector)
    return registry
