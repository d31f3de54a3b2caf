"""The state folder: no room in it, and a reboot, after which it means nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .guest import Guest
from .service import UNIT, Service
from .workload import rewrite_values, sleepers, wait_for_values

SWAPPINESS = "/proc/sys/vm/swappiness"
STATE = "/run/oomguard"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MARKED = "vm: {swappiness: 33}\nrules: [{name: vm-marked, oom_score_adj: 800}]\n"
RESTORING = "rules: []\n"


@contextmanager
def small_state_folder(service: Service) -> Iterator[None]:
    """Restart the service with a state folder of its own, of 64 KiB; and again without."""
    vm = service.vm
    vm.run(f"systemctl stop {UNIT} && mount -t tmpfs -o size=64k,mode=755 none {STATE}")
    vm.run(["systemctl", "start", UNIT])
    try:
        yield
    finally:
        vm.run(f"systemctl stop {UNIT}; umount {STATE}; systemctl reset-failed {UNIT}", check=False)
        vm.run(["systemctl", "start", UNIT])


def test_on_a_full_disk_nothing_is_changed_that_could_not_be_put_back(installed: Service) -> None:
    """No room for the ledger: what is new waits until there is, and what is kept stays kept."""
    vm = installed.vm
    before = int(vm.get(SWAPPINESS))
    often = "resync_interval: 2\n" + MARKED
    installed.write_policy(often)
    with small_state_folder(installed), sleepers(vm, "vm-marked", 5, own=77):
        wait_for_values(vm, "vm-marked", 800, count=5)
        pid, since = installed.main_pid, vm.now()
        vm.run(f"cat /dev/zero >{STATE}/full", check=False)
        with sleepers(vm, "vm-later", 100, own=55):  # more than the ledger's last page has room for
            installed.write_policy(often.replace("vm-marked", "[vm-marked, vm-later]"))
            installed.wait_for_event("denied", since=since)
            denied = installed.events("denied", since=since)
            assert [entry["OOMGUARD_ERRNO"] for entry in denied] == ["ENOSPC"]
            rewrite_values(vm, "vm-marked")
            wait_for_values(vm, "vm-marked", 800, count=5)
            vm.run(["rm", f"{STATE}/full"])
            wait_for_values(vm, "vm-later", 800, count=100)
            assert installed.main_pid == pid
            installed.write_policy(RESTORING)
            wait_for_values(vm, "vm-later", 55, count=100)
            wait_for_values(vm, "vm-marked", 77, count=5)
            installed.wait_for_value(SWAPPINESS, before)


def test_on_a_full_disk_it_does_not_start_and_tries_until_there_is_room(installed: Service) -> None:
    """Without a ledger nothing is changed; the message says so, and nobody has to start it by hand."""
    vm = installed.vm
    before = int(vm.get(SWAPPINESS))
    installed.write_policy(MARKED)
    installed.wait_for_value(SWAPPINESS, 33)
    with small_state_folder(installed):
        vm.run(f"cat /dev/zero >{STATE}/full", check=False)
        since, old = vm.now(), installed.main_pid
        vm.run(["kill", "-KILL", str(old)])
        vm.wait_until(f"journalctl --since=@{since} -u {UNIT} | grep 'ledger: cannot be written'")
        vm.run(["rm", f"{STATE}/full"])
        installed.wait_for_restart(old)
    installed.write_policy(RESTORING)
    installed.wait_for_value(SWAPPINESS, before)


def value_of_logind(vm: Guest) -> str:
    """Return the file with its value; each boot has another process."""
    pid = vm.run("systemctl show -P MainPID systemd-logind").stdout.strip()
    return f"/proc/{pid}/oom_score_adj"


@pytest.mark.guest(may_reboot=True)
def test_after_a_reboot_the_policy_is_applied_anew(fresh_vm: Guest) -> None:
    """What was noted in the boot before is dropped; sysctls and services get their values again."""
    vm, service = fresh_vm, Service(fresh_vm)
    service.ensure_installed()
    before = int(vm.get(SWAPPINESS))
    service.write_policy(
        "vm: {swappiness: 33}\nrules: [{name: systemd-logind, user: root, oom_score_adj: -444}]\n"
    )
    service.wait_for_value(SWAPPINESS, 33)
    service.wait_for_value(value_of_logind(vm), -444)
    boot = vm.get(BOOT_ID)
    vm.reboot()
    assert vm.get(BOOT_ID) != boot
    logind = value_of_logind(vm)
    service.wait_for_value(SWAPPINESS, 33)
    service.wait_for_value(logind, -444)
    assert service.is_active
    assert vm.get(BOOT_ID).strip() in vm.get(f"{STATE}/ledger")
    service.write_policy(RESTORING)
    service.wait_for_value(SWAPPINESS, before)
    service.wait_for_value(logind, -500)  # the shipped protections, which come after the main file
