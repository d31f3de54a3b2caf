"""The state of the daemon: its status file and the kernel's current values."""

from collections.abc import Sequence
from contextlib import closing

from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import MODE
from oomguard.core.policy import Policy
from oomguard.diagnose.this_host import ThisHost
from oomguard.kernel.sysctl_files import observe_memory, read_sysctl
from oomguard.reconcile.state_folder import lock_holder
from oomguard.report.problems import HostStatus
from oomguard.report.status_file import SysctlStatus


def observe_status(policy: str, host: ThisHost) -> HostStatus:
    """Read the status file, and the current values of the sysctls in it or in the policy."""
    status, damage = None, ""
    try:
        status = host.read_status()
    except OomguardError as error:  # still show the kernel's values
        damage = error.for_stderr
    declared: Sequence[SysctlStatus] = ()
    unusable = None
    with closing(host.open_procfs()) as procfs:
        daemon = status if status is not None and procfs.is_alive(status.identity) else None
        if daemon is not None:
            declared = daemon.sysctls
        else:
            try:
                declared = _declared(policy, host)
            except OomguardError as error:
                unusable = error
        sysctls = [(row, read_sysctl(procfs, row.name)) for row in declared]
        holder = None if daemon is not None else lock_holder(host.state_dir, procfs)
        memory, mode = observe_memory(procfs), read_sysctl(procfs, MODE)
    return HostStatus(status, daemon, sysctls, memory, mode, host.peak_source()(), damage, unusable, holder)


def values_in_force(host: ThisHost) -> int | OomguardError:
    """Return how many values a restore would change or cannot see, or why that cannot be known."""
    try:
        preview = host.open_preview(Policy(), needs_ledger=True)
    except OomguardError as error:
        return error
    with closing(preview):
        changes = (one.change("restore") for _, one in preview.processes() if one is not None)
        seen = len(preview.sysctl_changes("restore")) + sum(change is not None for change in changes)
        return seen + preview.hidden + len(preview.unreadable)


def _declared(policy: str, host: ThisHost) -> Sequence[SysctlStatus]:
    sysctls = host.load(policy).sysctls
    return [SysctlStatus(one.name, one.value, one.value, one.source, one.kind, one.said) for one in sysctls]
