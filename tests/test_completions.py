"""The shell completions that are installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from generate import FILES, FOLDER, completion


@pytest.mark.parametrize("shell", FILES)
def test_completions_are_those_of_the_verbs_as_they_are(shell: str) -> None:
    """If this fails, run `python etc/completions/generate.py`."""
    assert (FOLDER / FILES[shell]).read_text() == completion(shell)


def complete(*words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    script = (
        'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_oomguard; '
        'printf "%s\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "-c", script, str(FOLDER / FILES["bash"]), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


@pytest.mark.parametrize(("typed", "completed"), [("pl", "plan"), ("expl", "explain"), ("st", "status")])
def test_bash_completes_a_verb(typed: str, completed: str) -> None:
    """The file works in the shell that it is for."""
    assert complete("oomguard", typed) == [completed]


@pytest.mark.parametrize("words", ["plan --policy", "import nohang"])
def test_bash_completes_a_file_by_its_path(tmp_path: Path, words: str) -> None:
    """A policy, and a file of another tool."""
    policy = tmp_path / "site.yaml"
    policy.touch()
    assert complete("oomguard", *words.split(), f"{tmp_path}/si") == [str(policy)]


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_names_of_processes_are_completed_but_never_run(tmp_path: Path) -> None:
    """Any user can call a program `$(…)`: it must not reach the command line of root."""
    good, bad = tmp_path / "guarded", tmp_path / "$(touch zz)"
    running = []
    try:
        for program in (good, bad):
            shutil.copy("/bin/sleep", program)
            running.append(subprocess.Popen([program, "60"]))
        offered = complete("oomguard", "explain", "")
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert "guarded" in offered
    assert not [name for name in offered if "touch" in name]


@pytest.mark.parametrize("shell", FILES)
def test_each_shell_can_parse_its_file(shell: str) -> None:
    """Where the shell is installed."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([path, "-n", FOLDER / FILES[shell]], check=True)
