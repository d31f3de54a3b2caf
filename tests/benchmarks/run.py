"""Print each figure beside its floor: `python tests/benchmarks/run.py [NAME...]`.

As root, on Linux with a C compiler. Takes some minutes; the host should do nothing else.
"""

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from benchmarks.figure import cells, markdown  # noqa: E402  # needs the path above
from benchmarks.host import REPOSITORY, Host  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.figure import Figure

NAMES = (
    *("latency", "events", "storm", "drift", "scan", "idle", "memory", "start"),
    *("reports", "hostile", "attacks"),
)


def main() -> int:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--markdown", action="store_true", help="print a markdown table at the end")
    parser.add_argument("--source", type=Path, default=REPOSITORY, help="the checkout to measure")
    parser.add_argument("--idle-seconds", type=int, default=60, help="how long to be idle (default: 60)")
    parser.add_argument("--reloads", type=int, default=200, help="how often to reload (default: 200)")
    parser.add_argument("--attack", default="", help="of `attacks`, those whose name has this in it")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("the proc connector and real-time scheduling take root")
    done: list[Figure] = []
    # In memory, as the service's /run/oomguard is: on a disk a write to the ledger may take 20 ms.
    with tempfile.TemporaryDirectory(prefix="oomguard-bench-", dir="/dev/shm") as folder:
        host = Host(
            Path(folder),
            options.source,
            idle_seconds=options.idle_seconds,
            reloads=options.reloads,
            attack=options.attack,
        )
        for name in options.names or NAMES:
            for figure in importlib.import_module(f"benchmarks.{name}").figures(host):
                done.append(figure)
                what, value, floor, ratio, target, verdict = cells(figure)
                print(f"{what:<66} {value:>14} {floor:>24} {ratio:>9} {target:>12} {verdict}", flush=True)
    if options.markdown:
        print(markdown(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
