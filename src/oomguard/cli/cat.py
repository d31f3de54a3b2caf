"""`oomguard cat`: the effective policy of all layers."""

import argparse

from oomguard.cli.verb import Verb, add

_DETAIL = """\
Lists the files in the order of the layers, and why some do not count: another
file masks or replaces them, or their when: does not fit this host. Then prints
what counts, with the file and line of each part, what it overrides, and its
value on this host. The output is itself a policy with the same effect.

examples:
  oomguard cat
  oomguard cat --policy ./new.yaml
  oomguard cat > whole.yaml

exit codes: 0 done, 1 /proc cannot be read, 78 the policy is not valid
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--policy", "--proc", "--json")


def _run(options: argparse.Namespace) -> int:
    from oomguard.diagnose.this_host import ThisHost
    from oomguard.policy.effective import document, effective, render
    from oomguard.policy.fault import PolicyError
    from oomguard.policy.load import parse, read
    from oomguard.reconcile.state_folder import RUN_FOLDER
    from oomguard.report.change_document import print_json
    from oomguard.report.streams import in_utf8

    host = ThisHost(RUN_FOLDER, options.proc)
    facts, sources = host.facts(), read(options.policy)
    try:
        found = effective(sources, parse(sources, host=facts).policy, facts)
    except PolicyError as error:
        raise host.with_policy_in_use(error, options.policy) from error
    if options.json:
        print_json(document(found))
    else:
        in_utf8()
        for line in render(found):
            print(line)
    return 0


VERB = Verb("cat", "print the effective policy of all layers", _DETAIL, _arguments, _run)
