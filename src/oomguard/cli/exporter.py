"""`oomguard exporter`: metrics for Prometheus, served or written to a file once."""

import argparse
from typing import TYPE_CHECKING

from oomguard.cli.verb import Verb, add, count

if TYPE_CHECKING:
    from oomguard.exporter.server import Address

_DETAIL = """\
Reads only the daemon's status file and /proc; needs no root. If no daemon runs,
oomguard_up is 0 and only the host's metrics remain. For people, there is a page
at /. See docs/metrics.md.

examples:
  oomguard exporter                              http://127.0.0.1:19177/metrics
  oomguard exporter --listen [::1]:9100
  oomguard exporter --textfile /var/lib/prometheus/node-exporter/oomguard.prom
  oomguard exporter --textfile -                 print the metrics once

exit codes: 0 stopped or written, 1 it cannot listen or write, 2 bad usage
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--state-dir", "--proc")
    parser.add_argument(
        "--rules",
        metavar="N",
        type=count,
        default=100,
        help="serve a series for the first N rules that match a process (default: %(default)s)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        type=_address,
        default="127.0.0.1:19177",
        help="address to serve them on (default: %(default)s)",
    )
    where.add_argument(
        "--textfile",
        metavar="FILE",
        type=_textfile,
        help="write them once, for node_exporter's textfile collector; - is standard output",
    )


def _address(text: str) -> "Address":
    """Return the address. ArgumentTypeError: it is not valid."""
    from oomguard.exporter.server import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _textfile(text: str) -> str:
    """Return the file's name. ArgumentTypeError: node_exporter would ignore it."""
    if text != "-" and not text.endswith(".prom"):
        raise argparse.ArgumentTypeError(f"must end in .prom, or node_exporter ignores it; got {text!r}")
    return text


def _run(options: argparse.Namespace) -> int:
    from prometheus_client import CollectorRegistry

    from oomguard.exporter.collector import HostCollector, write_textfile
    from oomguard.exporter.server import serve
    from oomguard.kernel.procfs import Procfs

    collector = HostCollector(options.state_dir, Procfs(options.proc), rule_limit=options.rules)
    registry = CollectorRegistry()  # without metrics of Python and of the exporter itself
    registry.register(collector)
    if options.textfile is None:
        serve(registry, collector.home, options.listen)
    else:
        write_textfile(options.textfile, registry)
    return 0


VERB = Verb("exporter", "serve metrics of the daemon and this host to Prometheus", _DETAIL, _arguments, _run)
