"""`oomguard import`: what another tool is told, as a policy."""

import importlib
import sys
from typing import TYPE_CHECKING

from oomguard.core.policy import counted
from oomguard.policy.draft import render_valid
from oomguard.policy.importers.files import ForeignError

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> int:
    """Print the policy on stdout; say on stderr how much of it there is."""
    module = importlib.import_module(f"oomguard.policy.importers.{options.tool}")
    arguments = [word for word in options.source if word.startswith("-")]
    if options.tool == "earlyoom" and arguments:
        draft = module.import_arguments(options.source)
    elif arguments:
        raise ForeignError(f"{options.tool} is read from files; {arguments[0]} is none")
    else:
        draft = module.import_files(options.source)
    text = render_valid(draft)
    sys.stdout.write(text)
    left_out = counted(text.count("\n# - "), "note")
    print(
        f"oomguard: {counted(text.count('  - '), 'rule')}, {left_out} on what was left out; "
        "look at them, then: oomguard check --policy FILE && oomguard plan --policy FILE",
        file=sys.stderr,
    )
    return 0
