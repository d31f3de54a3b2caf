"""Every shell file of the project, read by shellcheck."""

import os
import re
import shlex
import shutil
import subprocess
import sys
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


@pytest.mark.parametrize(
    "script",
    ['. "$0/systemd/fetch.sh"; "$1" -m venv --help', 'sh "$0/systemd/wheels.sh" "$1" made'],
    ids=["fetch.sh", "wheels.sh"],
)
def test_what_builds_runs_no_python_of_the_working_directory(script: str, tmp_path: Path) -> None:
    """Root may build in /tmp, where others may have put files."""
    for name in ("venv", "pip"):
        (tmp_path / f"{name}.py").write_text("import pathlib; pathlib.Path('was-run').touch()")
    command = ["sh", "-c", script, str(ROOT), sys.executable]
    nowhere = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    subprocess.run(command, cwd=tmp_path, env=nowhere, capture_output=True, check=False)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("home", [None, "/a home"])
@pytest.mark.parametrize("script", ["test", "test-newest"])
def test_the_tests_see_the_home_of_the_caller_if_there_is_one(
    script: str, home: str | None, tmp_path: Path
) -> None:
    """A container or a service may have none."""
    shown = '#!/bin/sh\necho "HOME is ${HOME-unset}"\n'
    stubs = [".ci/setup", ".ci/extras", ".venv/bin/python", ".venv-newest/bin/python", ".venv-newest/bin/uv"]
    for stub in stubs:
        (tmp_path / stub).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stub).write_text(shown)
        (tmp_path / stub).chmod(0o755)
    shutil.copy(ROOT / ".ci" / script, tmp_path / ".ci")
    given = {"PATH": os.environ["PATH"]} | ({} if home is None else {"HOME": home})
    said = subprocess.check_output(["sh", str(tmp_path / ".ci" / script)], env=given, text=True)
    assert said.splitlines()[-1] == f"HOME is {home or 'unset'}"


@pytest.mark.parametrize("script", ["debian/build.sh", "rpm/build.sh"])
def test_an_option_without_its_value_is_answered_by_the_usage(script: str) -> None:
    """And not by the shell, which names a variable."""
    command = ["sh", str(ROOT / "systemd" / script), "--output"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "build.sh [--bundle] [--output DIR]\n")


@pytest.mark.parametrize("name", ["oomguard-0.1.0", "my downloads", "it's & $HOME"])
def test_the_command_that_uninstalls_can_be_pasted(name: str, tmp_path: Path) -> None:
    """Wherever the release was unpacked."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "systemd").symlink_to(ROOT / "systemd")
    script = tmp_path / name / "systemd" / "install.sh"
    functions = script.read_text().replace('\nmain "$@"\n', "\nnext_steps\n")
    printed = subprocess.check_output(["sh", "-c", functions, script], text=True)
    command = printed.rstrip("\n").rpartition("\n")[2].partition("uninstall  ")[2]
    assert shlex.split(command) == ["sh", str(script), "--uninstall"]


@pytest.mark.parametrize(
    ("status", "is_refused"),
    [("installed", True), ("unpacked", True), ("config-files", False), ("", False)],
)
def test_the_installer_overwrites_no_file_of_the_package(
    status: str, is_refused: bool, tmp_path: Path
) -> None:
    """Also if that could not be configured, as when a package that it needs cannot be installed."""
    query = tmp_path / "dpkg-query"
    query.write_text(f"#!/bin/sh\nprintf '%s' '{status}'\ntest -n '{status}'\n")
    query.chmod(0o755)
    script = ROOT / "systemd" / "install.sh"
    functions = script.read_text().replace('\nmain "$@"\n', "\nrefuse_package\n")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", functions, script], env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    assert ("the Debian package oomguard is installed" in done.stderr) == is_refused


def test_the_installer_starts_the_service_on_a_host_without_journald(tmp_path: Path) -> None:
    """Another program may do the logging. What follows in the script is done all the same."""
    for name, script in (("systemctl", "exit 0"), ("journalctl", "echo no journald >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    installer = ROOT / "systemd" / "install.sh"
    start = "\nhas_systemd() { :; }\nis_upgrade=no\nstart_service\nsay next\n"
    functions = installer.read_text().replace('\nmain "$@"\n', start)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    printed = subprocess.check_output(["sh", "-c", functions, installer], env=environment, text=True)
    assert printed.endswith("\noomguard: next\n")
