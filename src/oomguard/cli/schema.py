"""`oomguard schema`: the JSON Schema of the policy."""

from typing import TYPE_CHECKING

from oomguard.cli.verb import Verb

if TYPE_CHECKING:
    import argparse

_DETAIL = """\
For completion and checks while you type. Editors with yaml-language-server find
it through the first line of the shipped policy.

example:
  oomguard schema > ~/oomguard.schema.json
"""


def _arguments(_parser: "argparse.ArgumentParser") -> None:
    pass


def _run(_options: "argparse.Namespace") -> int:
    """Print it."""
    import json

    from oomguard.policy.schema import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


VERB = Verb("schema", "print the JSON Schema of the policy, for editors", _DETAIL, _arguments, _run)
