"""Write the shell completions of the verbs as they are now: `python etc/completions/generate.py`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from oomguard.cli.main import build_parser

FOLDER = Path(__file__).parent
FILES = {"bash": "oomguard.bash", "zsh": "_oomguard", "fish": "oomguard.fish"}
"""By shell, under the name it is installed as."""

_NAMES = "ps -e -o comm= | LC_ALL=C grep -x '[A-Za-z0-9][A-Za-z0-9_.@+-]*' | sort -u"
"""Names of processes that mean nothing to a shell. Any user can call a program `$(reboot)`, and bash
would run that while it completes, or when root presses Enter on what was completed."""

_PROCESSES = {
    "bash": "_oomguard_processes",
    "zsh": "_oomguard_processes",
    "fish": f"({_NAMES})",
    "preamble": {
        "bash": f'_oomguard_processes() {{\n  compgen -W "$({_NAMES})" -- "$1"\n}}',
        "zsh": f"_oomguard_processes() {{\n  local names\n  names=($({_NAMES}))\n  compadd -a names\n}}",
    },
}

_COMPLETES = {"FILE": shtab.FILE, "SOURCE": shtab.FILE, "DIR": shtab.DIRECTORY, "PID|NAME": _PROCESSES}
"""What an option or argument takes, told by the word that stands for it in the help."""


def completion(shell: str) -> str:
    """Return the completion for a shell."""
    parser = build_parser()
    for action in _actions(parser):
        if action.metavar in _COMPLETES:
            action.complete = _COMPLETES[action.metavar]  # type: ignore[attr-defined]  # shtab looks there
    text: str = shtab.complete(parser, shell=shell)
    return text.rstrip() + "\n"


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)


if __name__ == "__main__":
    for shell, name in FILES.items():
        (FOLDER / name).write_text(completion(shell))
