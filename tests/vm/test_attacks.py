"""What processes do to be protected, or not to be: the attacks that take a guest."""

import pytest

from .attack import attack
from .guest import Guest
from .service import Service
from .workload import FOREVER_SECONDS, unit


def test_a_process_keeps_its_value_when_its_main_thread_ends(installed: Service) -> None:
    """The state of /proc/PID/stat is the main thread's: Z with threads left is no dead process."""
    vm = installed.vm
    program = attack(vm, "leaderless")
    installed.write_policy("resync_interval: 5\nrules: [{name: leaderless, oom_score_adj: -500}]\n")
    with unit(vm, "vm-leaderless", f"{program} 5 {FOREVER_SECONDS}", below="system.slice"):
        pid = vm.run("systemctl show -P MainPID vm-leaderless").stdout.strip()
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)
        vm.wait_until(f"grep -q '^State:.Z' /proc/{pid}/status", describe="the main thread to end")
        installed.wait_for_passes(2)
        assert vm.get(f"/proc/{pid}/oom_score_adj") == b"-500\n"


@pytest.mark.guest(memory_mib=4096, kernel_arguments="hugepagesz=1G hugepages=1")
def test_huge_pages_of_another_size_count_against_a_strict_limit(fresh_vm: Guest) -> None:
    """With a page of 1 GiB beside the pool of 2 MiB pages: what would fit without it is refused."""
    service = Service(fresh_vm)
    service.ensure_installed()
    fresh_vm.run("sysctl -q vm.admin_reserve_kbytes=0 vm.user_reserve_kbytes=0")
    pool = "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
    assert fresh_vm.get(pool) == b"1\n", "the guest has no page of 1 GiB"

    figures = dict(line.split(":") for line in fresh_vm.get("/proc/meminfo").decode().splitlines())
    total, committed = (int(figures[key].split()[0]) for key in ("MemTotal", "Committed_AS"))
    ratio = 500 * committed // (total - 2**20) + 1
    limit = (total - 2**20) * ratio // 100

    def policy(needed_kib: int) -> str:
        headroom = 100 * needed_kib // committed - 100
        return f"commit_headroom: {headroom}\nvm: {{overcommit_memory: 2, overcommit_ratio: {ratio}}}\n"

    since = fresh_vm.now()
    service.write_policy(policy(limit + 2**19 * ratio // 100))  # between the limits with and without the page
    service.wait_for_event("refused", since=since)
    assert fresh_vm.get("/proc/sys/vm/overcommit_memory") == b"0\n"

    service.write_policy(policy(limit * 3 // 4))
    service.wait_for_value("/proc/sys/vm/overcommit_memory", 2)
    found = fresh_vm.run("grep CommitLimit: /proc/meminfo").stdout.split()[1]
    assert abs(int(found) - limit) <= 4
