"""Metrics in a file, for node_exporter's textfile collector."""

import os
import sys
from tempfile import mkstemp
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from oomguard.core.errors import OomguardError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def write(path: str, registry: "CollectorRegistry") -> None:
    """Replace the file atomically, since node_exporter may read it at any time; `-` is standard output.

    Follows no link in its folder. OomguardError: the file cannot be written.
    """
    if path == "-":
        sys.stdout.buffer.write(generate_latest(registry))
        return
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
