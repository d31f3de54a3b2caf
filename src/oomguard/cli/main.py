"""The command line: which verbs there are, and the one to run."""

import argparse
from typing import Any, NoReturn

from oomguard import __version__
from oomguard.cli import (
    advise,
    apply,
    cat,
    check,
    explain,
    exporter,
    history,
    import_,
    log,
    misuse,
    notify,
    plan,
    postmortem,
    rank,
    restore,
    run,
    schema,
    status,
    test,
)
from oomguard.cli.verb import MisuseError, Parser, Verb
from oomguard.core.text import wrapped

VERBS: tuple[Verb, ...] = (
    *(check.VERB, cat.VERB, test.VERB, plan.VERB, apply.VERB, run.VERB, restore.VERB, status.VERB),
    *(explain.VERB, rank.VERB, log.VERB, history.VERB, postmortem.VERB, import_.VERB, exporter.VERB),
    *(notify.VERB, advise.VERB, schema.VERB),
)
"""All verbs, in the order of the help."""

_DESCRIPTION = """\
Apply a Linux memory policy from one YAML file: how much memory the kernel may
promise, what happens when it runs out, and which processes are killed first.
oomguard itself never kills anything. Without a verb, it shows this host.
"""

_EPILOG = """\
examples:
  oomguard check                     is /etc/oomguard.yaml valid?
  oomguard plan                      what would change on this host, and why?
  oomguard apply                     change it once
  oomguard run                       apply it until you stop it
  oomguard explain sshd              which rule matches sshd, and why?
  oomguard restore                   restore the original values

exit codes: 0 done, 1 a change failed or was refused, 2 bad usage,
            3 plan found a change or a refusal, 78 the policy is not valid
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if action.nargs == argparse.PARSER:
            self._action_max_length += 2  # argparse forgets that verbs are indented

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width, more="")  # argparse breaks words such as memory-recovered


def run_verb(words: list[str]) -> int:
    """Parse the command line, run its verb and return the exit code; without a verb, show this host."""
    if not words:
        from oomguard.cli import overview

        return overview.run()
    if words[0] == "help":
        words = [*(word for word in words[1:2] if word != "help"), "--help"]
    verb = next((one for one in VERBS if one.name == words[0]), None)
    if verb is None:
        _without_verb(words)
    parser = Parser(prog=f"oomguard {verb.name}", exit_on_error=False, **_help(verb))
    verb.add_arguments(parser)
    options = parser.parse(verb.prepare(words[1:]))
    if [getattr(options, "policy", ""), *getattr(options, "files", ())].count("-") > 1:
        parser.refuse("standard input can be read only once")
    try:
        return verb.run(options)
    except MisuseError as error:
        parser.refuse(str(error))


def build_parser() -> Parser:
    """Return the parser of all verbs; completions and the manual are made from it."""
    return _all_verbs()[0]


def _all_verbs(*, with_arguments: bool = True) -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="oomguard",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"oomguard {__version__}")
    added = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)
    verbs = {one.name: added.add_parser(one.name, help=one.summary, **_help(one)) for one in VERBS}
    for one in VERBS if with_arguments else ():
        one.add_arguments(verbs[one.name])
    return parser, verbs


def _without_verb(words: list[str]) -> NoReturn:
    """Handle a command line that starts with something else: --help, --version, or a mistake."""
    if words[0] in ("-h", "--help", "--version"):
        _all_verbs(with_arguments=False)[0].parse_args(words[:1])
    parser, verbs = _all_verbs()
    wrong = misuse.before_verb(words, parser.options, verbs)
    if wrong:
        parser.refuse(wrong)
    parser.parse_args(words)
    raise AssertionError("an option before the verb exits")


def _help(verb: Verb) -> dict[str, Any]:
    return {
        "description": f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        "epilog": verb.detail,
        "formatter_class": _Formatter,
    }
