"""A policy that is not there or not valid, at the worst of times."""

from .service import POLICY, UNIT, VENDOR, Service
from .workload import hog, sleepers, wait_for_values

MARKED = "vm: {swappiness: 33}\nrules: [{name: vm-marked, oom_score_adj: 800}]\n"


def test_a_policy_of_which_all_files_are_deleted_stays_in_force(installed: Service) -> None:
    """It is said, what starts later gets its value all the same, and the next policy is taken."""
    vm = installed.vm
    installed.write_policy(MARKED)
    installed.wait_for_value("/proc/sys/vm/swappiness", 33)
    pid, since = installed.main_pid, vm.now()
    vm.run(f"mv {VENDOR} /usr/lib/away && rm {POLICY}")
    installed.wait_for_event("policy-rejected", since=since)
    with hog(vm, "vm-marked") as marked:
        installed.wait_for_value(f"/proc/{marked}/oom_score_adj", 800)
        vm.run("sysctl -q vm.swappiness=70")
        installed.wait_for_value("/proc/sys/vm/swappiness", 33)
        installed.write_policy("rules: [{name: vm-marked, oom_score_adj: 700}]\n")
        installed.wait_for_value(f"/proc/{marked}/oom_score_adj", 700)
        vm.run(f"mv /usr/lib/away {VENDOR}")
        vm.run(["rm", POLICY])
        installed.wait_for_event("policy-emptied", since=since)
        installed.wait_for_value(f"/proc/{marked}/oom_score_adj", 0)
    assert installed.main_pid == pid


def test_a_service_with_a_broken_policy_does_not_start_and_does_not_try_again(installed: Service) -> None:
    """Exit 78, values as they were; the repaired policy still knows what everything was before."""
    vm = installed.vm
    before = int(vm.get("/proc/sys/vm/swappiness"))
    with sleepers(vm, "vm-marked", 5, own=77):
        installed.write_policy(MARKED)
        wait_for_values(vm, "vm-marked", 800, count=5)
        vm.run(["systemctl", "stop", UNIT])
        installed.write_policy("rules: [")
        assert vm.run(["systemctl", "start", UNIT], check=False).code != 0
        assert vm.run(["systemctl", "show", "-P", "ExecMainStatus", UNIT]).stdout == "78\n"
        vm.run("sleep 5")  # RestartSec=1
        assert vm.run(["systemctl", "is-active", UNIT], check=False).stdout == "failed\n"
        wait_for_values(vm, "vm-marked", 800, count=5)
        assert vm.get("/proc/sys/vm/swappiness") == b"33\n"
        installed.write_policy("rules: []\n")
        installed.restart()
        wait_for_values(vm, "vm-marked", 77, count=5)
        installed.wait_for_value("/proc/sys/vm/swappiness", before)
