"""The only place that changes managed values."""

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from oomguard.core.change import Outcome, SetOomScoreAdj, SetSysctl
from oomguard.core.decide import TO_LOWER, Refusal
from oomguard.core.entry import Entry, intended
from oomguard.core.protection import JUST_BELOW_ZERO, home_service
from oomguard.core.rule import Rule
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.typed import NamedTuple
from oomguard.kernel.floor import Privilege
from oomguard.kernel.proc_files import GONE
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.sysctl_files import must_be_writable, read_sysctl, write_sysctl
from oomguard.reconcile.ledger import Ledger

_NO_FOLDER = (
    "the state folder is gone and cannot be created again: oomguard changes nothing it cannot restore",
    "systemctl restart oomguard",
)


class _Step(NamedTuple):
    """One write of a sysctl, and how to undo it: the previous value, and the previous ledger entries.

    `made` is what the kernel set, None if that is not known.
    """

    change: SetSysctl
    made: int | None
    back: tuple[str, int]
    known: dict[str, Entry | None]


def apply_sysctls(
    changes: Sequence[SetSysctl],
    procfs: Procfs,
    ledger: Ledger,
    *,
    refusal_of: Callable[[Sequence[SetSysctl]], Refusal | None],
) -> list[Outcome]:
    """Make the changes of one group in order: all of them, or none.

    Original values are in the ledger first, and each value is read back. `refusal_of` returns why the
    remaining values must not be written, given what the kernel set so far.
    """
    change = changes[0]
    if change.obstacle is not None:  # it is one to its whole group
        return [Outcome(one, "refused", 0, *change.obstacle[1:]) for one in changes]
    steps: list[_Step] = []
    try:
        for change in changes:
            must_be_writable(procfs, change.name)
        for position, change in enumerate(changes):
            refusal = refusal_of(changes[position:])
            if refusal is not None:
                return _take_back(Outcome(change, "refused", 0, *refusal), changes, steps, procfs, ledger)
            steps.append(_write_sysctl(change, procfs, ledger))
            _confirm_made(steps[-1], ledger)
    except OSError as error:
        denied = Outcome(change, "denied", error.errno or 0, *_sysctl_reason(change, error))
        return _take_back(denied, changes, steps, procfs, ledger)
    for step in steps:
        if step.change.cause == "restore":
            for name in step.known:
                ledger.strike(name)
    return [_applied(step) for step in steps]


def _write_sysctl(change: SetSysctl, procfs: Procfs, ledger: Ledger) -> _Step:
    """Write one sysctl, after its original value is in the ledger. OSError: both are unchanged."""
    name, partner = change.name, SYSCTLS[change.name].partner
    known = {one: ledger.entry(one) for one in (name, partner) if one}
    beside = (read_sysctl(procfs, partner) or 0) if partner else 0
    back = (partner, beside) if beside and not change.before else (name, change.before)
    try:
        if change.cause == "restore":
            _intend(known, ledger, restores=True)
        else:
            _record_sysctl(name, change.before, change.after, ledger)
            # The kernel zeroes the partner. A foreign write since our first one is not its original value.
            if beside and (known[name] is None or known[partner] is not None):
                _record_sysctl(partner, beside, 0, ledger)
        return _Step(change, write_sysctl(procfs, name, change.after), back, known)
    except OSError:
        _set_entries(known, ledger)
        raise


def _confirm_made(step: _Step, ledger: Ledger) -> None:
    """Record that a value was written, and what the kernel set."""
    change, entry = step.change, ledger.entry(step.change.name)
    if change.cause == "restore" or entry is None:
        return
    made = None if step.made == change.after else step.made
    is_pending = entry.is_grant_pending and step.made is None
    ledger.set_entry(change.name, entry._replace(made=made, is_grant_pending=is_pending, is_written=True))
    ledger.confirm(SYSCTLS[change.name].partner)


def _intend(names: Iterable[str], ledger: Ledger, *, restores: bool) -> None:
    """Record that sysctls get their previous values, or, if `restores`, their original ones."""
    for name in names:
        entry = ledger.entry(name)
        if entry is not None:
            before = None if restores else entry.given_before
            with suppress(OSError):  # on a full disk it is restored anyway
                ledger.record(name, entry._replace(given_before=before, is_written=False))


