"""The installer on this machine, in a mount namespace with files of its own. tests/vm has it with systemd."""

import os
import subprocess
from pathlib import Path

import pytest

from mounts import OWN_FOLDERS
from oomguard import __version__

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(os.geteuid() != 0, reason="root mounts"),
]

INSTALLER = Path(__file__).parents[2] / "systemd" / "install.sh"

_NOTHING_INSTALLED = """
rm -rf /etc/oomguard.yaml /etc/oomguard.d /usr/lib/oomguard.d /var/lib/oomguard
installer=$1
"""
_REFUSED = """
mkdir /run/bin
printf '#!/bin/sh\\ntest "$*" = "--quiet --query oomguard"' >/run/bin/rpm
chmod 755 /run/bin/rpm
! PATH="/run/bin:$PATH" sh "$installer" 2>&1

mv /usr/bin/python3 /usr/bin/python3.real
version='case $* in *version_info*) echo 3.15 ;; --version) echo Python 3.15.0 ;; esac'
printf '#!/bin/sh\\n%s' "$version" >/usr/bin/python3
chmod 755 /usr/bin/python3
! sh "$installer" 2>&1
mv /usr/bin/python3.real /usr/bin/python3
"""
_UPGRADED = """
printf '#!/bin/sh\\ntest "$*" = "-R -f -" && cat >/run/labeled' >/run/bin/restorecon
chmod 755 /run/bin/restorecon
rm /run/bin/rpm
PATH="/run/bin:$PATH" sh "$installer"
for file in /usr/lib/oomguard /etc/oomguard.yaml /usr/lib/systemd/system/oomguard.service; do
    grep -x "$file" /run/labeled >/dev/null
done
head -n 1 /usr/bin/oomguard
test -e /usr/share/doc/oomguard/docs/lint.md
# An earlier release had other files, and nobody edited its main file.
echo 'vm: {swappiness: 1}' | tee /etc/oomguard.yaml >/usr/share/oomguard/oomguard.yaml
echo 'vm: {swappiness: 1}' >/usr/lib/oomguard.d/90-default.yaml
sh "$installer" >/dev/null
oomguard --version
oomguard check
test -e /usr/share/zsh/vendor-completions/_oomguard
# One that somebody edited is kept. On other distributions, zsh reads another folder.
rm /etc/debian_version
echo '# mine' >/etc/oomguard.yaml
sh "$installer" | grep kept
cat /etc/oomguard.yaml
find /usr/share/zsh -name _oomguard
"""
_DISABLED = """
# The service is disabled, and does not run.
mkdir -p /run/systemd/system
printf '#!/bin/sh\\ncase $* in *is-*) exit 1 ;; esac; echo "$*" >>/run/asked' >/run/bin/systemctl
chmod 755 /run/bin/systemctl
PATH="/run/bin:$PATH" sh "$installer" | grep started
cat /run/asked
rm -r /run/systemd
"""
_FAILED = """
# Links of the administrator: to a policy as an earlier release had it, and to a folder that is not there yet.
echo 'vm: {swappiness: 1}' | tee /run/linked.yaml >/usr/share/oomguard/oomguard.yaml
ln -sf /run/linked.yaml /etc/oomguard.yaml
rmdir /etc/oomguard.d
ln -s /run/later.d /etc/oomguard.d
sh "$installer" | grep 'is a link'
readlink /etc/oomguard.yaml /etc/oomguard.d
rm /etc/oomguard.yaml /etc/oomguard.d
touch /etc/oomguard.yaml
# A new Python version, and no network: the program is gone, but not what is known of values and files.
rm /usr/lib/oomguard/bin/python3
echo /usr/lib/systemd/system/oomguard-new.service >/usr/lib/oomguard/installed-files.new
touch /usr/lib/systemd/system/oomguard-new.service
mkdir /run/empty /run/oomguard
! sh "$installer" --wheels /run/empty 2>/dev/null
touch /run/oomguard/ledger
! sh "$installer" --uninstall 2>&1 | grep restored
rm /run/oomguard/ledger
# A program that does not start, after an upgrade of Python, has set nothing since the last boot.
printf '#!/bin/sh\\nexit 1' >/usr/lib/oomguard/bin/oomguard
chmod 755 /usr/lib/oomguard/bin/oomguard
sh "$installer" --uninstall
if find /usr /var/lib -xdev -name '*oomguard*' | grep .; then exit 1; fi
test -e /etc/oomguard.yaml
"""
_LIFE = OWN_FOLDERS + _NOTHING_INSTALLED + _REFUSED + _UPGRADED + _DISABLED + _FAILED


def test_it_installs_upgrades_and_uninstalls() -> None:
    """The command works, by a launcher that takes no module from anywhere else; the edited policy stays."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", _LIFE, "sh", INSTALLER],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("oomguard: the RPM package oomguard is installed; upgrade with dnf")
    assert "/usr/bin/python3 is Python 3.15.0; oomguard needs Python 3.11 to 3.14\n" in done.stdout
    assert f"oomguard: installed oomguard {__version__}\n" in done.stdout
    assert "to start oomguard, run: oomguard run" in done.stdout
    assert "#!/usr/lib/oomguard/bin/python3 -P\n" in done.stdout
    layers = "/etc/oomguard.yaml, /usr/lib/oomguard.d/90-default.yaml"
    valid = f"/etc/oomguard.yaml: valid, 6 rules and 0 sysctls from {layers}"
    assert f"\noomguard {__version__}\n{valid}\n" in done.stdout
    kept = "/etc/oomguard.yaml was edited and is kept; the new one is /usr/share/oomguard/oomguard.yaml"
    assert f"oomguard: {kept}\n# mine\n/usr/share/zsh/site-functions/_oomguard\n" in done.stdout
    disabled = "not started, as it is disabled; to start it, run: systemctl enable --now oomguard"
    linked = "/etc/oomguard.yaml is a link and is kept; the new one is /usr/share/oomguard/oomguard.yaml"
    links = f"oomguard: {linked}\n/run/linked.yaml\n/run/later.d\n"
    assert f"\noomguard: {disabled}\ndaemon-reload\n{links}" in done.stdout
    failed = "some values could not be restored, so nothing was removed; to remove it anyway, use --force"
    assert f"\noomguard: {failed}\noomguard: removed; the policy is kept" in done.stdout
