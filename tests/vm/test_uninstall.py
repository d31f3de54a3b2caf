"""Taking oomguard out leaves a host as it was, and the policy."""

import pytest

from .service import DROP_INS, INSTALLER, POLICY, Service


@pytest.mark.smoke
def test_uninstalling_puts_values_back_and_leaves_the_policy(installed: Service) -> None:
    """Nothing of oomguard runs or lies about, except what the administrator wrote."""
    vm = installed.vm
    before = int(vm.run("cat /proc/sys/vm/swappiness").stdout)
    logind = vm.run("systemctl show -P MainPID systemd-logind").stdout.strip()
    installed.write_policy(
        "vm: {swappiness: 44}\nrules: [{name: systemd-logind, user: root, oom_score_adj: -444}]\n"
    )
    installed.wait_for_value("/proc/sys/vm/swappiness", 44)
    installed.wait_for_value(f"/proc/{logind}/oom_score_adj", -444)
    installed.uninstall()
    assert vm.run("cat /proc/sys/vm/swappiness").stdout == f"{before}\n"
    assert vm.run(["cat", f"/proc/{logind}/oom_score_adj"]).stdout == "0\n"
    assert b"-444" in vm.get(POLICY)
    assert vm.run("command -v oomguard", check=False).code != 0
    found = vm.run("find / -xdev -name '*oomguard*' -not -path '/var/*' -not -path '/media/*'").stdout.split()
    left = {path for path in found if "oomguard-vm" not in path}
    assert left == {POLICY, DROP_INS}


def test_originals_stay_as_long_as_they_are_needed(installed: Service) -> None:
    """If a value cannot be restored, nothing is removed, and with --force all but the ledger."""
    vm = installed.vm
    before = vm.run("cat /proc/sys/vm/swappiness").stdout
    installed.write_policy("vm: {swappiness: 44}\n")
    installed.wait_for_value("/proc/sys/vm/swappiness", 44)
    vm.run("mount --bind /proc/sys/vm /proc/sys/vm && mount -o remount,bind,ro /proc/sys/vm")
    try:
        for options, is_removed in (([], False), (["--force"], True)):
            done = vm.run(["sh", INSTALLER, "--uninstall", *options], check=False, timeout_seconds=300)
            assert done.code == (0 if is_removed else 1), done
            assert "/proc/sys is read-only here" in done.stdout
            assert vm.run("command -v oomguard", check=False).code == (127 if is_removed else 0)
            assert b'"vm.swappiness"' in vm.get("/run/oomguard/ledger")
    finally:
        vm.run(f"umount /proc/sys/vm; echo {before.strip()} >/proc/sys/vm/swappiness; rm -rf /run/oomguard")
