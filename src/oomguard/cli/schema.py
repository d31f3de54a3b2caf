"""`oomguard schema`: the JSON Schema of the policy."""

import json
from typing import TYPE_CHECKING

from oomguard.policy.schema import json_schema

if TYPE_CHECKING:
    import argparse


def run(_options: "argparse.Namespace") -> int:
    """Print it."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
