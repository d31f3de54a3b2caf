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
    assert SPEC.partition("%changelog\n")[2].partition("\n")[0].endswith(f" - {__version__}-1")
    wanted = [re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<(\d+))?", text) for text in project["dependencies"]]
    required = {
        f"python3dist({name}) {relation} {version}"
        for name, lowest, limit in (one.groups() for one in wanted if one)
        for relation, version in ((">=", lowest), ("<", limit))
        if version and name != "inotify-simple"
    }
    assert set(re.findall(r"python3dist\([\w-]+\) [<>]=? [\d.]+", SPEC)) == required
    versions = (ROOT / "systemd" / "pythons").read_text().split()
    after = int(versions[-1].removeprefix("3.")) + 1
    assert f"python3 >= {versions[0]}\nRequires:       python3 < 3.{after}\n" in SPEC


@pytest.mark.parametrize(("count", "installed", "code"), [(1, True, 1), (1, False, 0), (2, True, 0)])
def test_it_refuses_to_be_installed_over_the_installer(
    count: int, installed: bool, code: int, tmp_path: Path
) -> None:
    """That has folders where the package has links, and half a package is worse than none."""
    if installed:
        (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    else:
        (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")  # the package's own
    script = SPEC.partition("\n%pre\n")[2].partition("\n%")[0].replace("/usr/lib/oomguard", str(tmp_path))
    done = subprocess.run(
        ["sh", "-c", script, "pre", str(count)], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code
    assert ("run systemd/install.sh --uninstall first" in done.stderr) == bool(code)


def build(tree: Path, folder: Path, *options: str) -> Path:
    """Build a package of a tree; on this Debian, the packages of these tests are the distribution's."""
    home = folder / "home"
    home.mkdir(parents=True)
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

rpm --query --provides --package "$first" | grep -c ^bundled
rpm --query --provides --package "$second" | grep ^bundled
for one; do rpm --query --requires --package "$one" | grep '^python(abi)' || echo any; done
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
in_root oomguard check

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


@pytest.mark.release
@pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="needs rpmbuild (Debian: rpm)")
@pytest.mark.skipif(os.geteuid() != 0, reason="root mounts")
def test_it_is_installed_upgraded_and_erased(tmp_path: Path) -> None:
    """With all packages, then with the distribution's: no edited policy is lost, and values are restored."""
    later = tmp_path / "later"
    later.mkdir()
    for part in (
        "src",
        "systemd",
        "etc",
        "docs",
        *(path.name for path in ROOT.glob("[A-Zpr]*.*")),
        "LICENSE",
    ):
        subprocess.run(["cp", "-r", ROOT / part, later], check=True)
    (later / "systemd/rpm/oomguard.spec").write_text(SPEC.replace("Release:        1", "Release:        2"))
    with (later / "etc/oomguard.yaml").open("a") as policy:
        policy.write("# Of a later version.\n")
    packages = [build(ROOT, tmp_path / "one", "--bundle"), build(later, tmp_path / "two")]
    command: list[str | Path] = ["unshare", "--mount", "sh", "-euc", _LIFE, "sh", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    layers = "/etc/oomguard.yaml, /usr/lib/oomguard.d/90-default.yaml"
    pins = dict(re.findall(r"^([a-z][\w-]*)==(\S+) ", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.check_output(["/usr/bin/python3", "-c", asked], text=True).strip()
    assert done.stdout.splitlines() == [
        str(len(pins.keys() - {"pygments", "markdown-it-py", "mdurl"})),
        f"bundled(python3dist(inotify-simple)) = {pins['inotify-simple']}",
        "any",
        f"python(abi) = {version}",
        f"oomguard {__version__}",
        f"/etc/oomguard.yaml: valid, 6 rules and 0 sysctls from {layers}",
        "1",
        "321",
        "# Of a later version.",
        "321",
        "/etc/oomguard.yaml: valid, 1 rule and 0 sysctls from /etc/oomguard.d/own.yaml, /etc/oomguard.yaml",
        "# mine",
        "etc/oomguard.yaml.rpmnew",
        "0",
        "# mine",
        'rules: [{name: sleep, cmdline: "^sleep 600$", oom_score_adj: 321}]',
    ]
