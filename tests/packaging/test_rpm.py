"""The RPM package: built, and its life in a root of its own (`rpm --root`). No host with RPM has tried it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from oomguard import __version__

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "systemd" / "rpm" / "oomguard.spec").read_text()


def test_the_spec_is_of_this_version_and_its_ranges() -> None:
    """The distribution's Python packages, except for inotify-simple, which comes along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nVersion:        {__version__}\n" in SPEC
    wanted = [re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<(\d+))?", text) for text in project["dependencies"]]
    required = {
        f"python3dist({name}) {relation} {version}"
        for name, lowest, limit in (one.groups() for one in wanted if one)
        for relation, version in ((">=", lowest), ("<", limit))
        if version and name != "inotify-simple"
    }
    assert set(re.findall(r"^Requires: +(python3dist.*)$", SPEC, re.MULTILINE)) == required
    versions = (ROOT / "systemd" / "pythons").read_text().split()
    after = int(versions[-1].removeprefix("3.")) + 1
    assert f"python3 >= {versions[0]}\nRequires:       python3 < 3.{after}\n" in SPEC


def build(tree: Path, folder: Path, *options: str) -> Path:
    """Build a package of a tree; on this Debian, the packages of these tests are the distribution's."""
    home = folder / "home"
    home.mkdir()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    (home / ".rpmmacros").write_text(f"%python3_sitelib {site}\n%python3_sitearch {site}\n")
    command: list[str | Path] = ["sh", tree / "systemd" / "rpm" / "build.sh", *options, "--output", folder]
    done = subprocess.run(
        command, env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.strip())


# No systemd runs in this root, and Debian has no packages in RPM's database: --nodeps.
_LIFE = r"""
mount -t tmpfs tmpfs /run && mkdir /run/rw /run/rw/upper /run/rw/work /run/root
mount -t overlay -o lowerdir=/,upperdir=/run/rw/upper,workdir=/run/rw/work overlay /run/root
mount --rbind /proc /run/root/proc && mount -t tmpfs tmpfs /run/root/run && mount --rbind /dev /run/root/dev
cd /run/root
rm -rf etc/oomguard.* usr/share/oomguard usr/lib/oomguard* var/lib/oomguard var/lib/rpm usr/lib/sysimage/rpm
rpm() { command rpm --root /run/root "$@"; }
in_root() { chroot /run/root "$@" </dev/null; }
first=$1 second=$2

rpm --install --nodeps "$first"
rpm --verify --nodeps oomguard
in_root oomguard --version
in_root oomguard check
in_root find /usr/lib/oomguard -name '*.pyc' | head -n 1 | grep -c .

# A policy that nobody edited is replaced; the values of a rule stay in force over an upgrade.
ln -s /dev/null etc/oomguard.d/90-default.yaml
sleep 600 & pid=$!
printf 'rules: [{name: sleep, cmdline: "^sleep 600$", oom_score_adj: 321}]\n' >etc/oomguard.d/own.yaml
in_root oomguard apply >/dev/null
cat /proc/$pid/oom_score_adj
rpm --upgrade --nodeps "$second"
tail -n 1 etc/oomguard.yaml
cat /proc/$pid/oom_score_adj

# An edited one is kept, and the other is beside it.
echo '# mine' >etc/oomguard.yaml
rpm --upgrade --nodeps --oldpackage "$first"
cat etc/oomguard.yaml
ls etc/oomguard.yaml.rpmnew

# The end: values are restored, what was edited is kept.
rpm --erase oomguard >/dev/null
cat /proc/$pid/oom_score_adj etc/oomguard.yaml.rpmsave etc/oomguard.d/own.yaml
kill $pid
! find etc usr var/lib/oomguard run -path '*oomguard*' -not -path 'etc/oomguard.*' | grep .
"""


def live(first: Path, second: Path) -> str:
    """Install, upgrade, go back and erase it; return what is printed."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", _LIFE, "sh", first, second],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [[], ["--bundle"]], ids=["the distribution's packages", "bundle"])
@pytest.mark.packaging
@pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="needs rpmbuild (Debian: rpm)")
@pytest.mark.skipif(os.geteuid() != 0, reason="root mounts")
def test_it_is_installed_upgraded_and_erased(options: list[str], tmp_path: Path) -> None:
    """It asks nothing, loses no edited policy, and gives back what it changed."""
    later = tmp_path / "later"
    later.mkdir()
    for part in ("src", "systemd", "etc", "docs", *(path.name for path in ROOT.glob("[A-Zpr]*.*"))):
        subprocess.run(["cp", "-r", ROOT / part, later], check=True)
    shutil.copy(ROOT / "LICENSE", later)
    (later / "systemd/rpm/oomguard.spec").write_text(SPEC.replace("Release:        1", "Release:        2"))
    with (later / "etc/oomguard.yaml").open("a") as policy:
        policy.write("# Of a later version.\n")
    packages = []
    for name, tree in (("one", ROOT), ("two", later)):
        (tmp_path / name).mkdir()
        packages.append(build(tree, tmp_path / name, *options))
    layers = "/etc/oomguard.yaml, /usr/lib/oomguard.d/90-default.yaml"
    assert live(*packages).splitlines() == [
        f"oomguard {__version__}",
        f"/etc/oomguard.yaml: valid, 6 rules and 0 sysctls from {layers}",
        "1",
        "321",
        "# Of a later version.",
        "321",
        "# mine",
        "etc/oomguard.yaml.rpmnew",
        "0",
        "# mine",
        'rules: [{name: sleep, cmdline: "^sleep 600$", oom_score_adj: 321}]',
    ]
