"""`oomguard check`: whether the policy is valid, and wise."""

import os
from typing import TYPE_CHECKING

from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl import read_sysctl
from oomguard.policy.fault import Fault, PolicyError, render_json, render_text
from oomguard.policy.load import load

if TYPE_CHECKING:
    import argparse

    from oomguard.core.policy import Policy

BAD_POLICY = 78


def run(options: "argparse.Namespace") -> int:
    """Report every fault and warning of every file at once."""
    try:
        loaded = load(options.policy, host=options.host)
    except PolicyError as error:
        faults: tuple[Fault, ...] = error.faults
        valid = False
    else:
        missing = _missing_sysctls(loaded.policy, options.proc) if options.host else []
        faults = (*missing, *loaded.warnings)
        valid = not missing and not (options.strict and faults)
    if options.json:
        print(render_json(faults))
    elif faults:
        print(render_text(faults))
    if valid and not options.json:
        policy = loaded.policy
        print(f"{options.policy}: valid, {policy.origin}")
    return 0 if valid else BAD_POLICY


def _missing_sysctls(policy: "Policy", proc_root: str) -> list[Fault]:
    """Return a fault for each sysctl that this kernel does not have."""
    procfs = Procfs(proc_root)
    try:
        return [
            Fault(
                setting.file,
                setting.line,
                1,
                setting.name,
                f"this kernel ({os.uname().release}) has no such sysctl",
                "remove it from the policy of this host; the daemon passes it over",
                code="missing-sysctl",
            )
            for setting in policy.sysctls
            if read_sysctl(procfs, setting.name) is None
        ]
    finally:
        procfs.close()
