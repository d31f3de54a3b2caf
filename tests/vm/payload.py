"""The read-only disk a guest gets: what a user without a network would carry to the host.

- `vm/`: the agent and the programs that scenarios start
- `tree/`: the parts of the source tree that the installer reads
- `wheels/`: oomguard and its dependencies, for the guest's Python
- `dist/`: the release to try, if `.ci/release` asks for that (`OOMGUARD_DIST`)
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .image import ImageError, alone_with, cache_folder, make_filesystem

TREE = Path(__file__).parents[2]
INSTALLED_FROM_TREE = (
    "src/oomguard/__init__.py",
    "systemd",
    "etc",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE",
)
PROGRAMS = ("agent.py", "churn.py", "glutton.py", "hog.py", "leak.py")

GUEST_PYTHON = {"bookworm": "3.11", "trixie": "3.13", "forky": "3.14"}
"""The Python that each suite's python3 is; binary wheels must be made for exactly that one."""

WHEELS = TREE / "systemd" / "wheels.sh"
RELEASE_VARIABLE = "OOMGUARD_DIST"

MOUNT = """
mount -o loop "$1" "$3"
mount -o loop,ro "$2" "$3/media/oomguard"
mount --bind /proc "$3/proc"
mount --bind /dev "$3/dev"
"""

INSTALL = """
in=media/oomguard
chroot "$3" env -i PATH="$PATH" sh -c "cd $in; sh tree/systemd/install.sh --wheels wheels --no-start"
"""
"""Run the installer; the service is not enabled."""

DEPENDENCIES = """
cp /etc/resolv.conf "$3/etc/"
chroot "$3" sh -ec '
    apt-get -qq -o Acquire::Check-Valid-Until=false update
    needed=$(dpkg-deb --field /media/oomguard/dist/oomguard_*_all.deb Depends)
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends satisfy "$needed" </dev/null'
"""
"""Install what the Debian package of a release takes from Debian: the guest has no network."""


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
                (disk / "tree" / entry).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, disk / "tree" / entry)
        shutil.copytree(dependency_wheels(suite), disk / "wheels")
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", disk / "wheels", TREE)
        if release := os.environ.get(RELEASE_VARIABLE):
            shutil.copytree(release, disk / "dist")
        disk.chmod(0o755)
        make_filesystem(disk, target)


def changed(image: Path, disk: Path, folder: Path, script: str) -> Path:
    """Return an image like `image` in which a shell script was run, with the image's root as $3.

    The processor of this host needs seconds for it, an emulated one minutes. Without root, return `image`.
    """
    if os.geteuid() != 0:
        return image
    made, root = folder / "changed", folder / "root"
    made.mkdir()
    root.mkdir()
    for name in ("vmlinuz", "initrd"):
        (made / name).symlink_to(image / name)
    run("cp", "--sparse=always", image / "root.img", made / "root.img")
    run("unshare", "--mount", "sh", "-ec", MOUNT + script, "sh", made / "root.img", disk, root)
    return made


def dependency_wheels(suite: str) -> Path:
    """Return a kept folder with a wheel of every dependency; fetch again when the locks change."""
    version = GUEST_PYTHON[suite]
    digest = hashlib.sha256(version.encode())
    for file in (TREE / "requirements.txt", TREE / "requirements-build.txt", WHEELS):
        digest.update(file.read_bytes())
    folder = cache_folder() / f"wheels-{suite}-{digest.hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone_with(folder), tempfile.TemporaryDirectory(dir=folder.parent) as name:
        if folder.exists():
            return folder
        made = Path(name, "made")
        run("sh", WHEELS, sys.executable, made, version)
        for own in made.glob("oomguard-*.whl"):
            own.unlink()  # the tree changes with every edit
        made.chmod(0o755)
        made.rename(folder)
    return folder


def pip(*arguments: str | Path) -> None:
    """Run this Python's pip."""
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def run(*command: str | Path) -> None:
    """Run a program that prepares wheels."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(map(str, command))}:\n{done.stderr.strip()}")
