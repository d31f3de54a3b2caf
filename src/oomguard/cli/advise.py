"""`oomguard advise`: suggest a policy from this host's memory use and running programs."""

import pwd
import sys
import time
from typing import TYPE_CHECKING

from oomguard.cli.host import open_procfs, peak_source, read_status
from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import KNOBS
from oomguard.core.process import Identity, UnknownFactError, full_name
from oomguard.core.sysctl import KUBELET
from oomguard.core.trust import is_of_services
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.kernel.sysctl import observe_memory, read_sysctl
from oomguard.policy import login_defs
from oomguard.propose.advice import MAPS, PANIC, PANIC_ON_OOM, Facts, Peak, Running, advise
from oomguard.propose.draft import render, valid
from oomguard.propose.draft_document import FORMAT, findings_document
from oomguard.report.document import print_json
from oomguard.report.status_file import StatusError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from oomguard.kernel.procfs import Procfs

_SYSCTLS = dict.fromkeys((*KNOBS, PANIC_ON_OOM, PANIC, *KUBELET, MAPS))


def run(options: "argparse.Namespace") -> int:
    """Print the policy, or its findings as JSON."""
    procfs = open_procfs(options)
    memory = observe_memory(procfs)
    if memory is None:
        raise OomguardError(
            f"{procfs.root}/meminfo is missing, and advise needs it",
            hint="proc is mounted with subset=pid; use --proc with another mount",
        )
    sysctls = {name: value for name in _SYSCTLS if (value := read_sysctl(procfs, name)) is not None}
    facts = Facts(
        memory,
        sysctls,
        tuple(_running(procfs)),
        peak=_peak(options.state_dir, procfs),
        lasting=peak_source(options.state_dir)(),
    )
    draft = valid(advise(facts))
    if options.json:
        print_json({"format": FORMAT, "host": _host(facts), **findings_document(draft)})
    else:
        sys.stdout.write(render(draft))
    return 0


def _host(facts: Facts) -> dict[str, int | str | None]:
    """Return the figures that the findings go by."""
    memory, peak, lasting = facts.memory, facts.peak, facts.lasting
    return {
        "total_bytes": memory.total_kib * 1024,
        "swap_bytes": memory.swap_total_kib * 1024,
        "huge_page_bytes": memory.hugetlb_kib * 1024,
        "committed_bytes": memory.committed_kib * 1024,
        "committed_peak_bytes": None if peak is None else peak.committed_kib * 1024,
        "peak_seconds": None if peak is None else int(peak.seconds),
        "lasting_peak_bytes": None if lasting is None else lasting.committed_kib * 1024,
        "lasting_peak_day": None if lasting is None else lasting.day,
    }


def _peak(state_dir: str, procfs: "Procfs") -> Peak | None:
    """Return the peak that a running daemon measured, None if there is none."""
    try:
        status = read_status(state_dir)
    except StatusError as error:
        print(f"oomguard: {error}; the peak of promised memory is not known", file=sys.stderr)
        return None
    if status is None or not procfs.is_alive(Identity(status.pid, status.start_time_ticks)):
        return None
    if status.committed_peak_kib <= 0:
        return None
    return Peak(status.committed_peak_kib, time.time() - status.started_at)


def _running(procfs: "Procfs") -> "Iterator[Running]":
    first_person = login_defs.first_person_uid()
    for handle in procfs.processes():
        try:
            if handle.stat.is_kernel_thread or handle.stat.is_zombie:
                continue
            name = full_name(handle.comm, handle.arguments).decode("utf-8", "replace")
            cmdline = b" ".join(handle.arguments).decode("utf-8", "replace")
            is_service = is_of_services(handle, first_person)
            yield Running(name, _user(handle.uid), is_service, handle.in_container, cmdline)
        except (*GONE, HIDDEN, UnknownFactError):
            continue


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
