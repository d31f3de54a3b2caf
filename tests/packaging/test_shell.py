"""Every shell file of the project, read by shellcheck."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", "etc", "systemd", "tests")


def shell_files() -> list[Path]:
    """Return the files whose first line names sh or bash."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in ("", ".sh"):
                with path.open("rb") as file:
                    if re.match(rb"#!\s*/(usr/)?bin/(env )?(ba)?sh\b", file.readline()):
                        found.append(path)
    return found


@pytest.mark.parametrize("path", shell_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(path: Path) -> None:
    """Where it is installed; tests/vm/prepare.sh does so."""
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run(["shellcheck", path], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_there_are_shell_files() -> None:
    """Or the test above would hold of nothing."""
    assert {ROOT / "systemd" / "install.sh", ROOT / ".ci" / "test"} <= set(shell_files())
