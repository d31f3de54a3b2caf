"""`oomguard exporter`: metrics for Prometheus, served or written to a file once."""

import os
import sys
from tempfile import mkstemp
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from oomguard.core.errors import OomguardError
from oomguard.exporter.collector import HostCollector, make_registry
from oomguard.exporter.server import serve
from oomguard.kernel.procfs import Procfs

if TYPE_CHECKING:
    import argparse

    from prometheus_client import CollectorRegistry


def run(options: "argparse.Namespace") -> int:
    """Serve metrics until stopped, or write them once."""
    collector = HostCollector(options.state_dir, Procfs(options.proc), rule_limit=options.rules)
    registry = make_registry(collector)
    if options.textfile is None:
        serve(registry, collector.home, options.listen)
    elif options.textfile == "-":
        sys.stdout.buffer.write(generate_latest(registry))
    else:
        _write(options.textfile, registry)
    return 0


def _write(path: str, registry: "CollectorRegistry") -> None:
    """Replace the file atomically, since node_exporter may read it at any time. Follow no link in its folder.

    Raises OomguardError if the file cannot be written.
    """
    try:
        fd, temporary = mkstemp(prefix=".", dir=os.path.dirname(path) or ".")
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o644)  # node_exporter runs as another user
                file.write(generate_latest(registry))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OomguardError(
            f"{path} cannot be written: {error.strerror}",
            hint="use the folder given to node_exporter as --collector.textfile.directory",
        ) from error
