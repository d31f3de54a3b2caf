"""Sysctls of a guest: groups in the unit's sandbox, huge pages granted in part, peaks across a reboot."""

import json
from collections.abc import Iterator

import pytest

from .conftest import Machines, watch
from .guest import Guest
from .service import Service

VM = "/proc/sys/vm"
PEAKS = "/var/lib/oomguard/committed.json"

PROMISE = """\
import mmap, time
taken = [mmap.mmap(-1, 512 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(6)]
time.sleep(100_000)
"""


@pytest.fixture(scope="module", autouse=True)
def promising(machines: Machines) -> Iterator[Service]:
    """Have 3 GiB promised in a guest from the first test on: they must last for five minutes."""
    with machines.boot(may_reboot=True, cpus=1) as guest:
        guest.put("/root/promise.py", PROMISE)
        guest.run("systemd-run --quiet --unit=promise python3 /root/promise.py")
        guest.wait_until(
            "grep -Eq '^Committed_AS: +[3-9][0-9]{6}' /proc/meminfo", describe="3 GiB to be promised"
        )
        service = Service(guest)
        service.ensure_installed()
        yield service


def values(vm: Guest, *names: str) -> list[int]:
    """Return sysctls of vm.*."""
    return [int(vm.get(f"{VM}/{name}")) for name in names]


def test_a_group_of_which_one_cannot_be_written_is_not_written(installed: Service) -> None:
    """In a unit that may write the ratio and not the mode."""
    vm = installed.vm
    before = values(vm, "overcommit_memory", "overcommit_ratio", "overcommit_kbytes")
    writable = f"ReadWritePaths=/run/oomguard {VM}/overcommit_ratio"
    with installed.unit_settings("ReadWritePaths=", writable):
        since = vm.now()
        installed.write_policy("vm: {overcommit_memory: 2, overcommit_ratio: 97}\n")
        installed.wait_for_event("denied", since=since)
        reasons = {
            entry["OOMGUARD_TARGET"]: entry["MESSAGE"] for entry in installed.events("denied", since=since)
        }
        assert "/proc/sys is read-only here" in reasons["vm.overcommit_memory"]
        assert "changed together with vm.overcommit_memory" in reasons["vm.overcommit_ratio"]
        assert values(vm, "overcommit_memory", "overcommit_ratio", "overcommit_kbytes") == before
        assert vm.run("oomguard plan --json", check=False).code == 3
    installed.write_policy("rules: []\n")


def test_all_that_kubelet_asks_for_can_be_declared(installed: Service) -> None:
    """What protectKernelDefaults compares, in the unit's sandbox."""
    vm = installed.vm
    wanted = {
        "vm/overcommit_memory": 1,
        "vm/panic_on_oom": 0,
        "kernel/panic": 10,
        "kernel/panic_on_oops": 1,
        "kernel/keys/root_maxkeys": 900_000,
        "kernel/keys/root_maxbytes": 24_000_000,
    }
    before = {name: int(vm.get(f"/proc/sys/{name}")) for name in wanted}
    installed.write_policy(
        "vm: {overcommit_memory: 1, panic_on_oom: 0}\n"
        "kernel: {panic: 10, panic_on_oops: 1, keys.root_maxkeys: 900000, keys.root_maxbytes: 24000000}\n"
    )
    for name, value in wanted.items():
        installed.wait_for_value(f"/proc/sys/{name}", value)
    installed.write_policy("rules: []\n")
    for name, value in before.items():
        installed.wait_for_value(f"/proc/sys/{name}", value)


def test_more_huge_pages_than_there_is_memory_are_refused(installed: Service) -> None:
    """Not one of them is taken."""
    vm = installed.vm
    since = vm.now()
    installed.write_policy("vm: {nr_hugepages: 512}\n")
    installed.wait_for_event("refused", since=since)
    assert values(vm, "nr_hugepages") == [0]
    installed.write_policy("vm: {nr_hugepages: 3}\n")
    installed.wait_for_value(f"{VM}/nr_hugepages", 3)
    installed.write_policy("rules: []\n")
    installed.wait_for_value(f"{VM}/nr_hugepages", 0)


@pytest.mark.guest(memory_mib=4096, kernel_arguments="default_hugepagesz=1G hugepagesz=1G hugepages=1")
def test_a_part_of_the_huge_pages_is_granted_said_and_restored(fresh_vm: Guest) -> None:
    """The one of 1 GiB from the boot, and as many more as there is memory in one piece: that is no drift."""
    service = Service(fresh_vm)
    service.ensure_installed()
    since = fresh_vm.now()
    service.write_policy("force: true\nvm: {nr_hugepages: 4}\n")
    service.wait_for_event("applied", since=since)
    (entry,) = [one for one in service.events("applied", since=since) if "hugepages" in one["MESSAGE"]]
    made = int(entry["OOMGUARD_MADE"])
    assert 1 <= made < 4
    assert f"1 → {made} of 4" in entry["MESSAGE"]
    assert values(fresh_vm, "nr_hugepages") == [made]

    since = fresh_vm.now()
    service.reload()
    service.wait_for_event("policy-loaded", since=since)
    assert fresh_vm.run("oomguard plan", check=False).code == 0
    assert "all that the kernel granted" in fresh_vm.run("oomguard status").stdout
    later = service.events("applied", "contended", since=since)
    assert [entry for entry in later if entry["OOMGUARD_TARGET"] == "vm.nr_hugepages"] == []

    fresh_vm.run("systemctl stop oomguard; oomguard restore")
    assert values(fresh_vm, "nr_hugepages") == [1]


def test_a_limit_is_judged_by_what_was_promised_before_the_reboot(
    promising: Service, request: pytest.FixtureRequest
) -> None:
    """3 GiB that lasted for five minutes: refused after the reboot as before, until the file is removed."""
    service, vm = promising, watch(request, promising.vm)
    vm.wait_until(f"test -e {PEAKS}", timeout_seconds=600, describe="the level to have lasted")
    (day,) = json.loads(vm.get(PEAKS))["days"]
    assert 3 * 2**20 < day["committed_kib"] < 4 * 2**20
    assert vm.run(f"stat -c '%U %a' {PEAKS} /var/lib/oomguard").stdout == "root 644\nroot 755\n"

    vm.reboot()
    since = vm.now()
    service.write_policy("vm: {overcommit_memory: 2, overcommit_ratio: 100}\n")
    service.wait_for_event("refused", since=since)
    refused = {entry["OOMGUARD_TARGET"]: entry for entry in service.events("refused", since=since)}
    entry = refused["vm.overcommit_memory"]
    assert f"peaked at 3.{day['committed_kib'] * 10 // 2**20 % 10} GiB on {day['date']}" in entry["MESSAGE"]
    assert f"rm {PEAKS}" in entry["MESSAGE"]
    assert values(vm, "overcommit_memory") == [0]

    vm.run(f"rm {PEAKS}")
    service.reload()
    service.wait_for_value(f"{VM}/overcommit_memory", 2)

    service.write_policy("rules: []\n")
    service.wait_for_value(f"{VM}/overcommit_memory", 0)
    service.uninstall()
    vm.run("test ! -e /var/lib/oomguard")
