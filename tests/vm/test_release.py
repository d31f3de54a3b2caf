"""What `.ci/release` made: each file of it is installed, used and removed again."""

import os

import pytest

from oomguard import __version__

from .payload import RELEASE_VARIABLE
from .service import INSTALL_TIMEOUT_SECONDS, WHEELS, Service

pytestmark = pytest.mark.skipif(RELEASE_VARIABLE not in os.environ, reason="tries a release: sh .ci/release")

DIST = "/media/oomguard/dist"
TREE = "/var/tmp/release"
UNPACK = f"""
rm -rf {TREE} && mkdir {TREE} && tar -x -f {DIST}/*.tar.gz -C {TREE} --strip-components=1
mkdir {TREE}/wheels && cp {WHEELS}/*.whl {TREE}/wheels && rm {TREE}/wheels/oomguard-*
cp {DIST}/*.whl {TREE}/wheels
"""
WAYS = {
    "sdist and wheel": (
        f"{UNPACK} sh {TREE}/systemd/install.sh --wheels {TREE}/wheels",
        f"sh {TREE}/systemd/install.sh --uninstall && rm -r /etc/oomguard.*",
    ),
    "amd64.deb": (f"dpkg --install {DIST}/*_amd64.deb", "dpkg --purge oomguard"),
    "all.deb": (f"dpkg --install {DIST}/*_all.deb", "dpkg --purge oomguard"),
}
"""How each is installed, and removed with the policy."""

POLICY = "vm: {swappiness: 44}\nrules: [{name: systemd-logind, user: root, oom_score_adj: -444}]\n"
SWAPPINESS = "/proc/sys/vm/swappiness"
FILES = "find /etc /run /usr /var/lib -xdev -path '*oomguard*' | sort"


def test_the_checksums_are_of_these_files(release_host: Service) -> None:
    """As whoever downloads them checks."""
    release_host.vm.run(f"cd {DIST} && sha256sum --check --strict SHA256SUMS")


@pytest.mark.parametrize("way", WAYS)
def test_it_is_installed_used_and_removed(way: str, suite: str, release_host: Service) -> None:
    """Its service applies a policy, and nothing of that or of itself is left in the end."""
    if (way, suite) == ("all.deb", "bookworm"):
        pytest.skip("the pydantic of bookworm is too old")
    service, vm = release_host, release_host.vm
    install, remove = WAYS[way]
    logind = vm.run("systemctl show -P MainPID systemd-logind").stdout.strip()
    swappiness, files = vm.get(SWAPPINESS), vm.run(FILES).stdout

    vm.run(f"exec 2>&1\n{install}", timeout_seconds=INSTALL_TIMEOUT_SECONDS)
    assert service.is_active
    assert vm.run("oomguard --version").stdout == f"oomguard {__version__}\n"
    service.write_policy(POLICY)
    service.wait_for_value(SWAPPINESS, 44)
    service.wait_for_value(f"/proc/{logind}/oom_score_adj", -444)

    vm.run(f"exec 2>&1\n{remove}", timeout_seconds=INSTALL_TIMEOUT_SECONDS)
    assert vm.get(SWAPPINESS) == swappiness
    assert vm.get(f"/proc/{logind}/oom_score_adj") == b"0\n"
    assert vm.run("systemctl --failed --no-legend").stdout == ""
    assert vm.run(FILES).stdout == files
