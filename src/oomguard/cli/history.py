"""`oomguard history`: what used memory and what grew, as the daemon recorded it."""

import argparse
import re

from oomguard.cli.verb import Verb, add, joined_times
from oomguard.core.text import printable

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SLEPT_SECONDS = 1.0

_DETAIL = """\
The daemon takes a sample of memory, and of the 15 processes that the kernel
would kill first, at each pass, and every second while tasks stall for memory.
It keeps 512 of each until the next reboot. Only root can read them.

GREW compares the first and the last sample of each process; one that started
later than the first of all samples had 0. Those that only one sample has come
last.

examples:
  oomguard history
  oomguard history --since 10m
  oomguard history --json
  oomguard history --html history.html

exit codes: 0 shown, also if nothing was recorded in that time,
            1 the daemon recorded nothing, or it cannot be read
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--state-dir")
    form = parser.add_mutually_exclusive_group()
    add(form, "--json", "--html")
    parser.add_argument(
        "--since", metavar="TIME", type=_seconds, help="how far back, such as 90s, 10m, 2h or 1d"
    )


def _seconds(text: str) -> int:
    """Return a time span in seconds, also one like `-1h`. ArgumentTypeError: it is not one."""
    found = re.fullmatch(r"-?(\d{1,6})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a time span such as 90s, 10m, 2h or 1d, got {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def _run(options: argparse.Namespace) -> int:
    import time
    from contextlib import closing

    from oomguard.core.errors import OomguardError
    from oomguard.core.sample import redated
    from oomguard.kernel.procfs import Procfs
    from oomguard.reconcile.flight_recorder import FILE, read_samples
    from oomguard.report.recording import recording_document

    try:
        with closing(Procfs()) as procfs:
            samples = read_samples(options.state_dir, procfs.boot_id())
    except PermissionError as error:
        raise OomguardError(
            f"{printable(options.state_dir)}/{FILE}: only root can read it", hint="run this as root"
        ) from error
    if samples is None:
        raise OomguardError(
            f"{printable(options.state_dir)}/{FILE}: nothing is recorded there",
            hint="start the daemon (systemctl start oomguard); the policy must not have recorder: off",
        )
    if not samples:
        raise OomguardError(
            f"{printable(options.state_dir)}/{FILE}: nothing is recorded there yet",
            hint="the daemon takes a sample at each pass; oomguard status shows whether it runs",
        )
    now, booted = time.time(), time.monotonic()
    has_slept = time.clock_gettime(time.CLOCK_BOOTTIME) - booted > _SLEPT_SECONDS
    samples = redated(samples, now, booted, has_slept=has_slept)
    if options.since is not None:
        samples = [one for one in samples if one.at >= now - options.since]
    if options.json:
        from oomguard.report.change_document import print_json

        print_json(recording_document(samples))
    elif options.html is not None:
        from oomguard.report.output_file import write_page
        from oomguard.report.recording_page import recording_page

        write_page(options.html, recording_page(samples))
    elif samples:
        from oomguard.report.recording_table import print_recording

        print_recording(samples)
    else:
        print("Nothing was recorded in that time.")
    return 0


VERB = Verb(
    "history",
    "show what used memory and which processes grew",
    _DETAIL,
    _arguments,
    _run,
    joined_times,
)
