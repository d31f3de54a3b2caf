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
from oomguard.report.status_file import StatusError, StatusFile, SysctlStatus, as_document

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

NOT_AS_WANTED = 1


class Look(NamedTuple):
    """The daemon's status file and the kernel's current values. `damage`: why there is no status."""

    status: StatusFile | None
    is_running: bool
    sysctls: list[tuple[SysctlStatus, int | None]]
    """Each with its current value; None if this kernel lacks it."""
    memory: Memory | None
    mode: int | None
    peak: Peak | None
    damage: str

    @property
    def is_as_wanted(self) -> bool:
        """Whether the daemon runs with the policy on disk, and everything is as it wants."""
        status = self.status
        return (
            self.is_running
            and status is not None
            and not (status.policy.errors or status.complaints or status.contended)
            and all(actual in (row.wanted, row.granted) for row, actual in self.sysctls)
        )


def run(options: "argparse.Namespace") -> int:
    """Show the daemon's status file and the kernel's current values."""
    seen = look(options)
    if options.json:
        print_json(
            {
                "running": seen.is_running,
                "sysctls": [as_document(row) | {"actual": actual} for row, actual in seen.sysctls],
                "memory": None if seen.memory is None else seen.memory._asdict(),
                "peak": None if seen.peak is None else seen.peak._asdict(),
                "daemon": None if seen.status is None else as_document(seen.status),
            }
        )
    else:
        from oomguard.report.status_table import print_status, print_stopped

        if seen.is_running and seen.status is not None:
            print_status(seen.status, seen.sysctls, seen.memory, seen.mode, seen.peak)
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
    status, damage = None, ""
    try:
        status = read_status(options.state_dir)
    except StatusError as error:  # still show the kernel's values
        damage = error.for_stderr
    is_running = status is not None and procfs.is_alive(Identity(status.pid, status.start_time_ticks))
    declared = _declared(options) if status is None else status.sysctls
    sysctls = [(row, read_sysctl(procfs, row.name)) for row in declared]
    memory, mode = observe_memory(procfs), read_sysctl(procfs, MODE)
    return Look(status, is_running, sysctls, memory, mode, peak_source(options.state_dir)(), damage)


def values_in_force(options: "argparse.Namespace") -> int | None:
    """Return how many values a restore would change; None if this user may not read the ledger."""
    try:
        preview = open_preview(options, Policy(), needs_ledger=True)
    except OomguardError:
        return None
    changes = (judged.change("restore") for _, judged in preview.processes() if judged is not None)
    return len(preview.sysctl_changes("restore")) + sum(change is not None for change in changes)


def _declared(options: "argparse.Namespace") -> "Sequence[SysctlStatus]":
    from oomguard.policy.fault import PolicyError
    from oomguard.policy.load import load

    try:
        policy = load(options.policy).policy
    except PolicyError:
        return []
    return [SysctlStatus(one.name, one.value, one.value, one.source) for one in policy.sysctls]
