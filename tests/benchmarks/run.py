"""Print each figure beside its floor: `python tests/benchmarks/run.py [NAME...]`.

`--compare REV` measures this checkout and another revision in turn instead, and prints what became slower.

As root, on Linux with a C compiler. Takes some minutes; the host should do nothing else.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from benchmarks.compare import compare, show  # noqa: E402  # needs the path above
from benchmarks.figure import cells, markdown  # noqa: E402
from benchmarks.host import REPOSITORY, Host, alone  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.figure import Figure

NAMES = (
    *("latency", "pressure", "events", "storm", "drift", "scan", "idle", "memory", "start"),
    *("reports", "hostile", "attacks", "growth"),
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
    parser.add_argument("--picture", type=Path, help="of `growth`, where to draw it")
    parser.add_argument("--compare", metavar="REV", help="compare with a revision; exit 1 if slower")
    parser.add_argument("--rounds", type=int, default=5, help="with --compare: how often each (default: 5)")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("the proc connector and real-time scheduling take root")
    try:
        with alone():
            return _compare(options) if options.compare else _print(options)
    except BlockingIOError:
        parser.error("another run is under way, and each would measure the other: wait until it ends")


def _print(options: argparse.Namespace) -> int:
    """Measure this checkout, and print each figure as it comes."""
    done: list[Figure] = []
    with _host(options, options.source) as host:
        for figure in _figures(host, options.names):
            done.append(figure)
            what, value, floor, ratio, target, verdict = cells(figure)
            print(f"{what:<66} {value:>14} {floor:>24} {ratio:>9} {target:>12} {verdict}", flush=True)
    if options.markdown:
        print(markdown(done))
    return 0


def _figures(host: Host, names: "Iterable[str]") -> "Iterator[Figure]":
    for name in names or NAMES:
        yield from importlib.import_module(f"benchmarks.{name}").figures(host)


@contextmanager
def _host(options: argparse.Namespace, source: Path) -> "Iterator[Host]":
    # In memory, as the service's /run/oomguard is: on a disk a write to the ledger may take 20 ms.
    with tempfile.TemporaryDirectory(prefix="oomguard-bench-", dir="/dev/shm") as folder:
        yield Host(
            Path(folder),
            source,
            idle_seconds=options.idle_seconds,
            reloads=options.reloads,
            attack=options.attack,
            picture=options.picture,
        )


def _compare(options: argparse.Namespace) -> int:
    """Measure both trees in turn, since the clock of a shared machine drifts; return the exit code."""
    with ExitStack() as stack:
        other = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oomguard-compare-")))
        archive = subprocess.run(
            ["git", "archive", options.compare, "src"], cwd=options.source, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", other], input=archive, check=True)
        hosts = [stack.enter_context(_host(options, source)) for source in (other, options.source)]
        found: list[list[list[Figure]]] = [[], []]
        for number in range(options.rounds):
            for place in (0, 1) if number % 2 else (1, 0):
                found[place].append(list(_figures(hosts[place], options.names)))
    rows = compare(*found)
    print(show(rows))
    return 1 if any(row.verdict == "slower" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
