"""An administrator edits the policy; values and journal follow."""

import json

import pytest

from .service import UNIT, Service
from .workload import hog

POLICY = """\
vm:
  swappiness: 33
rules:
  - name: vm-protected
    user: alice
    oom_score_adj: -600
  - name: vm-marked
    oom_score_adj: 800
"""


def test_an_edited_policy_reaches_running_processes_and_sysctls(installed: Service) -> None:
    """Values follow the file, negative ones of other users' processes included; the journal says why."""
    vm = installed.vm
    before = int(vm.get("/proc/sys/vm/swappiness"))
    with hog(vm, "vm-protected") as protected, hog(vm, "vm-marked") as marked:
        since = vm.now()
        installed.write_policy(POLICY)
        installed.wait_for_value("/proc/sys/vm/swappiness", 33)
        installed.wait_for_value(f"/proc/{protected}/oom_score_adj", -600)
        installed.wait_for_value(f"/proc/{marked}/oom_score_adj", 800)

        applied = {
            (entry["OOMGUARD_TARGET"], entry.get("OBJECT_PID")): entry
            for entry in installed.log(since=since)
            if entry.get("OOMGUARD_EVENT") == "applied"
        }
        entry = applied["oom_score_adj", protected]
        assert entry["OOMGUARD_OLD"] == "0"
        assert entry["OOMGUARD_NEW"] == "-600"
        assert entry["OOMGUARD_CAUSE"] == "policy"
        assert entry["OOMGUARD_COMM"] == "vm-protected"
        assert entry["OOMGUARD_SOURCE"] == "/etc/oomguard.yaml:4"
        assert entry["PRIORITY"] == "6"
        assert entry["_SYSTEMD_UNIT"] == UNIT
        assert applied["vm.swappiness", None]["OOMGUARD_NEW"] == "33"

        installed.write_policy("rules: []\n")
        installed.wait_for_value(f"/proc/{protected}/oom_score_adj", 0)
        installed.wait_for_value(f"/proc/{marked}/oom_score_adj", 0)
        installed.wait_for_value("/proc/sys/vm/swappiness", before)


def test_a_program_that_starts_later_gets_its_value(installed: Service) -> None:
    """The policy holds for what is not there yet."""
    installed.write_policy(POLICY)
    installed.wait_for_value("/proc/sys/vm/swappiness", 33)
    with hog(installed.vm, "vm-marked") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)


def test_a_value_that_somebody_else_rewrites_comes_back(installed: Service) -> None:
    """Drift of a sysctl and of a process."""
    vm = installed.vm
    installed.write_policy(POLICY)
    with hog(vm, "vm-marked") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        installed.wait_for_value("/proc/sys/vm/swappiness", 33)
        vm.run(f"sysctl -q vm.swappiness=70; choom -n 1 -p {pid}")
        installed.wait_for_value("/proc/sys/vm/swappiness", 33)
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)


@pytest.mark.parametrize("broken", ["rules: [", "vm: {swappiness: 999}\n", "on: off\n"])
def test_a_broken_policy_leaves_the_one_before_in_force(installed: Service, broken: str) -> None:
    """The daemon lives, says what is wrong, and goes on."""
    vm = installed.vm
    installed.write_policy(POLICY)
    installed.wait_for_value("/proc/sys/vm/swappiness", 33)
    since = vm.now()
    installed.write_policy(broken)
    installed.wait_for_event("policy-rejected", since=since)
    vm.run("sysctl -q vm.swappiness=70")
    installed.wait_for_value("/proc/sys/vm/swappiness", 33)
    assert installed.is_active
    assert installed.status()["policy"]["errors"]


def test_the_status_file_is_readable_by_everybody(installed: Service) -> None:
    """Metrics and `oomguard status` need no right at all."""
    text = installed.vm.run(["cat", "/run/oomguard/status.json"], user="alice").stdout
    assert json.loads(text)["policy"]["files"]


def test_restarting_keeps_values_and_originals(installed: Service) -> None:
    """After kill -9 the ledger outlives the daemon, and systemd starts it again."""
    vm = installed.vm
    original = int(vm.get("/proc/sys/vm/swappiness"))
    installed.write_policy(POLICY)
    installed.wait_for_value("/proc/sys/vm/swappiness", 33)
    old = installed.main_pid
    vm.run(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", UNIT])
    vm.wait_until(f"systemctl is-active -q {UNIT} && test $(systemctl show -P MainPID {UNIT}) != {old}")
    assert vm.get("/proc/sys/vm/swappiness") == b"33\n"
    installed.write_policy("rules: []\n")
    installed.wait_for_value("/proc/sys/vm/swappiness", original)
