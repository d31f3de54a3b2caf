"""One policy on guests of three sizes: each has the values that fit it, from the layers that it has."""

import pytest

from .conftest import Machines, watch
from .guest import Guest
from .service import CONVERGE_TIMEOUT_SECONDS, DROP_INS, VENDOR, Service
from .workload import hog

SITE = """\
vm:
  min_free_kbytes: {ram: 3%, min: 20MiB, max: 40MiB}
  max_map_count: {at_least: 70000}
  swappiness: 30
rules: [{name: vm-batch, oom_score_adj: 300}]
"""
"""The base of the fleet, as a package brings it."""

LARGE = """\
when: {memory: ">= 900MiB"}
vm: {swappiness: 10}
"""
TEAM = "rules: [{name: vm-batch, oom_score_adj: 700}]\n"
"""What one host's team overrides."""


def expected_min_free(memory_kib: int) -> int:
    """Return 3 % of RAM within the bounds."""
    return max(20 << 10, min(40 << 10, memory_kib * 3 // 100))


def test_one_policy_fits_guests_of_three_sizes(machines: Machines, request: pytest.FixtureRequest) -> None:
    """The files are the same everywhere, and so is the digest; the values are not."""
    digests, min_free = set(), []
    for memory_mib in (512, 1024, 2560):
        with machines.boot(memory_mib=memory_mib, cpus=1) as guest:
            watch(request, guest)
            service = Service(guest)
            service.ensure_installed()
            memory_kib = int(guest.get("/proc/meminfo").split()[1])
            maps = int(guest.get("/proc/sys/vm/max_map_count"))
            guest.put(f"{VENDOR}/50-site.yaml", SITE, mode=0o644)
            guest.put(f"{DROP_INS}/40-large.yaml", LARGE, mode=0o644)
            service.wait_for_value("/proc/sys/vm/min_free_kbytes", expected_min_free(memory_kib))
            service.wait_for_value("/proc/sys/vm/swappiness", 10 if memory_kib >= 900 << 10 else 30)
            service.wait_for_value("/proc/sys/vm/max_map_count", max(70000, maps))
            guest.wait_until(
                "oomguard plan", timeout_seconds=CONVERGE_TIMEOUT_SECONDS, describe="nothing left to change"
            )
            min_free.append(expected_min_free(memory_kib))
            digests.add(service.status()["policy"]["digest"])
            shown = guest.run("oomguard cat").stdout
            assert f"# {DROP_INS}/40-large.yaml" in shown
            assert ("memory" in shown.split("40-large.yaml")[1].splitlines()[0]) == (memory_mib == 512), shown
            with hog(guest, "vm-batch") as pid:
                service.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)
                guest.put(f"{DROP_INS}/10-team.yaml", TEAM, mode=0o644)
                service.wait_for_value(f"/proc/{pid}/oom_score_adj", 700)
                guest.run(f"ln -sf /dev/null {DROP_INS}/10-team.yaml")
                service.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)
            guest.run("systemctl stop oomguard && oomguard restore")
            assert guest.get("/proc/sys/vm/swappiness") == b"60\n"
    assert len(digests) == 1
    assert len(set(min_free)) == len(min_free)


@pytest.mark.guest(spare_mib=512, kernel_arguments="memhp_default_state=online")
def test_shares_of_ram_follow_memory_that_is_added(fresh_vm: Guest) -> None:
    """At the next pass, without an edit; and commit_limit, of which the kernel makes an absolute number."""
    service = Service(fresh_vm)
    service.ensure_installed()
    before = int(fresh_vm.get("/proc/meminfo").split()[1])
    service.write_policy("resync_interval: 5\nvm: {min_free_kbytes: 2%, commit_limit: 90%}\n")
    service.wait_for_value("/proc/sys/vm/min_free_kbytes", before * 2 // 100)
    since = fresh_vm.now()
    fresh_vm.plug_memory()
    enough = before + (450 << 10)
    fresh_vm.wait_until(f"awk '/MemTotal/ {{exit $2 < {enough}}}' /proc/meminfo", describe="more memory")
    after = int(fresh_vm.get("/proc/meminfo").split()[1])
    service.wait_for_value("/proc/sys/vm/min_free_kbytes", after * 2 // 100)
    service.wait_for_value("/proc/sys/vm/overcommit_kbytes", after * 90 // 100)
    service.wait_for_event("policy-loaded", since=since, message=f" → {after} kB")
