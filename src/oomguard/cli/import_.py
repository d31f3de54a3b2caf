"""`oomguard import`: convert another tool's settings to a policy."""

import argparse
import sys

from oomguard.cli.verb import Verb, add, one_of

_DETAIL = """\
Prints a policy to review. Each rule names its source. At the end, it lists what
has no equivalent or cannot be read, by file and line.
Without SOURCE, it reads the usual places: /etc/default/earlyoom,
/etc/nohang/nohang.conf, /etc/ananicy.d, systemd's folders of system units, or
sysctl.d with the active TuneD profile.

examples:
  oomguard import earlyoom
  oomguard import earlyoom --avoid '^(cron|Xorg)$' --prefer '^chrome$'
  oomguard import systemd /etc/systemd/system > units.yaml
  oomguard import ananicy ./rules
  oomguard import sysctl /usr/lib/tuned/throughput-performance
  oomguard import nohang --json                  for programs: docs/import.md

exit codes: 0 done, 1 nothing of the source can be read
"""

_THEN = "\n  review, then run: oomguard check --policy FILE && oomguard plan --policy FILE"


def _arguments(parser: argparse.ArgumentParser) -> None:
    from oomguard.propose.importers.table import IMPORTERS

    add(parser, "--json")
    parser.add_argument(
        "tool",
        metavar="TOOL",
        type=one_of("tool", [*IMPORTERS]),
        choices=tuple(IMPORTERS),
        help=f"one of {', '.join(IMPORTERS)}",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*",
        default=[],  # else argparse calls it required
        help="files or folders of the tool; for earlyoom, also its own options",
    )


def _prepare(words: list[str]) -> list[str]:
    """Return `TOOL --json SOURCE` with --json first, and `earlyoom --avoid X` with the `--` that it lacks.

    Some versions of argparse need the first; without the second, earlyoom's options would be ours.
    """
    end = words.index("--") if "--" in words else len(words)
    options = [word for word in words[:end] if word == "--json"]
    ours = [word for word in words[:end] if word != "--json"]
    if "--" not in words and ours[:1] == ["earlyoom"] and not {"-h", "--help"} & {*ours}:
        ours.insert(1, "--")
    return [*options, *ours, *words[end:]]


def _run(options: argparse.Namespace) -> int:
    """Print the policy, and on stderr how many rules and notes it has; or print JSON."""
    from oomguard.core.text import counted
    from oomguard.propose.importers.table import import_settings
    from oomguard.propose.mend import mended
    from oomguard.propose.policy_draft import FORMAT, import_document, render
    from oomguard.report.change_document import print_json
    from oomguard.report.streams import complain, in_utf8

    draft = mended(import_settings(options.tool, options.source))
    if options.json:
        print_json({"format": FORMAT, "tool": options.tool, **import_document(draft)})
        return 0
    in_utf8()
    sys.stdout.write(render(draft))
    counts = ((len(draft.settings), "sysctl"), (len(draft.rules), "rule"))
    found = ", ".join(counted(count, what) for count, what in counts if count)
    left_out = counted(sum(note.settings for note in draft.notes), "setting") if draft.notes else "nothing"
    then = _THEN if found else ""
    complain(f"oomguard: {found or 'nothing imported'}, {left_out} left out{then}")
    return 0


VERB = Verb("import", "convert another tool's settings to a policy", _DETAIL, _arguments, _run, _prepare)