def _take_back(
    failure: Outcome,
    changes: Sequence[SetSysctl],
    steps: Sequence[_Step],
    procfs: Procfs,
    ledger: Ledger,
) -> list[Outcome]:
    """Undo the steps, the last first; return the outcome of each change of the group."""
    stuck = {step.change.name for step in reversed(steps) if not _undo(step, procfs, ledger)}
    outcomes = []
    for change in changes:
        reason = failure.reason
        if failure.result == "denied" and change is not failure.change:
            reason = f"changed together with {failure.change.target}, which was denied: {reason}"
        if change.name in stuck:
            reason = f"{reason}; it had been written, and could not be restored"
        outcomes.append(failure._replace(change=change, reason=reason))
    return outcomes


def _undo(step: _Step, procfs: Procfs, ledger: Ledger) -> bool:
    """Undo a step, unless something else wrote since; return whether nothing of it is in force."""
    name, value = step.back
    _intend(step.known, ledger, restores=False)
    made: int | None = value
    try:
        if step.made is None or step.made == read_sysctl(procfs, step.change.name):
            made = write_sysctl(procfs, name, value)
    except OSError:
        made = None
    if made == value:
        _set_entries(step.known, ledger)
        return True
    for one in step.known:
        ledger.confirm(one)
    entry = ledger.entry(name)
    if made is not None and entry is not None:
        ledger.set_entry(name, entry._replace(made=made))
    return False


def _set_entries(known: Mapping[str, Entry | None], ledger: Ledger) -> None:
    for name, entry in known.items():
        ledger.set_entry(name, entry)


def _applied(step: _Step) -> Outcome:
    change, made = step.change, step.made
    if made is None or made == change.after:
        return Outcome(change, "applied")
    why = SYSCTLS[change.name].granted_less if made < change.after else ""
    return Outcome(change, "applied", hint=why, made=made)


def apply_oom_score_adj(
    change: SetOomScoreAdj,
    handle: ProcessHandle,
    ledger: Ledger,
    *,
    now_ticks: int,
    privilege: Privilege,
) -> Outcome:
    """Write one process's value through its descriptor, after its original value is in the ledger."""
    if change.obstacle is not None:
        return Outcome(change, "refused", 0, *change.obstacle[1:])
    known = ledger.entry(change.identity)
    try:
        if change.rule is None:
            # Write the rule's value even if the process changed its own meanwhile; the same for a floor.
            if not change.moved_floor and handle.read_oom_score_adj() != change.before:
                return Outcome(change, "vanished", errno.ESRCH)
            if known is not None:
                with suppress(OSError):  # on a full disk it is restored anyway
                    ledger.record(change.identity, known._replace(given_before=None, is_written=False))
            # It may be below its floor: a foreign write, such as root's with choom, moves the floor up.
            _write(change.after, handle, privilege, moves_floor=change.moved_floor)
            ledger.strike(change.identity)
        else:
            _write_rule(change, change.rule, known, handle, ledger, now_ticks, privilege)
    except GONE:
        ledger.forget_process(change.identity.pid)
        return Outcome(change, "vanished", errno.ESRCH)
    except OSError as error:
        ledger.set_entry(change.identity, known)
        return Outcome(change, "denied", error.errno or 0, *_process_reason(error))
    return Outcome(change, "applied")


def take_floor(handle: ProcessHandle, ledger: Ledger, privilege: Privilege) -> Outcome | None:
    """Raise a process's floor to 0 if it is below; return None if it is not, or if that cannot be known.

    The kernel does not show the floor, but denies lower values without CAP_SYS_RESOURCE.
    """
    if privilege.moves_every_floor:
        return None
    try:
        value, identity = handle.read_oom_score_adj(), handle.identity
    except OSError:
        return None
    known = ledger.entry(identity)
    change = SetOomScoreAdj(
        identity, handle.comm, value, value, value, "restore", moved_floor=True, inherited=True
    )
    try:
        ledger.record(identity, intended(known, value, value, JUST_BELOW_ZERO)._replace(is_written=False))
        try:
            handle.write_oom_score_adj(JUST_BELOW_ZERO)
        except PermissionError:
            return None  # as for every ordinary process
        _write(min(0, value), handle, privilege, moves_floor=True)
        _write(value, handle, privilege, moves_floor=False)
    except GONE:
        return Outcome(change, "vanished", errno.ESRCH)
    except OSError as error:
        return Outcome(change, "denied", error.errno or 0, *_process_reason(error))
    finally:
        ledger.set_entry(identity, known)
    return Outcome(change, "applied")


