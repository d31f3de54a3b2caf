"""Metrics in a file, for node_exporter's textfile collector."""

import sys

from prometheus_client import CollectorRegistry, generate_latest

from oomguard.core.errors import OomguardError
from oomguard.report.output_file import replace_file


def write(path: str, registry: CollectorRegistry) -> None:
    """Replace the file atomically, since node_exporter may read it at any time; `-` is standard output.

    Follows no link in its folder. OomguardError: the file cannot be written.
    """
    if path == "-":
        sys.stdout.buffer.write(generate_latest(registry))
        return
    try:
        replace_file(path, generate_latest(registry), mode=0o644)  # node_exporter runs as another user
    except OSError as error:
        raise OomguardError(
            f"{path} cannot be written: {error.strerror}",
            hint="use the folder given to node_exporter as --collector.textfile.directory",
        ) from error
