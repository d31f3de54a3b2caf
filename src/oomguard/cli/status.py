"""`oomguard status`: whether the daemon runs, what it manages, and its problems."""

import sys
from typing import TYPE_CHECKING, NamedTuple

from oomguard.cli.host import open_preview, peak_source, read_status
from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import MODE, Memory, Peak
from oomguard.core.policy import Policy
from oomguard.core.process import Identity
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl import observe_memory, read_sysctl
from oomguard.reconcile.state_folder import state_dir_option
from oomguard.report.document import print_json
from oomguard.report.status_document import Document, StatusError

if TYPE_CHECKING:
    import argparse

NOT_AS_WANTED = 1


class Look(NamedTuple):
    """The daemon's status file and the kernel's current values. `damage`: why there is no document."""

    document: Document | None
    is_running: bool
    sysctls: list[Document]
    memory: Memory | None
    mode: int | None
    peak: Peak | None
    damage: str

    @property
    def is_as_wanted(self) -> bool:
        """Whether the daemon runs with the policy on disk, and everything is as it wants."""
        document = self.document
        return (
            self.is_running
            and document is not None
            and not (document["policy"]["errors"] or document["complaints"] or document["contended"])
            and all(row["actual"] in (row["wanted"], row["granted"]) for row in self.sysctls)
        )


def run(options: "argparse.Namespace") -> int:
    """Show the daemon's status file and the kernel's current values."""
    seen = look(options)
    if options.json:
        print_json(
            {
                "running": seen.is_running,
                "sysctls": seen.sysctls,
                "memory": None if seen.memory is None else seen.memory._asdict(),
                "peak": None if seen.peak is None else seen.peak._asdict(),
                "daemon": seen.document,
            }
        )
    else:
        from oomguard.report.status_table import print_status, print_stopped

        if seen.is_running and seen.document is not None:
            print_status(seen.document, seen.sysctls, seen.memory, seen.mode, seen.peak)
        else:
            in_force, option = values_in_force(options), state_dir_option(options.state_dir)
            print_stopped(in_force, seen.sysctls, seen.memory, seen.mode, seen.peak, option)
    if seen.damage:
        print(seen.damage, file=sys.stderr)
        return 1
    return NOT_AS_WANTED if options.exit_code and not seen.is_as_wanted else 0


def look(options: "argparse.Namespace") -> Look:
    """Read the status file, and the current values of the sysctls in it or in the policy."""
    procfs = Procfs(options.proc)
    document, damage = None, ""
    try:
        document = read_status(options.state_dir)
    except StatusError as error:  # still show the kernel's values
        damage = error.for_stderr
    is_running = document is not None and procfs.is_alive(
        Identity(document["pid"], document["start_time_ticks"])
    )
    sysctls = [
        row | {"actual": read_sysctl(procfs, row["name"])}
        for row in (document["sysctls"] if document is not None else _declared(options))
    ]
    memory, mode = observe_memory(procfs), read_sysctl(procfs, MODE)
    return Look(document, is_running, sysctls, memory, mode, peak_source(options.state_dir)(), damage)


def values_in_force(options: "argparse.Namespace") -> int | None:
    """Return how many values a restore would change; None if this user may not read the ledger."""
    try:
        preview = open_preview(options, Policy(), needs_ledger=True)
    except OomguardError:
        return None
    changes = (judged.change("restore") for _, judged in preview.processes() if judged is not None)
    return len(preview.sysctl_changes("restore")) + sum(change is not None for change in changes)


def _declared(options: "argparse.Namespace") -> list[Document]:
    from oomguard.policy.fault import PolicyError
    from oomguard.policy.load import load

    try:
        policy = load(options.policy).policy
    except PolicyError:
        return []
    return [
        {"name": one.name, "wanted": one.value, "granted": one.value, "source": one.source}
        for one in policy.sysctls
    ]
