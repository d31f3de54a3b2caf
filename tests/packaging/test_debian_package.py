"""The Debian package with all Python packages in it; how it lives on a host is in tests/vm/test_debian.py.

The one that takes Debian's own is in test_debian_suites.py.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from built import built
from mounts import OWN_FOLDERS
from oomguard import __version__

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
DEBIAN = SYSTEMD / "debian"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SITE = "usr/lib/oomguard/lib/python3/site-packages"

_LINK = re.compile(r"\]\((?!\w+:)([^)#]+)")

needs_debian = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs a Debian")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it by its one command, unless a release has."""
    folder = tmp_path_factory.mktemp("deb")
    return built("*_a[mr]*64.deb", ["sh", DEBIAN / "build.sh", "--bundle", "--output", folder], folder)


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


def run_script(root: Path, script: str, *arguments: str) -> str:
    """Run a script of the package on other folders; return what it prints."""
    text = (DEBIAN / script).read_text()
    for folder in ("etc", "run", "usr", "var"):
        text = text.replace(f"/{folder}/", f"{root}/{folder}/")
    return subprocess.run(
        ["sh", "-c", text, script, *arguments],
        env={"PATH": f"{root}/bin:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("name", ["R&D", "Storage/Compute", r"Team \1", "Zoë"])
def test_any_name_can_maintain_it(name: str, tmp_path: Path) -> None:
    """None means something to sed."""
    functions = (DEBIAN / "build.sh").read_text().replace('main "$@"\n', "")
    script = f"{functions}\nversion=1 bundle=no source=$1\nassemble\n"
    subprocess.run(
        ["sh", "-c", script, DEBIAN / "build.sh", tmp_path / "source"],
        env=os.environ | {"DEBFULLNAME": name, "DEBEMAIL": "m@example.org"},
        check=True,
    )
    control = (tmp_path / "source/debian/control").read_text()
    assert f"\nMaintainer: {name} <m@example.org>\n" in control
    assert f" -- {name} <m@example.org>  " in (tmp_path / "source/debian/changelog").read_text()


@pytest.mark.parametrize(("edit", "left"), [(None, "new"), ("mine", "mine"), ("", "")])
def test_what_is_edited_between_unpacking_and_configuring_is_kept(
    edit: str | None, left: str, tmp_path: Path
) -> None:
    """Days may pass if a package that this one needs cannot be installed."""
    policy, shipped = tmp_path / "etc/oomguard.yaml", tmp_path / "usr/share/oomguard/oomguard.yaml"
    for file in (policy, shipped, tmp_path / "bin/py3compile"):
        file.parent.mkdir(parents=True)
        file.write_text("old" if file.suffix else "#!/bin/sh\n")
        file.chmod(0o755)

    run_script(tmp_path, "preinst", "upgrade", "0.0.1")
    shipped.write_text("new")
    if edit is not None:
        policy.write_text(edit)
    run_script(tmp_path, "postinst", "configure", "0.0.1")
    assert policy.read_text() == left
    assert os.listdir(policy.parent) == ["oomguard.yaml"]


def test_a_link_to_a_policy_that_nobody_edited_stays_one(tmp_path: Path) -> None:
    """Later edits are made where it leads."""
    policy, shipped = tmp_path / "etc/oomguard.yaml", tmp_path / "usr/share/oomguard/oomguard.yaml"
    for file in (policy, shipped, tmp_path / "bin/py3compile"):
        file.parent.mkdir(parents=True)
    own = tmp_path / "own.yaml"
    for file in (own, shipped):
        file.write_text("old")
    policy.symlink_to(own)
    compile_ = tmp_path / "bin/py3compile"
    compile_.write_text("#!/bin/sh\n")
    compile_.chmod(0o755)
    run_script(tmp_path, "preinst", "upgrade", "0.0.1")
    shipped.write_text("new")
    run_script(tmp_path, "postinst", "configure", "0.0.1")
    assert policy.readlink() == own
    assert own.read_text() == "old"
    assert os.listdir(policy.parent) == ["oomguard.yaml"]


@pytest.mark.parametrize("lists", [["installed-files"], ["installed-files.new"], []])
def test_it_takes_over_from_an_installer_that_failed(lists: list[str], tmp_path: Path) -> None:
    """That has a folder where the package has a link, which dpkg cannot replace."""
    home, unit = tmp_path / "usr/lib/oomguard", tmp_path / "usr/lib/systemd/system/oomguard.service"
    for folder in (home / "lib/python3.11", unit.parent, tmp_path / "etc"):
        folder.mkdir(parents=True)
    unit.touch()
    (home / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    for name in lists:
        (home / name).write_text(f"{unit}\n")
    run_script(tmp_path, "preinst", "install")
    assert not home.exists()
    assert unit.exists() == (not lists)
    home.mkdir()
    (home / "pyvenv.cfg").write_text("home = /usr/bin\n")  # the package's own
    run_script(tmp_path, "preinst", "install")
    assert home.exists()


def test_a_failed_upgrade_leaves_a_program_that_can_be_started(tmp_path: Path) -> None:
    """Prerm has deleted what was compiled, and the service cannot compile."""
    compile_, left = tmp_path / "bin/py3compile", tmp_path / "etc/oomguard.yaml.dpkg-unedited"
    for file in (compile_, left):
        file.parent.mkdir()
        file.write_text('#!/bin/sh\necho "$@"\n')
        file.chmod(0o755)
    compiled = f"-p oomguard {tmp_path}/usr/lib/oomguard\n"
    assert run_script(tmp_path, "postinst", "abort-upgrade", "0.0.2") == compiled
    assert not left.exists()


@pytest.mark.parametrize("is_installed", [True, False])
def test_a_purge_spares_the_policy_of_a_later_installation(is_installed: bool, tmp_path: Path) -> None:
    """The package was removed, and systemd/install.sh run since."""
    policy, listed = tmp_path / "etc/oomguard.yaml", tmp_path / "usr/lib/oomguard/installed-files"
    for file in (policy, listed):
        file.parent.mkdir(parents=True)
        file.touch()
    if not is_installed:
        listed.unlink()
    run_script(tmp_path, "postrm", "purge")
    assert policy.exists() == is_installed


def test_a_running_exporter_of_the_installer_runs_on_from_the_package(tmp_path: Path) -> None:
    """The first installation may be over systemd/install.sh; debhelper's part is for upgrades."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for program in ("deb-systemd-invoke", "py3compile", "install", "mv"):
        (tmp_path / "bin" / program).write_text(f'#!/bin/sh\necho {program} "$@"\n')
        (tmp_path / "bin" / program).chmod(0o755)
    for before, restarts in (("", 1), ("0.0.1", 0)):
        printed = run_script(tmp_path, "postinst", "configure", before)
        assert printed.count("deb-systemd-invoke try-restart oomguard-exporter.service\n") == restarts


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    """Those with wheels in the package are those it may be installed beside."""
    versions = [int(version.removeprefix("3.")) for version in (SYSTEMD / "pythons").read_text().split()]
    assert versions == list(range(versions[0], versions[-1] + 1))
    control = (DEBIAN / "control").read_text()
    assert f"\n python3 (>= 3.{versions[0]}),\n python3 (<< 3.{versions[-1] + 1}),\n" in control
    assert PROJECT["requires-python"] == f">=3.{versions[0]}"
    for version in versions:
        assert f"Programming Language :: Python :: 3.{version}" in PROJECT["classifiers"]


def test_debian_s_packages_are_asked_for_in_the_ranges_of_pyproject() -> None:
    """Except for inotify-simple, which Debian lacks and the package brings."""
    source, package = (DEBIAN / "control").read_text().split("\n\n", maxsplit=1)
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        for specifier in wanted.specifier:
            relation = {">=": f">= {specifier.version}", "<": f"<< {specifier.version}~"}[specifier.operator]
            name = {"pyyaml": "yaml"}.get(wanted.name, wanted.name)
            line = f"\n python3-{name} ({relation}),"
            assert (line in package) == (wanted.name != "inotify-simple"), line
            if specifier.operator == ">=":
                assert (line in source) == (line in package)


@needs_debian
@pytest.mark.packaging
def test_the_package_names_what_it_needs(package: Path) -> None:
    """Python and libc, and no Python package: those are in it."""
    assert field(package, "Version") == __version__
    needed = {part.split()[0] for part in field(package, "Depends").split(",")}
    assert needed == {"libc6", "libgcc-s1", "python3"}


@needs_debian
@pytest.mark.packaging
def test_there_is_no_conffile(package: Path) -> None:
    """So dpkg asks nothing."""
    done = subprocess.run(["dpkg-deb", "--info", package], capture_output=True, text=True, check=True)
    assert "conffiles" not in done.stdout


@needs_debian
@pytest.mark.packaging
def test_the_package_has_what_the_installer_installs(tree: Path) -> None:
    """The same files in the same places, but for compressed pages, and units below /lib."""
    listed = [line.split() for line in (SYSTEMD / "files").read_text().splitlines()]
    pages = {f"docs/man/{page.name}" for page in (ROOT / "docs" / "man").glob("*.[1-8]")}
    assert pages < {source for source, _ in listed}
    for source, target in listed:
        if source in pages:
            assert (tree / f"{target}.gz").is_file()
            continue
        assert (tree / target).is_file() or (tree / target.removeprefix("usr/")).is_file(), target
    assert (tree / "usr/share/oomguard/oomguard.schema.json").is_file()
    assert (tree / "etc/oomguard.d").is_dir()


@needs_debian
@pytest.mark.packaging
def test_the_program_in_it_runs_beside_no_other_package(tree: Path, tmp_path: Path) -> None:
    """By the python3 of this Debian, from validating to tables; what it prints them with is complete."""
    policy = tmp_path / "policy.yaml"
    shutil.copy(tree / "usr/lib/oomguard.d/90-default.yaml", policy)
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


_LIFE = """
rm -rf /etc/oomguard.* /usr/share/oomguard /usr/lib/oomguard*
policy=/etc/oomguard.yaml
dpkg() { command dpkg --force-depends "$@" </dev/null >/run/log 2>&1 || { cat /run/log; exit 1; }; }

# Before the layers, it was a conffile with the protections. What nobody edited is replaced.
mkdir -p /run/old/DEBIAN /run/old/etc /run/old/usr/share/oomguard
printf 'Package: oomguard\nVersion: 0.0.1\nArchitecture: all\nMaintainer: m <m@m.m>\nDescription: old\n' \
    >/run/old/DEBIAN/control
echo /etc/oomguard.yaml >/run/old/DEBIAN/conffiles
echo 'rules: []  # old' | tee "/run/old$policy" >/run/old/usr/share/oomguard/oomguard.yaml
dpkg-deb --build /run/old /run/old.deb
dpkg -i /run/old.deb
dpkg -i "$1"
cmp "$policy" /usr/share/oomguard/oomguard.yaml

# What somebody edited is kept, without a question.
dpkg --purge oomguard
test ! -e "$policy"
dpkg -i /run/old.deb
echo '# mine' >"$policy"
dpkg -i "$1"
cat "$policy"

# What somebody removed is not created again; without a policy, there are still the protections.
rm "$policy"
dpkg -i "$1"
oomguard check
dpkg --purge oomguard
! find /etc /usr /var/lib/oomguard -xdev -path '*oomguard*' | grep .
"""


@needs_debian
@pytest.mark.packaging
@pytest.mark.skipif(os.geteuid() != 0, reason="root mounts")
def test_an_upgrade_keeps_what_was_edited_and_asks_nothing(package: Path) -> None:
    """In a mount namespace with files of its own. tests/vm has the package with systemd."""
    command = ["unshare", "--mount", "sh", "-euc", OWN_FOLDERS + _LIFE, "sh", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n# mine\n" in done.stdout
    origin = "6 rules and 0 sysctls from /usr/lib/oomguard.d/90-default.yaml"
    assert f"/etc/oomguard.yaml: valid, {origin}\n" in done.stdout


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
def test_its_pages_link_to_files_that_it_has(tree: Path) -> None:
    """But for the source's own: its tests, and how to work on it."""
    folder = tree / "usr/share/doc/oomguard"
    pages = sorted(folder.rglob("*.md"))
    assert folder / "docs/policy.md" in pages
    links = [(page, link) for page in pages for link in _LINK.findall(page.read_text())]
    dead = {link for page, link in links if not (page.parent / link).exists()}
    assert {
        link for link in dead if "tests" not in link.split("/") and Path(link).name != "CONTRIBUTING.md"
    } == set()


@needs_debian
@pytest.mark.packaging
@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian")
def test_lintian_finds_nothing(package: Path) -> None:
    """Pedantic; what is overridden has its reason in systemd/debian/lintian-overrides.

    Lintian of Debian 13 and before asks for init scripts; the next calls an override alien. Readiness,
    watchdog, sandbox and restarts are systemd's; without it `oomguard run` can be started by hand. Only
    DEBEMAIL gives the maintainer an address.
    """
    options = ["--allow-root", "--display-info", "--pedantic", "--display-experimental"]
    done = subprocess.run(["lintian", *options, package], capture_output=True, text=True, check=False)
    expected = "no-init.d-script|bogus-mail-host-in-debian-changelog|malformed-contact"
    assert [line for line in done.stdout.splitlines() if not re.search(expected, line)] == []
    assert done.stderr == ""
