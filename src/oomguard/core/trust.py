"""Whom a rule may protect: a process name is whatever the process says it is.

Immunity from the OOM killer is worth stealing, so a rule that lowers a value and knows a process only by
what that process chose takes effect only where the administrator vouches for it.
"""

from enum import IntEnum
from typing import TYPE_CHECKING

from oomguard.core.cgroup import in_system_service
from oomguard.core.commit import Refusal
from oomguard.core.match import is_called

if TYPE_CHECKING:
    from oomguard.core.policy import Rule
    from oomguard.core.process import Facts

SYSTEM_UID_MAX = 999
"""Users above are people (systemd's UIDS-GIDS; UID_MIN of login.defs(5)), but for these:"""

DYNAMIC_UIDS = range(61184, 65535)
"""DynamicUser= of systemd, and nobody. People of systemd-homed are below, subordinate uids above."""


class Standing(IntEnum):
    """Whose a process is. Where places are few, a lower number takes one before a higher."""

    ROOTS = 0
    A_SERVICES = 1
    ANYBODYS = 2


def trust_refusal(rule: "Rule", process: "Facts", *, own: int, wanted: int) -> Refusal | None:
    """Return why a rule must not give a process `wanted` instead of its `own` value, or None.

    Only what protects takes trust. Facts are read from cheap to dear, and only when they matter.
    """
    terms = rule.terms
    if wanted >= own or terms.trust == "name" or is_vouched_for(process):
        return None
    if terms.units or terms.cgroups:
        return None  # a process cannot choose where it lives, and the rule says which place counts
    if terms.uids:
        return _setuid_refusal(process)
    if terms.exes:
        return _impostor_refusal(process)
    if process.is_setuid:
        return _setuid_refusal(process)
    program = process.program
    if program is not None and program.only_root_changes and is_called(program.path, rule.names):
        return None
    return Refusal(
        f"uid {process.uid} may call any program that name: it is neither root's"
        " nor a system user's in a system service",
        "add `user`, `unit`, `exe` or `cgroup` to the rule, or `trust: name` to take the name's word",
    )


def is_vouched_for(process: "Facts") -> bool:
    """Tell whether it is root's, or a system user's in a system service.

    A setuid program has root's uid and the name of the link it was called by, which is its caller's
    choice. And what people schedule with cron or at runs inside a system service.
    """
    if not is_system_uid(process.uid) or process.is_setuid:
        return False
    if process.uid == 0 and not process.in_user_namespace:
        return True
    return in_system_service(process.cgroup)


def standing(process: "Facts") -> Standing:
    """Return who can make more processes like this one: only root, a system service, or anybody."""
    if not is_vouched_for(process):
        return Standing.ANYBODYS
    return Standing.ROOTS if process.uid == 0 else Standing.A_SERVICES


def is_system_uid(uid: int) -> bool:
    """Tell whether a uid is of a service, and not of a person."""
    return uid <= SYSTEM_UID_MAX or uid in DYNAMIC_UIDS


def _setuid_refusal(process: "Facts") -> Refusal | None:
    if not process.is_setuid:
        return None
    return Refusal(
        f"it is a setuid program: it runs as uid {process.uid}, and somebody else started it",
        "who starts it chooses its name: add `unit`, `exe` or `cgroup` to the rule, or leave it out",
    )


def _impostor_refusal(process: "Facts") -> Refusal | None:
    program = process.program
    if program is not None and program.is_hosts:
        return None
    return Refusal(
        "its executable is not the file of that path on this host: it was replaced,"
        " or the process has mounts of its own",
        "restart the process if it was upgraded; add `user`, `unit` or `cgroup` if it lives in a container",
    )
