"""What the daemon requests for itself, and what it is not allowed to do here."""

import os
from collections.abc import Iterator

from oomguard.core.errors import OomguardError
from oomguard.core.policy import Policy
from oomguard.kernel.capability import (
    CAP_DAC_OVERRIDE,
    CAP_IPC_LOCK,
    CAP_SYS_PTRACE,
    CAP_SYS_RESOURCE,
    has,
    parse_effective,
)
from oomguard.kernel.own import descriptor_limit, lock_pages, raise_descriptor_limit
from oomguard.kernel.procfs import Procfs

LEAST_DESCRIPTORS = 32
"""It works with 18, reloads included; with 17 it seems to run, but sets no values."""


def require_descriptors() -> None:
    """Raise the limit on open files as far as possible; raise an error if that is not enough."""
    raise_descriptor_limit()
    limit = descriptor_limit()
    if limit < LEAST_DESCRIPTORS:
        raise OomguardError(
            f"oomguard needs at least {LEAST_DESCRIPTORS} open files, but the limit is {limit}",
            hint="raise LimitNOFILE= of the unit, or run `ulimit -n`; each watched process needs one more",
        )


def take_rights(procfs: Procfs) -> Iterator[str]:
    """Exempt this process from the OOM killer; yield a sentence for each right that it lacks."""
    effective = parse_effective(procfs.read("self/status"))
    try:
        procfs.write("self/oom_score_adj", b"-1000\n")
    except OSError as error:
        is_right = isinstance(error, PermissionError)
        why = "CAP_SYS_RESOURCE is missing" if is_right else f"its value cannot be set: {error.strerror}"
        yield f"oomguard itself can be killed when memory runs out: {why}"
    if not has(effective, CAP_SYS_RESOURCE):
        yield (
            "no value can be lowered below a process's floor (oom_score_adj_min, mostly 0):"
            " CAP_SYS_RESOURCE is missing"
        )
    if not has(effective, CAP_DAC_OVERRIDE):
        yield "other users' processes cannot be changed: CAP_DAC_OVERRIDE is missing"


def lock_memory(procfs: Procfs) -> Iterator[str]:
    """Keep the memory of this process from being swapped out; yield why it can be, nothing if it cannot."""
    why = lock_pages(privileged=has(parse_effective(procfs.read("self/status")), CAP_IPC_LOCK))
    if why:
        yield f"oomguard can be swapped out: {why}"


def rights_missing_for(policy: Policy, procfs: Procfs) -> Iterator[str]:
    """Yield a sentence for each thing that a policy asks for and this process is not allowed to do."""
    effective = parse_effective(procfs.read("self/status"))
    if not has(effective, CAP_SYS_PTRACE) and any(terms.exes for terms in policy.terms):
        yield "rules with `exe` match no process of other users: CAP_SYS_PTRACE is missing"
    if policy.skipped:
        yield policy.skipped
    if os.geteuid() != 0 and policy.sysctls:
        yield "sysctls cannot be changed: only root can change them"
