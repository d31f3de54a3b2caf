"""`oomguard advise`: suggest a policy from this host's memory use and running programs."""

import argparse
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from oomguard.cli.verb import Verb, add

if TYPE_CHECKING:
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.kernel.procfs import Procfs
    from oomguard.propose.advice import PeakSinceStart

_DETAIL = """\
Reads RAM, swap, huge pages, promised memory and its peak, and which running
programs are known to need an overcommit mode. Each line states its reason. If
facts are missing, or two programs need different modes, it suggests nothing and
explains why. Changes nothing.

examples:
  oomguard advise
  oomguard advise > candidate.yaml; oomguard plan --policy candidate.yaml

exit codes: 0 done, 1 this host's memory use cannot be read
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--state-dir", "--proc", "--json")


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.this_host import ThisHost, warn_if_hidden
    from oomguard.propose.advice import advise, host_document
    from oomguard.propose.mend import valid
    from oomguard.propose.observed import observe_facts
    from oomguard.propose.policy_draft import FORMAT, findings_document, render
    from oomguard.report.change_document import print_json
    from oomguard.report.streams import in_utf8

    host = ThisHost(options.state_dir, options.proc)
    with closing(host.open_procfs()) as procfs:
        warn_if_hidden(procfs)
        facts = observe_facts(procfs)
        peak = _peak(host, procfs, facts.memory.committed_kib)
        facts = facts._replace(peak=peak, lasting=host.peak_source()())
    draft = valid(advise(facts))
    if options.json:
        print_json({"format": FORMAT, "host": host_document(facts), **findings_document(draft)})
    else:
        in_utf8()
        sys.stdout.write(render(draft))
    return 0


def _peak(host: "ThisHost", procfs: "Procfs", now_kib: int) -> "PeakSinceStart | None":
    """Return the peak that a running daemon measured, or what is promised now; None without a daemon."""
    from oomguard.propose.advice import PeakSinceStart
    from oomguard.report.status_reader import StatusError
    from oomguard.report.streams import complain

    try:
        status = host.read_status()
    except StatusError as error:
        complain(f"oomguard: {error}; the peak of promised memory is not known")
        return None
    if status is None or not procfs.is_alive(status.identity) or status.committed_peak_kib <= 0:
        return None
    return PeakSinceStart(max(status.committed_peak_kib, now_kib), time.time() - status.started_at)


VERB = Verb(
    "advise", "suggest a policy from this host's memory use and running programs", _DETAIL, _arguments, _run
)
