"""The installer on this machine, in a mount namespace with files of its own. tests/vm has it with systemd."""

import os
import subprocess
from pathlib import Path

import pytest

from oomguard import __version__

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(os.geteuid() != 0, reason="root mounts"),
]

INSTALLER = Path(__file__).parents[2] / "systemd" / "install.sh"

_OWN_FILES = """
mount -t tmpfs tmpfs /run
for folder in usr etc var; do
    mkdir -p "/run/$folder/upper" "/run/$folder/work"
    own=/run/$folder
    mount -t overlay -o "lowerdir=/$folder,upperdir=$own/upper,workdir=$own/work" overlay "/$folder"
done
rm -rf /etc/oomguard.yaml /etc/oomguard.d /var/lib/oomguard
installer=$1
"""
_UPGRADED = """
sh "$installer"
head -n 1 /usr/bin/oomguard
sh "$installer" >/dev/null
oomguard --version
oomguard check
sh "$installer" --uninstall
! find /usr /var/lib -xdev -name '*oomguard*' | grep .
test -e /etc/oomguard.yaml
"""


def test_it_installs_upgrades_and_uninstalls() -> None:
    """The command works, by a launcher that takes no module from anywhere else; the policy stays."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", _OWN_FILES + _UPGRADED, "sh", INSTALLER],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"oomguard: installed oomguard {__version__}\n" in done.stdout
    assert "to start oomguard, run: oomguard run" in done.stdout
    assert "#!/usr/lib/oomguard/bin/python3 -P\n" in done.stdout
    assert f"\noomguard {__version__}\n/etc/oomguard.yaml" in done.stdout
