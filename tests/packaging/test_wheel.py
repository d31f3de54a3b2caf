"""Wheel and sdist: what is in them, and that pipx makes a working command of them."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from built import built
from oomguard import __version__

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
SHARED = {
    "share/man/man8/oomguard.8": "docs/man/oomguard.8",
    "share/man/man5/oomguard.yaml.5": "docs/man/oomguard.yaml.5",
    "share/bash-completion/completions/oomguard": "etc/completions/oomguard.bash",
    "share/zsh/site-functions/_oomguard": "etc/completions/_oomguard",
    "share/fish/vendor_completions.d/oomguard.fish": "etc/completions/oomguard.fish",
    "share/oomguard/oomguard.yaml": "etc/oomguard.yaml",
    "share/oomguard/90-default.yaml": "etc/90-default.yaml",
}
"""Where a wheel puts, below the environment, what is not Python."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both, the wheel from the sdist: so the sdist has all that it takes. Or a release has."""
    folder = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    return built("*.whl", command, folder).parent


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """Return the wheel, for any Python 3 and any machine."""
    return dist / f"oomguard-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with pipx for a user who has nothing yet; return the user's home."""
    folder = tmp_path_factory.mktemp("home")
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "USE_EMOJI": "0"}
    subprocess.run([sys.executable, "-m", "pipx", "install", wheel], env=environment, check=True)
    return folder


def oomguard(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command that pipx put on the PATH."""
    command = [home / ".local" / "bin" / "oomguard", *arguments]
    return subprocess.run(command, env={"HOME": str(home)}, capture_output=True, text=True, check=False)


def test_the_wheel_has_every_module_and_what_shells_and_man_look_for(wheel: Path) -> None:
    """No tests, no unit: that one's sandbox fits only the paths of the installer."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for installed, source in SHARED.items():
            name = f"oomguard-{__version__}.data/data/{installed}"
            assert archive.read(name) == (ROOT / source).read_bytes()
            names.remove(name)
    tree = ROOT / "src"
    modules = {str(path.relative_to(tree)) for path in (tree / "oomguard").rglob("*.py")}
    modules |= {str(path.relative_to(tree)) for path in (tree / "oomguard/report/pages").iterdir()}
    metadata = {name for name in names if name.startswith(f"oomguard-{__version__}.dist-info/")}
    assert names - metadata == modules | {"oomguard/py.typed"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with what git has")
def test_the_sdist_has_everything(dist: Path) -> None:
    """A packager works from it alone, and runs the tests."""
    with tarfile.open(dist / f"oomguard-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) - names == set()
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git/", ".venv/"))]


def test_pipx_makes_a_command_that_works(home: Path) -> None:
    """From validating the shipped policy to saying what it would change here."""
    venv = home / ".local" / "share" / "pipx" / "venvs" / "oomguard"
    policy = venv / "share" / "oomguard" / "90-default.yaml"
    assert oomguard(home, "--version").stdout == f"oomguard {__version__}\n"
    checked = oomguard(home, "check", "--policy", policy)
    assert (checked.returncode, checked.stderr) == (0, "")
    planned = oomguard(home, "plan", "--policy", policy, "--state-dir", home / "state", "--json")
    assert planned.returncode in (0, 3)
    assert planned.stderr == ""
    json.loads(planned.stdout)
    assert json.loads(oomguard(home, "schema").stdout)["title"] == "oomguard policy"


def test_pipx_installs_the_manual(home: Path) -> None:
    """Below ~/.local/share/man, where man looks for the commands of ~/.local/bin."""
    for page in ("man8/oomguard.8", "man5/oomguard.yaml.5"):
        assert (home / ".local" / "share" / "man" / page).read_text() == (
            ROOT / "docs/man" / page[5:]
        ).read_text()


def test_the_completion_is_one_for_the_command(home: Path) -> None:
    """Bash takes the file, and then knows `oomguard`."""
    venv = home / ".local" / "share" / "pipx" / "venvs" / "oomguard"
    file = venv / "share" / "bash-completion" / "completions" / "oomguard"
    done = subprocess.run(
        ["bash", "-c", 'source "$0" && complete -p oomguard', file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(" oomguard\n")
