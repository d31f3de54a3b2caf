"""Other kinds of host: oomguard does there what it can, and what it says is so."""

import json
import re

import pytest

from .guest import Guest
from .service import Service
from .workload import HOG, hog, unit

MARKED = "rules: [{name: vm-marked, oom_score_adj: 800}]\n"


def meminfo(vm: Guest) -> dict[str, int]:
    """Return the sizes of /proc/meminfo, in KiB, and its numbers of pages."""
    lines = (line.split(":") for line in vm.get("/proc/meminfo").decode().splitlines())
    return {name: int(rest.split()[0]) for name, rest in lines}


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
    assert " was killed by the kernel: /system.slice/vm-marked.service reached its limit" in killed["MESSAGE"]
    told = fresh_vm.run("oomguard postmortem").stdout
    assert "vm-marked.service reached its limit of 64.0 MiB" in told, told
    with hog(fresh_vm, "vm-victim", mib=20) as pid:
        fresh_vm.run("systemctl set-property --runtime vm-victim MemoryMax=100M")
        ranked = fresh_vm.run("oomguard rank --json --cgroup /scenario.slice/vm-victim.service").stdout
        domain, (victim,) = json.loads(ranked)["domain"], json.loads(ranked)["processes"]
        assert (domain["total_bytes"], victim["pid"]) == (100 << 20, int(pid))


@pytest.mark.guest(kernel_arguments="psi=0")
def test_a_kernel_without_pressure_information(fresh_vm: Guest) -> None:
    """It cannot warn, and says so once, with the kernel's option; everything else works."""
    service = Service(fresh_vm)
    service.ensure_installed()
    reason = "this kernel has no pressure information: boot with psi=1"
    missing = f"oomguard cannot warn before memory runs out: {reason}"
    since = fresh_vm.now()
    service.apply_policy(MARKED)
    fresh_vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-marked")
    with unit(fresh_vm, "vm-marked", "vm-marked 200 600", "MemoryMax=64M"):
        service.wait_for_event("killed", since=since)
    (killed,) = service.events("killed", since=since)
    assert (killed["OOMGUARD_RULE"], killed["OOMGUARD_OOM_SCORE_ADJ"]) == ("name=vm-marked", "800")
    said = [one["MESSAGE"] for one in service.log() if one.get("OOMGUARD_EVENT") == "limited"]
    assert said.count(missing) == 1, said
    assert missing in service.status()["limits"]
    assert f"limited: {missing}" in fresh_vm.run("oomguard status").stdout
    recorded = json.loads(fresh_vm.run("oomguard history --json").stdout)
    assert {one["stalled_percent"] for one in recorded} == {None}


NODES = (
    *("-object", "memory-backend-ram,id=m0,size=2G", "-object", "memory-backend-ram,id=m1,size=2G"),
    *("-numa", "node,memdev=m0,cpus=0", "-numa", "node,memdev=m1,cpus=1"),
)
"""Two memory nodes with a processor each. Only the second has room for a page of 1 GiB: one."""

PAGES = "hugepagesz=2M hugepages=64 default_hugepagesz=1G hugepagesz=1G hugepages=1"


@pytest.mark.guest(memory_mib=4096, kernel_arguments=PAGES, qemu_options=NODES)
def test_two_memory_nodes_and_huge_pages_of_both_sizes(fresh_vm: Guest) -> None:
    """Both sizes lower the commit limit, even if fewer are granted; a node that is full has a victim."""
    service = Service(fresh_vm)
    service.ensure_installed()
    total, small = meminfo(fresh_vm)["MemTotal"], 64 * 2048
    since = fresh_vm.now()
    service.write_policy("vm: {overcommit_memory: 2, overcommit_ratio: 1}\n")
    service.wait_for_event("refused", since=since)
    refused = service.events("refused", since=since)[0]["MESSAGE"]
    limit = (total - small - (1 << 20)) // 100
    assert re.search(rf"CommitLimit would be {limit / 1024:.1f} MiB", refused), (refused, limit)

    since = fresh_vm.now()
    service.write_policy("vm: {overcommit_memory: 2, overcommit_ratio: 90, nr_hugepages: 2}\n")
    service.wait_for_value("/proc/sys/vm/overcommit_memory", 2)
    found = meminfo(fresh_vm)
    assert found["Hugetlb"] == (1 << 20) + small
    assert found["CommitLimit"] == pytest.approx((total - found["Hugetlb"]) * 0.9, abs=8)
    service.wait_for_event("applied", since=since, message="vm.nr_hugepages: 1 → 1 of 2")
    assert fresh_vm.run("oomguard plan", check=False).code == 0
    assert "all that the kernel granted" in fresh_vm.run("oomguard status").stdout

    since = fresh_vm.now()
    service.write_policy(MARKED)
    service.wait_for_value("/proc/sys/vm/overcommit_memory", 0)
    fresh_vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-marked")
    bound = ("NUMAPolicy=bind", "NUMAMask=1", "OOMPolicy=continue")
    with unit(fresh_vm, "vm-marked", "vm-marked 4000", *bound):
        service.wait_for_event("killed", since=since)
    (killed,) = service.events("killed", since=since)
    assert (killed["OOMGUARD_RULE"], killed["OOMGUARD_CONSTRAINT"]) == ("name=vm-marked", "memory-policy")
    assert ": memory node 1 ran out of memory (" in killed["MESSAGE"]
    told = fresh_vm.run("oomguard postmortem").stdout
    assert "was killed: memory node 1 of its memory policy ran out of\n" in told, told