def _write_rule(
    change: SetOomScoreAdj,
    rule: Rule,
    known: Entry | None,
    handle: ProcessHandle,
    ledger: Ledger,
    now_ticks: int,
    privilege: Privilege,
) -> None:
    """Write a rule's value, first to the ledger and then to the process."""
    moved_floor = change.moved_floor or privilege.moves_every_floor
    entry = intended(known, change.own, change.before, change.after, now_ticks, moved_floor=moved_floor)
    if moved_floor and change.after >= change.own and not privilege.moves_every_floor:
        # The rule no longer lowers it: restore its original value and floor; the next write need not move it.
        _write(change.own, handle, privilege, moves_floor=True)
        entry = entry._replace(moved_floor=False)
    if rule.terms.children == "reset" and change.after < min(0, change.own):
        ledger.record_protection(change.after, home_service(handle.cgroup), change.own, now_ticks)
    same = (entry.given, entry.moved_floor)
    if known is None or not known.is_written or (known.given, known.moved_floor) != same:
        ledger.intend(change.identity, entry)
    _write(
        change.after,
        handle,
        privilege,
        moves_floor=entry.moved_floor,
        before_raising=lambda: ledger.intend(change.identity, entry._replace(moved_floor=True)),
    )


def _write(
    value: int,
    handle: ProcessHandle,
    privilege: Privilege,
    *,
    moves_floor: bool,
    before_raising: Callable[[], None] = lambda: None,
) -> None:
    """Write a value, and the floor too if `moves_floor`, or if the value is below the floor.

    If the kernel denies it because of the floor, call `before_raising` and retry with CAP_SYS_RESOURCE.
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


def _record_sysctl(name: str, before: int, after: int, ledger: Ledger) -> None:
    known = ledger.entry(name)
    is_grant_pending = bool(SYSCTLS[name].granted_less)
    if is_grant_pending or known is None or known.given != after or known.made is not None:
        entry = intended(known, before, before, after, is_grant_pending=is_grant_pending)
        ledger.record(name, entry._replace(is_written=False))


def _sysctl_reason(change: SetSysctl, error: OSError) -> tuple[str, str]:
    match error.errno:
        case errno.EACCES:
            return "only root can write sysctls", "run as root of the host"
        case errno.EPERM:
            return "CAP_SYS_RAWIO is missing", "grant it to oomguard: this sysctl needs it"
        case errno.EROFS:
            return (
                "/proc/sys is read-only here",
                "run on the host, not in a container; in a unit, add the sysctl to ReadWritePaths=",
            )
        case errno.EINVAL:
            return f"this kernel does not accept {change.after}", SYSCTLS[change.name].summary
        case errno.ENOENT:
            return "this kernel has no such sysctl", "remove it from the policy of this host"
        case errno.ESTALE:
            return _NO_FOLDER
        case _:
            return os.strerror(error.errno or errno.EIO), ""


def _is_below_floor(error: OSError) -> bool:
    # Only open() names a file in its error: there the owner matters, at the write the floor does.
    return error.errno == errno.EACCES and error.filename is None


def _process_reason(error: OSError) -> tuple[str, str]:
    if _is_below_floor(error):
        return "the value is below the process's floor (oom_score_adj_min)", TO_LOWER
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return "the process belongs to another user", "run as root, or grant CAP_DAC_OVERRIDE to oomguard"
        case errno.EROFS if error.filename == "oom_score_adj":  # otherwise the ledger is
            return "/proc is read-only here", "run where /proc is mounted writable"
        case errno.ESTALE:
            return _NO_FOLDER
        case _:
            return os.strerror(error.errno or errno.EIO), ""
