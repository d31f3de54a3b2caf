"""The only place that writes to the kernel."""

import errno
import os
from typing import TYPE_CHECKING

from oomguard.core.plan import Entry, Outcome, SetOomScoreAdj, SetSysctl
from oomguard.core.protection import JUST_BELOW_ZERO, home_service
from oomguard.core.sysctl import SYSCTLS
from oomguard.kernel.procfs import GONE
from oomguard.kernel.sysctl import read_sysctl, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.kernel.floor import Privilege
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.ledger import Ledger


_NO_FOLDER = (
    "the state folder was removed and cannot be made anew here: what could not be put back is not changed",
    "systemctl restart oomguard",
)


def apply_sysctl(change: SetSysctl, procfs: "Procfs", ledger: "Ledger") -> Outcome:
    """Write one sysctl, after its original value is in the ledger."""
    if change.refusal is not None:
        return Outcome(change, "refused", 0, *change.refusal)
    restoring = change.cause == "restore"
    partner = SYSCTLS[change.name].partner
    try:
        if not restoring:
            is_first = change.name not in ledger.sysctls
            _record_sysctl(change.name, change.before, change.after, ledger)
            beside = read_sysctl(procfs, partner) if partner else None
            # The kernel zeroes it. What somebody put there since our first write is not its original.
            if beside and (is_first or partner in ledger.sysctls):
                _record_sysctl(partner, beside, 0, ledger)
        write_sysctl(procfs, change.name, change.after)
    except OSError as error:
        return Outcome(change, "denied", error.errno or 0, *_sysctl_reason(change, error))
    if restoring:
        ledger.forget_sysctl(change.name)
        ledger.forget_sysctl(partner)
    return Outcome(change, "applied")


def apply_oom_score_adj(
    change: SetOomScoreAdj,
    handle: "ProcessHandle",
    ledger: "Ledger",
    *,
    now_ticks: int,
    privilege: "Privilege",
) -> Outcome:
    """Write one process's value through its descriptor, after its own value is in the ledger."""
    if change.refusal is not None:
        return Outcome(change, "refused", 0, *change.refusal)
    known = ledger.process(change.identity)
    try:
        if _is_another(change, handle):
            return Outcome(change, "vanished", errno.ESRCH)
        if change.rule is None:
            # It may be below its floor: a write of somebody else's, such as root's with choom, moves that up.
            _write(change.after, handle, privilege, moves_floor=change.moved_floor)
        else:
            _give(change, known, handle, ledger, now_ticks, privilege)
    except GONE:
        ledger.forget_process(change.identity.pid)
        return Outcome(change, "vanished", errno.ESRCH)
    except OSError as error:
        if known is None:
            ledger.strike_process(change.identity.pid)
        return Outcome(change, "denied", error.errno or 0, *_process_reason(error))
    if change.rule is None:
        ledger.strike_process(change.identity.pid)
    return Outcome(change, "applied")


def take_floor(handle: "ProcessHandle", privilege: "Privilege") -> Outcome | None:
    """Move a process's floor up to 0 if it is below; None if it is not, or if that cannot be known.

    The kernel shows it nowhere, but refuses to write less without CAP_SYS_RESOURCE.
    """
    if privilege.moves_every_floor:
        return None
    try:
        value = handle.read_oom_score_adj()
        handle.write_oom_score_adj(JUST_BELOW_ZERO)
    except OSError:
        return None  # as for every ordinary process
    change = SetOomScoreAdj(
        handle.identity, handle.comm, value, value, value, "restore", moved_floor=True, inherited=True
    )
    try:
        _write(min(0, value), handle, privilege, moves_floor=True)
        _write(value, handle, privilege, moves_floor=False)
    except GONE:
        return Outcome(change, "vanished", errno.ESRCH)
    except OSError as error:
        return Outcome(change, "denied", error.errno or 0, *_process_reason(error))
    return Outcome(change, "applied")


def _is_another(change: SetOomScoreAdj, handle: "ProcessHandle") -> bool:
    """Tell whether what was decided on is there no more, so that it is to be looked at anew.

    What a rule asks for, no new value puts off; nor is a floor left to who moves its value in time.
    """
    if change.rule is not None:
        return handle.read_comm() != change.comm
    return not change.moved_floor and handle.read_oom_score_adj() != change.before


