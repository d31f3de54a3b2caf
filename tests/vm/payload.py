"""The read-only disk a guest gets: what a user without a network would carry to the host.

- `vm/`: the agent and the programs that scenarios start
- `tree/`: the parts of the source tree that the installer reads
- `wheels/`: oomguard and its dependencies, for the guest's Python
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from .image import ImageError, cache_folder, make_filesystem

TREE = Path(__file__).parents[2]
INSTALLED_FROM_TREE = ("systemd", "etc", "docs", "README.md", "CHANGELOG.md", "LICENSE")
PROGRAMS = ("agent.py", "churn.py", "glutton.py", "hog.py")

GUEST_PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
"""The Python that each suite's python3 is; binary wheels must be made for exactly that one."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def make(suite: str, target: Path) -> None:
    """Write the disk image for guests of `suite`.

    Raises:
        ImageError: pip could not build or fetch a wheel.

    """
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name)
        (disk / "vm").mkdir()
        for program in PROGRAMS:
            shutil.copy(Path(__file__).with_name(program), disk / "vm" / program)
            (disk / "vm" / program).chmod(0o755)
        for entry in INSTALLED_FROM_TREE:
            source = TREE / entry
            if source.is_dir():
                shutil.copytree(source, disk / "tree" / entry, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                (disk / "tree").mkdir(exist_ok=True)
                shutil.copy(source, disk / "tree" / entry)
        shutil.copytree(dependency_wheels(suite), disk / "wheels")
        pip("wheel", "--no-deps", "--wheel-dir", disk / "wheels", TREE)
        disk.chmod(0o755)
        make_filesystem(disk, target)


def dependency_wheels(suite: str) -> Path:
    """Return a kept folder with a wheel of every dependency; fetch again when the dependencies change."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    dependencies: list[str] = project["dependencies"]
    version = GUEST_PYTHON[suite]
    digest = hashlib.sha256(json.dumps([dependencies, version, PLATFORMS]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"wheels-{suite}-{digest}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        host, guest = Path(name, "host"), Path(name, "guest")
        # What exists as source only is built here first; pure wheels fit every Python.
        pip("wheel", "--wheel-dir", host, *dependencies)
        platforms = [f"--platform={platform}" for platform in PLATFORMS]
        pip(
            "download", "--only-binary=:all:", f"--python-version={version}", "--implementation=cp",
            *platforms, "--find-links", host, "--dest", guest, *dependencies,
        )  # fmt: skip
        guest.chmod(0o755)
        guest.rename(folder)
    return folder


def pip(*arguments: str | Path) -> None:
    """Run this Python's pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(map(str, command))}:\n{done.stderr.strip()}")
