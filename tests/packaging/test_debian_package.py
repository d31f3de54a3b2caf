"""The Debian package as built; how it lives on a host is in tests/vm/test_debian.py."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from oomguard import __version__

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "systemd" / "debian"
SITE = "usr/lib/oomguard/lib/python3/site-packages"

needs_debian = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs a Debian")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it by its one command."""
    folder = tmp_path_factory.mktemp("deb")
    done = subprocess.run(
        ["sh", DEBIAN / "build.sh", "--output", folder], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == f"{next(folder.iterdir())}\n"
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack it."""
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return folder


def field(package: Path, name: str) -> str:
    """Return a field of its control file."""
    done = subprocess.run(["dpkg-deb", "--field", package, name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm", "rtupdate"])
def test_scripts_stop_at_the_first_failure(script: str) -> None:
    """And what debhelper has to say is said in each that dpkg runs."""
    text = (DEBIAN / script).read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -e\n" in text
    assert ("\n#DEBHELPER#\n" in text) == (script != "rtupdate")


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    """Those with wheels in the package are those it may be installed beside."""
    minors = re.search(r"^pythons='([^']*)'", (DEBIAN / "build.sh").read_text(), re.MULTILINE)
    assert minors
    versions = [int(version.removeprefix("3.")) for version in minors[1].split()]
    assert versions == list(range(versions[0], versions[-1] + 1))
    linked = re.search(r"for minor in ([\d ]+); do", (DEBIAN / "rules").read_text())
    assert linked
    assert [int(minor) for minor in linked[1].split()] == versions
    control = (DEBIAN / "control").read_text()
    between = f"python3 (>= 3.{versions[0]}), python3 (<< 3.{versions[-1] + 1})"
    assert control.count(between) == 2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">=3.{versions[0]}"


@needs_debian
@pytest.mark.packaging
def test_the_package_names_what_it_needs(package: Path) -> None:
    """Python and libc, and no Python package: those are in it."""
    assert field(package, "Version") == __version__
    needed = {part.split()[0] for part in field(package, "Depends").split(",")}
    assert needed == {"libc6", "libgcc-s1", "python3"}


@needs_debian
@pytest.mark.packaging
def test_the_policy_is_the_only_conffile(package: Path) -> None:
    """So dpkg keeps an edited one, and asks about nothing else."""
    command = ("dpkg-deb", "--info", str(package), "conffiles")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "/etc/oomguard.yaml\n"


@needs_debian
@pytest.mark.packaging
def test_the_package_has_what_the_installer_installs(tree: Path) -> None:
    """The same files in the same places, but for compressed pages, and a unit below /lib."""
    script = (ROOT / "systemd" / "install.sh").read_text()
    targets = re.findall(r'^ *place "[^"]*" "?([^"\s]*)', script, re.MULTILINE)
    assert len(targets) > 5
    for target in targets:
        path = target.replace("$share", "/usr/share/oomguard").replace("$unit", "oomguard.service")
        path = path.replace("$exporter", "oomguard-exporter.service")
        if "man${page" in path:
            continue
        path = path.replace("/usr/lib/systemd/system", "/lib/systemd/system")
        assert (tree / path[1:]).is_file() or (tree / "usr" / path[1:]).is_file(), path
    for page in (ROOT / "docs" / "man").glob("*.[1-8]"):
        assert (tree / "usr/share/man" / f"man{page.suffix[1:]}" / f"{page.name}.gz").is_file()
    assert (tree / "etc/oomguard.d").is_dir()


@needs_debian
@pytest.mark.packaging
def test_the_program_in_it_runs_beside_no_other_package(tree: Path, tmp_path: Path) -> None:
    """By the python3 of this Debian, from validating to tables; what it prints them with is complete."""
    policy = tmp_path / "policy.yaml"
    shutil.copy(tree / "etc/oomguard.yaml", policy)
    policy.chmod(0o644)
    common = ["--policy", str(policy), "--state-dir", str(tmp_path)]
    for verb in (
        ["check", *common[:2]],
        ["plan", *common],
        ["status", *common],
        ["explain", "1", *common[:2]],
    ):
        done = subprocess.run(
            ["/usr/bin/python3", "-P", "-S", "-B", "-m", "oomguard", *verb],
            env={"PYTHONPATH": str(tree / SITE)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 3), done.stderr
        assert done.stderr == ""
    for minor in (11, 12, 13, 14):
        assert [*(tree / SITE / "pydantic_core").glob(f"*.cpython-3{minor}-*.so")]
        assert (tree / "usr/lib/oomguard/lib" / f"python3.{minor}").readlink() == Path("python3")


@needs_debian
@pytest.mark.packaging
def test_every_licence_is_in_the_copyright_file(tree: Path) -> None:
    """Of each package that is in there."""
    text = (tree / "usr/share/doc/oomguard/copyright").read_text()
    for info in (tree / SITE).glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        licence = text.partition(f"\n{name} {version}\n\n")[2].split("\n\n\n")[0]
        assert len(licence.split()) > 100 or "/usr/share/common-licenses/Apache-2.0" in licence, name


@needs_debian
@pytest.mark.packaging
@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian")
def test_lintian_finds_nothing(package: Path) -> None:
    """Pedantic; what is overridden has its reason in systemd/debian/lintian-overrides.

    Lintian of Debian 13 and before asks for init scripts; the next calls an override alien. Readiness,
    watchdog, sandbox and restarts are systemd's; without it `oomguard run` can be started by hand.
    """
    options = ["--allow-root", "--display-info", "--pedantic", "--display-experimental"]
    done = subprocess.run(["lintian", *options, package], capture_output=True, text=True, check=False)
    tag = "package-supports-alternative-init-but-no-init.d-script"
    assert [line for line in done.stdout.splitlines() if tag not in line] == []
    assert done.stderr == ""
