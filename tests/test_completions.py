"""The shell completions that are installed."""

import subprocess

import pytest
from generate import FILES, FOLDER, completion


@pytest.mark.parametrize("shell", FILES)
def test_completions_are_those_of_the_verbs_as_they_are(shell: str) -> None:
    """If this fails, run `python etc/completions/generate.py`."""
    assert (FOLDER / FILES[shell]).read_text() == completion(shell)


@pytest.mark.parametrize(("typed", "completed"), [("pl", "plan"), ("exp", "explain"), ("st", "status")])
def test_bash_completes_a_verb(typed: str, completed: str) -> None:
    """The file works in the shell that it is for."""
    script = (
        f"source {FOLDER / FILES['bash']}; COMP_WORDS=(oomguard {typed}); COMP_CWORD=1; "
        "_shtab_oomguard; echo ${COMPREPLY[@]}"
    )
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [completed]
