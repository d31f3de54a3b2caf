"""`oomguard import`: convert another tool's settings to a policy."""

import importlib
import sys
from typing import TYPE_CHECKING

from oomguard.core.policy import counted
from oomguard.propose.draft import render, valid
from oomguard.propose.draft_document import FORMAT, import_document
from oomguard.propose.importers.files import ForeignError
from oomguard.report.document import print_json

if TYPE_CHECKING:
    import argparse


def run(options: "argparse.Namespace") -> int:
    """Print the policy, and on stderr how many rules and notes it has; or print JSON."""
    module = importlib.import_module(f"oomguard.propose.importers.{options.tool}")
    arguments = [word for word in options.source if word.startswith("-")]
    if options.tool == "earlyoom" and arguments:
        draft = module.import_arguments(options.source)
    elif arguments:
        raise ForeignError(f"{options.tool} takes files, not {arguments[0]}")
    else:
        draft = module.import_files(options.source)
    draft = valid(draft)
    if options.json:
        print_json({"format": FORMAT, "tool": options.tool, **import_document(draft)})
        return 0
    sys.stdout.write(render(draft))
    rules, left_out = (
        counted(len(draft.rules), "rule"),
        counted(len(draft.notes), "setting") if draft.notes else "nothing",
    )
    print(
        f"oomguard: {rules}, {left_out} left out; review them, then run: "
        "oomguard check --policy FILE && oomguard plan --policy FILE",
        file=sys.stderr,
    )
    return 0
