"""What the host or its kernel withholds: the daemon goes on with what it has, and says what it lacks."""

import pytest

from .service import Service
from .workload import hog, rewrite_values, sleepers, wait_for_values

MARKED = "vm: {swappiness: 33}\nrules: [{name: vm-marked, oom_score_adj: 800}]\n"
MARKED_OFTEN = "resync_interval: 2\n" + MARKED
FILTERED_EVENTS = {"bookworm": False, "trixie": True, "forky": True}
"""Whether the suite's kernel gives process events without CAP_NET_ADMIN: since Linux 6.6."""


def test_a_read_only_proc_sys_is_said_and_processes_are_kept(installed: Service) -> None:
    """As in a container, or with a drop-in too tight; once it is writable again the sysctl follows."""
    vm = installed.vm
    before = int(vm.get("/proc/sys/vm/swappiness"))
    since = vm.now()
    with installed.unit_settings("ReadWritePaths=", "ReadWritePaths=/run/oomguard"):
        installed.write_policy(MARKED_OFTEN)
        with hog(vm, "vm-marked") as pid:
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        installed.wait_for_event("denied", since=since)
        vm.run("sleep 5")  # two passes more, which must not say it again
        denied = installed.events("denied", since=since)
        assert [(entry["OOMGUARD_TARGET"], entry["OOMGUARD_ERRNO"]) for entry in denied] == [
            ("vm.swappiness", "EROFS")
        ]
        assert "ReadWritePaths=" in denied[0]["MESSAGE"]
        assert installed.is_active
        assert int(vm.get("/proc/sys/vm/swappiness")) == before
    installed.wait_for_value("/proc/sys/vm/swappiness", 33)


def test_without_net_admin_events_come_where_the_kernel_gives_them(installed: Service, suite: str) -> None:
    """Before Linux 6.6 it looks once a second instead, and names the capability."""
    vm = installed.vm
    installed.write_policy(MARKED)
    with installed.unit_settings(
        "CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_SYS_RESOURCE CAP_DAC_OVERRIDE"
    ):
        status = installed.status()
        assert status["events"] is FILTERED_EVENTS[suite]
        said = [limit for limit in status["limits"] if "CAP_NET_ADMIN" in limit]
        assert len(said) == (0 if FILTERED_EVENTS[suite] else 1), status["limits"]
        with hog(vm, "vm-marked") as pid:
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)


def test_without_the_right_to_lower_it_raises_and_says_so_once(installed: Service) -> None:
    """Ten processes are denied, in one entry that names the capability; raising goes on."""
    vm = installed.vm
    installed.write_policy(
        "rules:\n"
        "  - {name: vm-precious, user: alice, oom_score_adj: -500}\n"
        "  - {name: vm-marked, oom_score_adj: 800}\n"
    )
    with sleepers(vm, "vm-precious", 10):
        wait_for_values(vm, "vm-precious", -500, count=10)
    since = vm.now()
    with (
        installed.unit_settings("CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_DAC_OVERRIDE"),
        sleepers(vm, "vm-precious", 10),
        sleepers(vm, "vm-marked", 10),
    ):
        wait_for_values(vm, "vm-marked", 800, count=10)
        installed.wait_for_event("denied", since=since)
        wait_for_values(vm, "vm-precious", 0, count=10)
        denied = installed.events("denied", since=since)
        assert len(denied) == 1, denied
        assert "CAP_SYS_RESOURCE" in denied[0]["MESSAGE"]


@pytest.mark.parametrize("limit", ["max_user_watches", "max_user_instances"])
def test_without_inotify_drift_and_edits_are_looked_for(installed: Service, limit: str) -> None:
    """With a limit of 1, which systemd has used up: nothing tells of writes and edits; they are found."""
    vm = installed.vm
    sysctl = f"fs.inotify.{limit}"
    before = vm.run(["sysctl", "-n", sysctl]).stdout.strip()
    vm.run(["sysctl", "-q", f"{sysctl}=1"])
    try:
        installed.write_policy(MARKED_OFTEN)
        installed.restart()
        with hog(vm, "vm-marked") as pid:
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
            vm.run(f"sleep 4; sysctl -q vm.swappiness=70; choom -n 1 -p {pid}")
            installed.wait_for_value("/proc/sys/vm/swappiness", 33)
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        assert_inotify_is_missed(installed, sysctl)
        assert_the_policy_can_be_exchanged(installed)
    finally:
        vm.run(["sysctl", "-q", f"{sysctl}={before}"])


def assert_inotify_is_missed(service: Service, sysctl: str) -> None:
    """Check that it is said once for kept values and once for the policy, with the sysctl that is too low."""
    said = [limit for limit in service.status()["limits"] if sysctl in limit]
    assert [limit.partition(":")[0] for limit in sorted(said)] == [
        "not all managed values are watched; the others are only checked in passes",
        "oomguard checks the policy for edits every 5 s",
    ]


def assert_the_policy_can_be_exchanged(service: Service) -> None:
    """Check that a reload is carried out, and that it leaves the same process running."""
    pid = service.main_pid
    service.write_policy(MARKED_OFTEN.replace("33", "44"))
    service.reload()
    service.wait_for_value("/proc/sys/vm/swappiness", 44)
    assert service.main_pid == pid


def test_few_descriptors_cost_watches_and_nothing_else(installed: Service) -> None:
    """LimitNOFILE=80 leaves room for a few watches; the other processes are looked at in passes."""
    vm = installed.vm
    installed.write_policy(MARKED_OFTEN)
    with installed.unit_settings("LimitNOFILE=80"), sleepers(vm, "vm-marked", 100):
        pid = installed.main_pid
        wait_for_values(vm, "vm-marked", 800, count=100)
        vm.run("sleep 5")  # until those are watched for which there is room
        rewrite_values(vm, "vm-marked")
        wait_for_values(vm, "vm-marked", 800, count=100)
        assert any("LimitNOFILE=" in limit for limit in installed.status()["limits"])
        assert_the_policy_can_be_exchanged(installed)
        assert installed.main_pid == pid


def test_a_pid_that_is_used_again_gets_nothing_of_its_predecessor(installed: Service) -> None:
    """With 600 pids they come round within seconds: no stranger gets a value, or an original, of the dead."""
    vm = installed.vm
    limit = vm.run("sysctl -n kernel.pid_max").stdout.strip()
    vm.run("sysctl -q kernel.pid_max=600")
    reused = 0
    try:
        installed.write_policy(MARKED)
        for own in (0, 9):
            with sleepers(vm, "vm-marked", 40, own=100 + own) as before:
                wait_for_values(vm, "vm-marked", 800, count=40)
            vm.run("for i in $(seq 500); do /bin/true; done")
            with sleepers(vm, "vm-stranger", 80, own=own) as pids:
                reused += len(set(before) & set(pids))
                vm.run("sleep 4")
                wait_for_values(vm, "vm-stranger", own, count=80)
                installed.reload()
                vm.run("sleep 2")
                wait_for_values(vm, "vm-stranger", own, count=80)
        assert reused >= 10, f"only {reused} pids came round"
        installed.write_policy("rules: []\n")
        installed.wait_for_value("/proc/sys/vm/swappiness", 60)
    finally:
        vm.run(f"sysctl -q kernel.pid_max={limit}")
