"""Other kinds of host: oomguard does there what it can, and what it says is so."""

import json

import pytest

from .guest import Guest
from .service import Service
from .workload import HOG, hog, unit


@pytest.mark.guest(suites=("bookworm",), kernel_arguments="systemd.unified_cgroup_hierarchy=0")
def test_cgroups_of_version_1(fresh_vm: Guest) -> None:
    """Units come from systemd's own hierarchy, limits and kills from that of memory."""
    service = Service(fresh_vm)
    service.ensure_installed()
    since = fresh_vm.now()
    service.apply_policy("rules: [{unit: vm-marked.service, oom_score_adj: 800}]\n")
    fresh_vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-marked")
    with unit(fresh_vm, "vm-marked", "vm-marked 200 600", "MemoryMax=64M", below="system.slice"):
        service.wait_for_event("killed", since=since)
    (killed,) = service.events("killed", since=since)
    assert killed["OOMGUARD_RULE"] == "unit=vm-marked.service"
    assert killed["MESSAGE"].endswith(": /system.slice/vm-marked.service reached its limit")
    told = fresh_vm.run("oomguard postmortem").stdout
    assert "vm-marked.service reached its limit of 64.0 MiB" in told, told
    with hog(fresh_vm, "vm-victim", mib=20) as pid:
        fresh_vm.run("systemctl set-property --runtime vm-victim MemoryMax=100M")
        ranked = fresh_vm.run("oomguard rank --json --cgroup /scenario.slice/vm-victim.service").stdout
        domain, (victim,) = json.loads(ranked)["domain"], json.loads(ranked)["processes"]
        assert (domain["total_bytes"], victim["pid"]) == (100 << 20, int(pid))
