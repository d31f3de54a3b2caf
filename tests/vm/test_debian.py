"""The Debian package through its life: installed, upgraded, removed, purged."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .guest import Guest
from .service import COMMAND, DROP_INS, INSTALLER, POLICY, SHIPPED_POLICY, UNIT, Service

BUILD = Path(__file__).parents[2] / "systemd" / "debian" / "build.sh"
IN_GUEST = "/var/tmp/oomguard.deb"
UPGRADE_IN_GUEST = "/var/tmp/oomguard-upgrade.deb"
DPKG_TIMEOUT_SECONDS = 600.0
"""Everything is compiled at the installation, which an emulated guest takes a while for."""

EXPORTER = "oomguard-exporter.service"
WANTED = "/etc/systemd/system/multi-user.target.wants"
"""Kept by deb-systemd-helper until the purge: who disabled a service finds it so when it comes back."""

PIECE_BYTES = 128 * 1024
LATER = "# Of a later version."
EDITED = "vm: {swappiness: 44}\nrules: [{name: systemd-logind, user: root, oom_score_adj: -444}]\n"


@pytest.fixture(scope="module")
def package() -> Iterator[Path]:
    """Build the package, as a user would, with one command."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["sh", BUILD, "--bundle", "--output", folder], stdout=subprocess.PIPE, text=True, check=True
        )
        yield Path(done.stdout.splitlines()[-1])


def carry(vm: Guest, package: Path) -> None:
    """Bring the package into the guest, in pieces that its serial port takes in a second or two."""
    content = package.read_bytes()
    for start in range(0, len(content), PIECE_BYTES):
        vm.put(f"{IN_GUEST}.piece", content[start : start + PIECE_BYTES])
        vm.run(f"cat {IN_GUEST}.piece >>{IN_GUEST}")


def make_upgrade(vm: Guest) -> None:
    """Make the package of a later version, with another policy as shipped."""
    vm.run(
        f"cd /var/tmp && dpkg-deb --raw-extract {IN_GUEST} later"
        " && sed -i 's/^Version: /&1:/' later/DEBIAN/control"
        f" && echo '{LATER}' >>later/{SHIPPED_POLICY}"
        f" && dpkg-deb -Znone --build later {UPGRADE_IN_GUEST} && rm -r later",
        timeout_seconds=DPKG_TIMEOUT_SECONDS,
    )


def dpkg(vm: Guest, *arguments: str) -> str:
    """Run dpkg without anybody to ask, and return all that it says."""
    command = " ".join(["DEBIAN_FRONTEND=noninteractive dpkg", *arguments, "2>&1"])
    return vm.run(command, timeout_seconds=DPKG_TIMEOUT_SECONDS).stdout


def left_behind(vm: Guest) -> set[str]:
    """Return every file that has oomguard in its name, but the suite's and what dpkg notes down."""
    found = vm.run("find / /run -xdev -path '*oomguard*' -not -path '/var/*' -not -path '/media/*'").stdout
    return {path for path in found.split() if "oomguard-vm" not in path and "media-oomguard" not in path}


def swappiness(vm: Guest) -> int:
    """Return the sysctl that the edited policy sets."""
    return int(vm.get("/proc/sys/vm/swappiness"))


