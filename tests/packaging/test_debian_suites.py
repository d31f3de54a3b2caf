"""The Debian package that takes Debian's Python packages, in a fresh root of each release it is for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from built import built
from oomguard import __version__
from vm.image import apt_sources

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a root folder"),
]

_CHECKS = r"""
exec </dev/null
cd /root
oomguard --version
oomguard check && oomguard test cases/*.yaml && oomguard rank >/dev/null
oomguard schema | cmp - /usr/share/oomguard/oomguard.schema.json
oomguard exporter --textfile - | grep -x 'oomguard_up 0.0'
oomguard postmortem --html page.html reports/6.12-host.txt >/dev/null && grep -q '</html>' page.html

# Packages of pip's do not count, the distribution's do.
own=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$own" && echo 'raise SystemExit("from /usr/local")' >"$own/rich.py"
oomguard rank >/dev/null
/usr/lib/oomguard/bin/python3 -P -c '
import inotify_simple, jinja2, prometheus_client, pydantic, rich, sdnotify, yaml
for module in (jinja2, prometheus_client, pydantic, rich, sdnotify, yaml):
    assert module.__file__.startswith("/usr/lib/python3/dist-packages/"), module
assert inotify_simple.__file__.startswith("/usr/lib/oomguard/"), inotify_simple'

# One pass on a process of its own, and back; mmdebstrap mounts /proc read-only.
mount -t proc proc /proc
sleep 60 & pid=$!
printf 'rules: [{name: sleep, cmdline: "^sleep 60$", oom_score_adj: 321}]\n' >own.yaml
oomguard apply --policy own.yaml --state-dir /root/state >/dev/null
cat /proc/$pid/oom_score_adj
oomguard restore --state-dir /root/state >/dev/null
cat /proc/$pid/oom_score_adj
kill $pid
umount /proc

echo '# mine' >>/etc/oomguard.yaml
dpkg --remove oomguard >/dev/null && tail -n 1 /etc/oomguard.yaml
dpkg --purge oomguard >/dev/null
! find /etc /usr /var/lib/oomguard -xdev -path '*oomguard*' | grep .
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it, unless a release has."""
    folder = tmp_path_factory.mktemp("deb")
    return built("*_all.deb", ["sh", ROOT / "systemd/debian/build.sh", "--output", folder], folder)


@pytest.mark.parametrize("suite", ["trixie", "forky"])
def test_it_runs_on_the_python_and_the_packages_of(suite: str, package: Path, tmp_path: Path) -> None:
    """Installed by apt, with no recommendation; each verb that needs a package, a write, and the end."""
    checks, printed = tmp_path / "checks", tmp_path / "printed"
    checks.write_text(_CHECKS)
    hooks = [
        f'cp -r "{package}" "{checks}" "{ROOT}/tests/cases" "{ROOT}/tests/reports" "$1/root/"',
        f'chroot "$1" apt-get -qq -y --no-install-recommends install "/root/{package.name}" >/dev/null',
        f'chroot "$1" sh -eu /root/checks >"{printed}"',
    ]
    command: list[str | Path] = [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=null"),
        '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may keep a Release file past its date
        *[f"--customize-hook={hook}" for hook in hooks],
        *[suite, "/dev/null"],
        *apt_sources(suite, tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "Failed to fetch" in done.stderr:
        pytest.skip(f"the mirrors of this machine do not have {suite}")
    assert done.returncode == 0, done.stdout + done.stderr
    output = printed.read_text()
    assert output.startswith(f"oomguard {__version__}\n/etc/oomguard.yaml: valid, 6 rules"), output
    assert "\noomguard_up 0.0\n" in output
    assert output.endswith("\n321\n0\n# mine\n"), output
