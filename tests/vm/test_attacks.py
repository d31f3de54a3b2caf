"""What processes do to be protected, or not to be: the attacks that take a guest."""

from .attack import attack
from .service import Service
from .workload import FOREVER_SECONDS, unit


def test_a_process_keeps_its_value_when_its_main_thread_ends(installed: Service) -> None:
    """The state of /proc/PID/stat is the main thread's: Z with threads left is no dead process."""
    vm = installed.vm
    program = attack(vm, "leaderless")
    installed.write_policy("resync_interval: 1\nrules: [{name: leaderless, oom_score_adj: -500}]\n")
    with unit(vm, "vm-leaderless", f"{program} {FOREVER_SECONDS}", below="system.slice"):
        pid = vm.run("systemctl show -P MainPID vm-leaderless").stdout.strip()
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)
        vm.wait_until(f"grep -q '^State:.Z' /proc/{pid}/status", describe="the main thread to end")
        installed.wait_for_passes(2)
        assert vm.get(f"/proc/{pid}/oom_score_adj") == b"-500\n"