@pytest.mark.guest(is_plain=True, cpus=1)
def test_the_package_lives_as_packages_do(fresh_vm: Guest, package: Path) -> None:
    """It starts, keeps what was edited, gives back what it changed, and leaves nothing when purged."""
    vm, service = fresh_vm, Service(fresh_vm)
    original = swappiness(vm)
    logind = vm.run("systemctl show -P MainPID systemd-logind").stdout.strip()
    carry(vm, package)
    make_upgrade(vm)

    # Installed: it runs, and everything a user looks for is there.
    dpkg(vm, "--install", IN_GUEST)
    assert service.is_active
    assert vm.run(["systemctl", "is-enabled", UNIT]).stdout == "enabled\n"
    assert vm.run(["systemctl", "show", "-P", "NRestarts", UNIT]).stdout == "0\n"
    assert vm.run(["systemctl", "is-enabled", EXPORTER], check=False).stdout == "disabled\n"
    vm.run(["systemctl", "enable", "--now", EXPORTER])
    assert vm.run("oomguard check --host && oomguard status && oomguard explain systemd-logind").code == 0
    assert vm.get(POLICY) == vm.get(SHIPPED_POLICY)
    assert b"json-schema.org" in vm.get("/usr/share/oomguard/oomguard.schema.json")
    for file in (
        "/usr/share/bash-completion/completions/oomguard",
        "/usr/share/zsh/vendor-completions/_oomguard",
        "/usr/share/fish/vendor_completions.d/oomguard.fish",
        "/usr/share/man/man8/oomguard.8.gz",
        "/usr/share/man/man5/oomguard.yaml.5.gz",
    ):
        vm.run(["test", "-s", file])
    started = service.log()[0]
    assert started["OOMGUARD_EVENT"] == "started"
    assert "oomguard has started" in vm.run(["journalctl", "--dump-catalog", started["MESSAGE_ID"]]).stdout
    vm.run(f"test -d {DROP_INS}")

    # Installed a second way: refused.
    refused = vm.run(["sh", INSTALLER], check=False)
    assert refused.code == 1
    assert "the Debian package oomguard is installed" in refused.stderr

    # Upgraded: the edited policy stays, and so do the values; the new program runs.
    service.write_policy(EDITED)
    service.wait_for_value("/proc/sys/vm/swappiness", 44)
    service.wait_for_value(f"/proc/{logind}/oom_score_adj", -444)
    vm.run(f"echo 'vm: {{stat_interval: 2}}' >{DROP_INS}/site.yaml")
    service.wait_for_value("/proc/sys/vm/stat_interval", 2)
    before, since = service.main_pid, vm.now()
    exporter = vm.run(["systemctl", "show", "-P", "MainPID", EXPORTER]).stdout
    dpkg(vm, "--install", UPGRADE_IN_GUEST)
    assert service.is_active
    assert service.main_pid != before
    vm.run(["systemctl", "is-active", EXPORTER])
    assert vm.run(["systemctl", "show", "-P", "MainPID", EXPORTER]).stdout != exporter
    assert vm.get(POLICY).decode() == EDITED
    assert vm.get(SHIPPED_POLICY).endswith(f"{LATER}\n".encode())
    assert swappiness(vm) == 44
    assert not [entry for entry in service.log(since=since) if entry["OOMGUARD_EVENT"] == "applied"]

    # Removed: the host is as it was, the policy stays.
    said = dpkg(vm, "--remove", "oomguard")
    assert swappiness(vm) == original, said
    assert vm.run(["cat", f"/proc/{logind}/oom_score_adj"]).stdout == "0\n"
    for unit in (UNIT, EXPORTER):
        assert vm.run(["systemctl", "status", unit], check=False).code == 4, f"systemd still knows {unit}"
    assert vm.get(POLICY).decode() == EDITED
    assert left_behind(vm) == {
        POLICY, DROP_INS, f"{DROP_INS}/site.yaml",
        f"{WANTED}/{UNIT}", f"{WANTED}/{EXPORTER}",
    }  # fmt: skip

    # Purged: nothing is left.
    dpkg(vm, "--purge", "oomguard")
    assert left_behind(vm) == set()
    assert vm.run("find /var/lib -path '*oomguard*' -not -path '*oomguard-vm*'").stdout == ""
    assert vm.run("systemctl --failed --no-legend").stdout == ""
    assert vm.run("dpkg --audit").stdout == ""


def test_the_package_takes_over_from_the_installer(installed: Service, package: Path) -> None:
    """With the values, the originals and the edited policy; and nothing of the installer's is left."""
    vm = installed.vm
    original = swappiness(vm)
    installed.write_policy(EDITED)
    installed.wait_for_value("/proc/sys/vm/swappiness", 44)
    before = installed.main_pid
    carry(vm, package)
    dpkg(vm, "--install", IN_GUEST)
    assert installed.is_active
    assert installed.main_pid != before
    assert vm.get(POLICY).decode() == EDITED
    assert swappiness(vm) == 44
    vm.run(f"test -L /usr/lib/oomguard/lib/python3.11 && dpkg --search {COMMAND}")
    dpkg(vm, "--purge", "oomguard")
    assert swappiness(vm) == original
    assert left_behind(vm) == set()
