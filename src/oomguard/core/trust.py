"""Which processes a rule may protect: every process chooses its own name.

A user could get protection by giving a program a protected name. So a rule that lowers a value and
matches only what the process itself chose needs something that only root decides.
"""

from enum import IntEnum

from oomguard.core.cgroup import in_system_service, is_system_service
from oomguard.core.decide import Refusal
from oomguard.core.match import is_called
from oomguard.core.process import Facts, UnknownFactError
from oomguard.core.rule import VOUCHING, Rule
from oomguard.core.text import any_of

NOBODY = 65534

DYNAMIC_UIDS = range(61184, 65520)
"""The uids that systemd gives to services with DynamicUser= (systemd's UIDS-GIDS)."""

_VOUCHING = any_of(row.key for row in VOUCHING)
_INSTEAD_OF_CGROUP = any_of(row.key for row in VOUCHING if row.key != "cgroup")


class ControlledBy(IntEnum):
    """Who controls a process. If there are few places, lower numbers get them first."""

    ROOTS = 0
    A_SERVICES = 1
    ANYBODYS = 2


def trust_refusal(rule: Rule, process: Facts, *, own: int, first_person_uid: int) -> Refusal | None:
    """Return why a rule must not set the value of a process, which is `own` without oomguard, or None.

    Only protection needs trust. Facts are read from cheap to expensive, and only if they matter.
    """
    terms = rule.terms
    if terms.value.wanted(own) >= own or terms.trust == "name" or is_trusted(process, first_person_uid):
        return None
    if terms.units:
        # Only root chooses a system unit, and the rule says which one counts. Into one with Delegate=,
        # systemd moves processes of its user (AttachProcessesToUnit), who controls what runs there anyway.
        return None
    if terms.cgroups and process.cgroup_is_roots:
        return None
    if terms.uids:
        refusal = _switch_refusal(process, terms.uids)
        is_by_exe = refusal is not None and terms.exes and _impostor_refusal(process) is None
        return None if is_by_exe else refusal
    if terms.exes:
        return _impostor_refusal(process)
    program = process.program
    if program is not None and program.only_root_changes and is_called(program.path, rule.names):
        return None
    if terms.cgroups:
        return Refusal(
            f"uid {process.uid} could create a cgroup with any name: root does not own the one above it",
            f"add {_INSTEAD_OF_CGROUP} to the rule, or trust: name to trust the cgroup's name alone",
        )
    return Refusal(
        f"uid {process.uid} could give any program this name",
        f"add {_VOUCHING} to the rule, or trust: name to trust the name alone",
    )


def is_trusted(process: Facts, first_person_uid: int) -> bool:
    """Return whether a process is root's, or a system user's in a system service.

    The real and the saved uid count: a setuid program has its caller's real uid, and the caller chooses its
    name; a root daemon that works as a user for a moment keeps both. Uids of people do not count, because
    their cron and at jobs run inside a system service. In a nested PID namespace, root may be a container's,
    even if `in_container` cannot tell because parents have ended.
    """
    if process.in_pid_namespace:
        return is_system_service(process.cgroup) and is_of_services(process, first_person_uid)
    if process.uid == process.saved_uid == 0 and not process.in_user_namespace:
        return True
    return in_system_service(process.cgroup) and is_of_services(process, first_person_uid)


def controlled_by(process: Facts, first_person_uid: int) -> ControlledBy:
    """Return who can make more processes like this one: only root, a system service, or anybody.

    Anybody, if its user made it too slow to read.
    """
    try:
        if not is_trusted(process, first_person_uid):
            return ControlledBy.ANYBODYS
    except UnknownFactError:
        return ControlledBy.ANYBODYS
    return ControlledBy.ROOTS if process.uid == 0 else ControlledBy.A_SERVICES


def is_of_services(process: Facts, first_person_uid: int) -> bool:
    """Return whether all uids that a process can have are of services, and not of people."""
    uids = {process.uid, process.saved_uid}
    if all(uid < first_person_uid or uid == NOBODY for uid in uids):
        return True
    # A directory service may give people uids of this range: systemd knows which it allocated.
    return len(uids) == 1 and process.uid in DYNAMIC_UIDS and process.has_dynamic_uid


def _switch_refusal(process: Facts, uids: tuple[int, ...]) -> Refusal | None:
    if process.saved_uid in (0, *uids):
        return None
    if process.uid not in uids:
        return Refusal(
            f"uid {process.uid} is a subordinate uid of that user, so any program may run under it",
            "name that uid in the rule, or `unit`",
        )
    return Refusal(
        f"it runs as uid {process.uid} and can become uid {process.saved_uid}, which the rule does not name",
        "add that user, `unit` or `exe` to the rule",
    )


def _impostor_refusal(process: Facts) -> Refusal | None:
    program = process.program
    if program is not None and program.is_hosts:
        return None
    return Refusal(
        "its executable is not the file at that path on this host: it was replaced,"
        " or the process has its own mounts",
        "if it was upgraded, restart it; if it runs in a container, add `user` or `unit` to the rule",
    )