def test_swap_in_a_file_and_in_compressed_memory(installed: Service) -> None:
    """Both count as memory that can run out, in addition to a commit_limit, and as their processes' own."""
    vm = installed.vm
    vm.run(
        "modprobe zram && echo 256M >/sys/block/zram0/disksize"
        " && fallocate -l 64M /swapfile && chmod 600 /swapfile"
        " && for one in /dev/zram0 /swapfile; do mkswap -q $one && swapon $one; done"
    )
    try:
        memory = meminfo(vm)
        total, swap = memory["MemTotal"], memory["SwapTotal"]
        assert swap == pytest.approx(320 << 10, abs=8)
        installed.write_policy("vm: {overcommit_memory: 2, commit_limit: 90%}\n")
        installed.wait_for_value("/proc/sys/vm/overcommit_memory", 2)
        limit = meminfo(vm)["CommitLimit"]
        assert limit == pytest.approx(total * 9 // 10 + swap, abs=8)
        assert f" of {limit / 1024**2:.1f} GiB (" in vm.run("oomguard status").stdout
        vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-swapped")
        with unit(vm, "vm-swapped", "vm-swapped 120 600", "MemoryHigh=40M"):
            swapped_bytes = "/sys/fs/cgroup/scenario.slice/vm-swapped.service/memory.swap.current"
            vm.wait_until(f"test $(cat {swapped_bytes}) -gt 70000000", describe="it to be swapped out")
            has_all = "awk '/^Vm(RSS|Swap)/ {kib += $2} END {exit kib < 120 * 1024}'"
            vm.wait_until(f"{has_all} /proc/$(pgrep -x vm-swapped)/status", describe="it to have 120 MiB")
            ranked = json.loads(vm.run("oomguard rank --json").stdout)
            assert ranked["domain"]["total_bytes"] // 1024 == pytest.approx(total + swap, abs=8)
            first = ranked["processes"][0]
            assert first["comm"] == "vm-swapped", ranked["processes"][:3]
            assert first["swap_bytes"] > 60 << 20
            assert first["freed_bytes"] >= 120 << 20
    finally:
        installed.write_policy("rules: []\n")
        vm.run("swapoff -a; rm -f /swapfile", timeout_seconds=300)
        vm.wait_until("echo 1 >/sys/block/zram0/reset")  # udev may still have it open
    installed.wait_for_value("/proc/sys/vm/overcommit_memory", 0)


PAYLOAD = "/sys/fs/cgroup/lxc.payload.web1"
ENTER = f"""#!/bin/sh
mkdir {PAYLOAD}
chown -R 100000:100000 {PAYLOAD}
exec unshare --pid --fork --kill-child --mount --uts --ipc --net vm-lxc-init
"""
INIT = f"""#!/bin/sh
echo 0 >{PAYLOAD}/cgroup.procs
exec unshare --cgroup sh -c '
    mount -t proc proc /proc
    mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
    vm-inside 100000 &
    oomguard rank >/var/tmp/inside.rank
    oomguard run --policy /etc/inside.yaml --state-dir /var/tmp/inside >/var/tmp/inside.log 2>&1
    wait'
"""
"""What LXC makes: a cgroup at the root that belongs to the container's own root, all namespaces but that of
users, and a read-only /proc/sys."""


def test_a_system_container_with_a_daemon_of_its_own(installed: Service) -> None:
    """Inside, it manages the processes and says what it cannot do; the host's rules skip them."""
    vm = installed.vm
    rule = "name: vm-inside, oom_score_adj"
    vm.put("/etc/inside.yaml", f"vm: {{swappiness: 33}}\nrules: [{{{rule}: 300}}]\n")
    vm.put("/usr/local/bin/vm-lxc", ENTER, mode=0o755)
    vm.put("/usr/local/bin/vm-lxc-init", INIT, mode=0o755)
    vm.run("install -m 755 /bin/sleep /usr/local/bin/vm-inside")
    installed.apply_policy(f"rules: [{{{rule}: 700}}]\n")
    try:
        with unit(vm, "vm-lxc", "vm-lxc"):
            pid = vm.wait_until("pgrep -x vm-inside", describe="the container").stdout.strip()
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)
            assert "no  containers: in a container" in vm.run(f"oomguard explain {pid}").stdout
            ranked = vm.get("/var/tmp/inside.rank").decode()
            assert "In a container: the kernel may kill processes of the host first" in ranked
            said = vm.get("/var/tmp/inside.log").decode()
            assert "there are no process events in this pid namespace" in said
            assert "vm.swappiness: 60 → 33 denied: /proc/sys is read-only here" in said
            assert vm.get("/proc/sys/vm/swappiness") == b"60\n"
            vm.run("pkill -f '[o]omguard.daemon /etc/inside.yaml'")
            installed.apply_policy(f"rules: [{{cgroup: /lxc.payload.web1, containers: true, {rule}: 800}}]\n")
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
    finally:
        vm.run(f"rmdir {PAYLOAD}; rm -r /etc/inside.yaml /var/tmp/inside*", check=False)
