"""`sh .ci/release`: what it refuses, and what it makes."""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from oomguard import __version__

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="clones this repository")


def run(clone: Path, *command: str) -> str:
    """Run a command in a clone; return what it printed, if it succeeded."""
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        command, cwd=clone, env=os.environ | identity, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(clone: Path) -> str:
    """Return why no release is made."""
    done = subprocess.run(["sh", ".ci/release"], cwd=clone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert not (clone / "dist").exists()
    return done.stderr


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone of the last commit, with a changelog that is ready."""
    folder = tmp_path / "clone"
    run(ROOT, "git", "clone", "--quiet", "--no-tags", str(ROOT), str(folder))
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{__version__}] - 2026-11-26\n")
    (folder / ".ci" / "release").write_bytes((ROOT / ".ci" / "release").read_bytes())
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "x")
    return folder


def test_what_is_not_committed_is_not_released(clone: Path) -> None:
    """Neither a change nor a new file."""
    (clone / "new").write_text("")
    assert refusal(clone) == "release: there are uncommitted changes: see git status\n"


@pytest.mark.parametrize(
    "heading",
    ["## [Unreleased]", "## [{}]", "## [{}] - soon", "## [9.9.9] - 2026-11-26", "## [{}] - 2026-11-26x"],
)
def test_the_first_section_of_the_changelog_is_this_version_with_a_date(clone: Path, heading: str) -> None:
    """So nothing is left in a section of unreleased changes."""
    old = (clone / "CHANGELOG.md").read_text()
    (clone / "CHANGELOG.md").write_text(f"{heading.format(__version__)}\n\n- x\n\n{old}")
    run(clone, "git", "commit", "--quiet", "--all", "--message", "x")
    assert refusal(clone).endswith(f"the first section of CHANGELOG.md is not [{__version__}] with a date\n")


def test_a_tag_is_of_this_version_and_of_this_commit(clone: Path) -> None:
    """Both ways."""
    run(clone, "git", "tag", "v9.9.9")
    assert refusal(clone) == f"release: this commit has the tag v9.9.9, and version {__version__}\n"
    run(clone, "git", "tag", "--delete", "v9.9.9")
    run(clone, "git", "tag", f"v{__version__}", "HEAD~1")
    assert f"the tag v{__version__} is at another commit" in refusal(clone)


@pytest.mark.release
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the root folders that packages are tried in")
def test_a_release_is_reproducible_complete_and_works(clone: Path) -> None:
    """The script compares, installs and tests; what is in dist is listed by the checksums and the SBOM."""
    run(clone, "git", "tag", f"v{__version__}")
    run(clone, "sh", ".ci/release")
    dist = clone / "dist"
    name = f"oomguard-{__version__}"
    architecture = run(clone, "dpkg", "--print-architecture").strip()
    debs = {f"oomguard_{__version__}_{which}.deb" for which in ("all", architecture)}
    files = {f"{name}.tar.gz", f"{name}-py3-none-any.whl", f"{name}.cdx.json", *debs}
    sums = (dist / "SHA256SUMS").read_text()
    assert {path.name for path in dist.iterdir()} == {*files, "SHA256SUMS"}
    assert set(re.findall(r"^[0-9a-f]{64}  (.*)$", sums, re.MULTILINE)) == files

    bill = json.loads((dist / f"{name}.cdx.json").read_text())
    pins = re.findall(r"^([a-z][\w-]*)==(\S+) ", (clone / "requirements.txt").read_text(), re.MULTILINE)
    assert {(one["name"], one["version"]) for one in bill["components"]} == set(pins)
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", __version__)

    seconds = int(run(clone, "git", "log", "-1", "--format=%ct"))
    with tarfile.open(dist / f"{name}.tar.gz") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.mode & 0o7022) == (seconds, 0, 0), member
