"""docs/first-day.md, between the runs of tests/vm/test_walk.py: it is worded as today's messages."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from pages import ROOT, steps

PAGE = ROOT / "docs" / "first-day.md"
BESIDE_A_VALUE = ("KiB", "MiB", "processes", "satisfies", "sysctl")
"""What ends or begins a part of a message, with a number or name on the other side."""


def phrases(text: str) -> Iterator[tuple[str, str]]:
    """Yield each two words that stand side by side in three or more."""
    text = re.sub(r"\S*[^\w\s]\w\S*", "|", text)  # names of files, rules and processes
    for part in re.split(rf"[^A-Za-z' ]+|  +|\b(?:{'|'.join(BESIDE_A_VALUE)})\b", text):
        if len(words := part.split()) >= 3:
            yield from pairwise(words)


def phrases_of_messages() -> set[tuple[str, str]]:
    """Return those of the installer and of all strings in the code."""
    found = set(phrases((ROOT / "systemd" / "install.sh").read_text()))
    for module in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for part in re.split(r"[^A-Za-z' ]+|  +", node.value):
                    found.update(pairwise(part.split()))
    return found


def test_what_is_shown_is_worded_as_today() -> None:
    """A message that says something else now was shown by another version."""
    today = phrases_of_messages()
    lines = [line for step in steps(PAGE) for line in (step.output or "").splitlines()]
    assert len(lines) > 50
    assert [(line, two) for line in lines for two in phrases(line) if two not in today] == []
    assert not set(phrases("the kernel slew batch-report[467]")) <= today
