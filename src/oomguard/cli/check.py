"""`oomguard check`: whether the policy is valid, and wise."""

from typing import TYPE_CHECKING

from oomguard.policy.fault import PolicyError, render_json, render_text
from oomguard.policy.load import load

if TYPE_CHECKING:
    import argparse

BAD_POLICY = 78


def run(options: "argparse.Namespace") -> int:
    """Report every fault and warning of every file at once."""
    try:
        loaded = load(options.policy, host=options.host)
    except PolicyError as error:
        faults = error.faults
        valid = False
    else:
        faults = loaded.warnings
        valid = not (options.strict and faults)
    if options.json:
        print(render_json(faults))
    elif faults:
        print(render_text(faults))
    if valid and not options.json:
        policy = loaded.policy
        counted = f"{len(policy.rules)} rules, {len(policy.sysctls)} sysctls"
        print(f"{options.policy}: valid ({counted}; {', '.join(policy.files)})")
    return 0 if valid else BAD_POLICY