def _give(
    change: SetOomScoreAdj,
    known: Entry | None,
    handle: "ProcessHandle",
    ledger: "Ledger",
    now_ticks: int,
    privilege: "Privilege",
) -> None:
    """Write what a rule asks for, first in the ledger and then to the process."""
    moved_floor = change.moved_floor or privilege.moves_every_floor
    entry = _entry(known, change.own, change.before, change.after)
    entry = entry._replace(since_ticks=now_ticks, moved_floor=moved_floor)
    if moved_floor and change.after >= change.own and not privilege.moves_every_floor:
        # It is lowered no more: its own floor comes back, and this one leaves it alone.
        _write(change.own, handle, privilege, moves_floor=True)
        entry = entry._replace(moved_floor=False)
    if (
        change.rule is not None
        and change.rule.terms.children == "reset"
        and change.after < min(0, change.own)
    ):
        ledger.record_protection(change.after, home_service(handle.cgroup), change.own, now_ticks)
    if known is None or known.given != change.after or known.moved_floor != entry.moved_floor:
        ledger.record_process(change.identity, entry)
    _write(
        change.after,
        handle,
        privilege,
        moves_floor=entry.moved_floor,
        before_raising=lambda: ledger.record_process(change.identity, entry._replace(moved_floor=True)),
    )


def _write(
    value: int,
    handle: "ProcessHandle",
    privilege: "Privilege",
    *,
    moves_floor: bool,
    before_raising: "Callable[[], None]" = lambda: None,
) -> None:
    """Write a value, and the floor with it if `moves_floor`, or if it is below the one there is.

    Then the privilege is raised for what was tried in vain without, after `before_raising`.
    """
    if moves_floor:
        with privilege.raised():
            handle.write_oom_score_adj(value)
        return
    try:
        handle.write_oom_score_adj(value)
    except PermissionError as error:
        if not _is_below_floor(error):
            raise
        with privilege.raised() as is_raised:
            if not is_raised:
                raise
            before_raising()
            handle.write_oom_score_adj(value)


def _record_sysctl(name: str, before: int, after: int, ledger: "Ledger") -> None:
    known = ledger.sysctls.get(name)
    if known is None or known.given != after:
        ledger.record_sysctl(name, _entry(known, before, before, after))


def _entry(known: Entry | None, own: int, before: int, after: int) -> Entry:
    """Return the entry for a write of `after` over `before`, which stays ours if the write fails."""
    if known is None:
        return Entry(own, after)
    return Entry(known.original, after, before if known.is_ours(before) else None)


def _sysctl_reason(change: SetSysctl, error: OSError) -> tuple[str, str]:
    match error.errno:
        case errno.EACCES:
            return "permission denied", "sysctls of the host may be written by root only"
        case errno.EPERM:
            return "operation not permitted", "this sysctl takes CAP_SYS_RAWIO"
        case errno.EROFS:
            return (
                "/proc/sys is read-only here",
                "run on the host, not in a container; in a unit, ReadWritePaths= must name it",
            )
        case errno.EINVAL:
            return f"this kernel does not take {change.after}", SYSCTLS[change.name].summary
        case errno.ENOENT:
            return "this kernel has no such sysctl", "remove it from the policy of this host"
        case errno.ESTALE:
            return _NO_FOLDER
        case _:
            return os.strerror(error.errno or errno.EIO), ""


def _is_below_floor(error: OSError) -> bool:
    # Only open() names a file in its error: there the owner counts, at the write the floor does.
    return error.errno == errno.EACCES and error.filename is None


def _process_reason(error: OSError) -> tuple[str, str]:
    if _is_below_floor(error):
        return (
            "the value is below the process's floor",
            "lowering below what the process may give itself takes CAP_SYS_RESOURCE",
        )
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return "the process belongs to another user", "writing another user's takes CAP_DAC_OVERRIDE"
        case errno.EROFS:
            return "/proc is read-only here", "run where /proc is mounted writable"
        case errno.ESTALE:
            return _NO_FOLDER
        case _:
            return os.strerror(error.errno or errno.EIO), ""
