"""`oomguard schema`: the JSON Schema of policies, and of case files."""

import argparse

from oomguard.cli.verb import Verb

_DETAIL = """\
For completion and checks while you type. Editors with yaml-language-server find
it through the first line of the shipped policy.

examples:
  oomguard schema > ~/oomguard.schema.json
  oomguard schema --cases > ~/oomguard-cases.schema.json   for `oomguard test`
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", action="store_true", help="the schema of case files, for `oomguard test`")


def _run(options: argparse.Namespace) -> int:
    import json

    from oomguard.policy.schema import cases_schema, json_schema
    from oomguard.report.streams import in_utf8

    in_utf8()
    print(json.dumps(cases_schema() if options.cases else json_schema(), indent=2, ensure_ascii=False))
    return 0


VERB = Verb("schema", "print the JSON Schema of the policy, for editors", _DETAIL, _arguments, _run)
