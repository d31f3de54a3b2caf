"""What 50 MB of each kind of hostile log cost `oomguard postmortem`: CPU time for 1 MB, and resident memory.

The memory is at least that of the program that starts it.
"""

from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target
from benchmarks.reports import run
from hostile_logs import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.host import Host

MEGABYTES = 50
FORMS = ((), ("--all",), ("--json",))


def figures(host: "Host") -> "Iterator[Figure]":
    """Read 50 MB of each kind, in the form that takes longest."""
    path = host.folder / "hostile.log"
    for kind in KINDS:
        _write(path, kind)
        done = [run(host, host.oomguard("postmortem", *form, str(path))) for form in FORMS]
        seconds = max(one.cpu_seconds for one in done)
        yield Figure(kind, seconds / MEGABYTES * 1000, "ms", None, Target(150, 300), note="1 MB")
        yield Figure(kind, max(one.rss_mib for one in done), "MiB", None, Target(64, 128), note="RSS")
    path.unlink()


def _write(path: "Path", kind: str) -> None:
    left = MEGABYTES * 1_000_000
    with path.open("w") as log:
        for part in KINDS[kind]():
            log.write(part[:left])
            left -= len(part)
            if left <= 0:
                return
