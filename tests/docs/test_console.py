"""Every command that the documentation shows is run, where it stands and as it stands (see pages.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pages import PAGES, ROOT, Step, is_as_shown, name, steps

SANDBOX = Path(__file__).with_name("sandbox.py")
NOT_RUN_LIMIT = 15
"""Blocks of all pages that may go untried. Before it is raised: can the block not be tried after all?"""

MOUNTS = ("unshare", "--mount")
PROCESSES = (*MOUNTS, "--pid", "--fork", "--mount-proc", "--kill-child")


def steps_for(page: Path, where: str) -> list[Step]:
    """Return what a page has to be tried there, with the files it has written by then."""
    chosen = [step for step in steps(page) if step.where in (where, "anywhere")]
    return chosen if any(step.where == where for step in chosen) else []


def try_out(todo: list[Step], *, network: bool = False) -> None:
    """Do the steps in namespaces of their own, and hold what came of them against the page.

    With a `network` they see the host's processes, and the tree has no environment yet, as a new user has it.
    """
    if os.geteuid() != 0:
        pytest.skip("takes root, for namespaces of its own")
    namespaces = MOUNTS if network else PROCESSES
    if subprocess.run([*namespaces, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no mount namespace can be made here, as in a chroot")
    told: dict[str, Any] = {
        "root": str(ROOT),
        "environment": None if network else sys.prefix,
        "steps": [{**step._asdict(), "page": ""} for step in todo],
    }
    done = subprocess.run(
        [*namespaces, sys.executable, SANDBOX],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    for step, result in zip(todo, answer["results"], strict=True):
        hold(step, result["status"], result["printed"])
    assert not any(answer["ended"]), f"what ran in the background ended with {answer['ended']}"


def hold(step: Step, status: int, printed: str) -> None:
    """Hold what a command did against what its page says."""
    told = f"{step.place}\n{step.text}\nended with {status}, and printed\n{printed}"
    assert status == step.status, told
    if step.output is not None:
        assert is_as_shown(printed, step.output), f"{told}\ninstead of\n{step.output}"


def pages_for(where: str) -> list[Path]:
    """Return the pages that have something to be tried there."""
    return [page for page in PAGES if steps_for(page, where)]


@pytest.mark.parametrize("page", pages_for("here"), ids=name)
def test_what_a_page_says_is_so(page: Path) -> None:
    """From its first block to its last, in one copy of the tree."""
    try_out(steps_for(page, "here"))


@pytest.mark.packaging
@pytest.mark.parametrize("page", pages_for("network"), ids=name)
def test_what_a_page_says_is_so_with_a_network(page: Path) -> None:
    """In a copy of the tree without an environment, as a new user has it."""
    try_out(steps_for(page, "network"), network=True)


def test_few_commands_are_not_run_and_each_has_a_reason() -> None:
    """The reason is a sentence; a test it names is one."""
    left_out = [step for page in PAGES for step in steps(page) if not step.where]
    for step in left_out:
        assert len(step.reason.split()) >= 4, f"{step.place}: {step.reason}"
        for word in step.reason.replace(",", " ").replace(";", " ").split():
            if "/" in word and word.startswith(("tests/", "docs/", ".ci/")):
                assert (ROOT / word.partition("::")[0]).exists(), f"{step.place}: {word}"
    assert len(left_out) <= NOT_RUN_LIMIT, [step.place for step in left_out]


def test_a_command_that_fails_or_prints_something_else_is_found() -> None:
    """The test of the tests."""
    page = ROOT / "nowhere.md"
    ends = Step(page, 1, "here", "false\n")
    with pytest.raises(AssertionError, match="ended with 1"):
        try_out([ends])
    says = Step(page, 1, "here", "echo no\n", output="yes\n")
    with pytest.raises(AssertionError, match="instead of"):
        try_out([says])
    try_out([says._replace(output="n…\n"), ends._replace(status=1)])
