"""What goes wrong around the daemon: it lives or is restarted, and values converge to the policy."""

from .service import DROP_INS, POLICY, STATUS, UNIT, Service
from .workload import hog

MARKED = "rules: [{name: vm-marked, oom_score_adj: 800}]\n"


def test_a_frozen_daemon_is_restarted_by_the_watchdog(installed: Service) -> None:
    """After SIGSTOP nothing is kept until systemd notices; then everything is again, originals included."""
    vm = installed.vm
    installed.write_policy(MARKED)
    with hog(vm, "vm-marked") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        frozen = installed.main_pid
        vm.run(f"kill -STOP {frozen}; choom -n 1 -p {pid}")
        vm.wait_until(f"test $(systemctl show -P MainPID {UNIT}) != {frozen}", timeout_seconds=180)
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        installed.write_policy("rules: []\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 0)


def test_processes_hidden_from_others_are_still_found(installed: Service) -> None:
    """With hidepid=2 a user sees only his own processes; the daemon needs no extra right for all."""
    vm = installed.vm
    vm.run("mount -o remount,hidepid=2 /proc")
    try:
        installed.write_policy("resync_interval: 5\n" + MARKED)
        with hog(vm, "vm-marked", user="root") as pid:
            assert vm.run(["test", "-e", f"/proc/{pid}"], user="alice", check=False).code == 1
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        # The status file names processes, so it is for those who may see them.
        assert "oomguard_up 1" in vm.run("oomguard exporter --textfile -").stdout
        vm.wait_until(f"test $(stat -c %a:%G {STATUS}) = 640:root", describe="status.json to be closed")
        asked = vm.run("oomguard status", user="alice", check=False)
        assert asked.code == 1
        assert "status.json: this user cannot read it" in asked.stderr
        assert "vm-marked" not in asked.stdout
        since = vm.now()
        vm.run("mount -o remount,hidepid=2,gid=1000 /proc")
        vm.wait_until(f"test $(stat -c %a {STATUS}) = 600", describe="status.json to be root's alone")
        installed.wait_for_event("limited", since=since, message="oomguard does not see most processes")
        with installed.unit_settings("Group=1000"):
            vm.run("oomguard status", user="alice")
            with hog(vm, "vm-marked", user="root") as pid:
                installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
    finally:
        vm.run("mount -o remount,hidepid=0,gid=0 /proc")
        vm.wait_until(f"test $(stat -c %a {STATUS}) = 644", describe="status.json to be open again")


def test_a_restart_of_journald_loses_no_later_entry(installed: Service) -> None:
    """The daemon notices nothing, and its next entry arrives."""
    vm = installed.vm
    vm.run("systemctl restart systemd-journald")
    since = vm.now()
    installed.write_policy(MARKED)
    installed.wait_for_event("policy-loaded", since=since)
    assert installed.is_active


def test_a_policy_behind_a_swapped_symlink_is_picked_up(installed: Service) -> None:
    """Configuration management replaces a file like this: the name stays, the target changes."""
    vm = installed.vm
    vm.put("/etc/policies/one.yaml", "rules: []\n")
    vm.put("/etc/policies/two.yaml", MARKED)
    vm.run(f"ln -s /etc/policies/one.yaml {POLICY}.new && mv -T {POLICY}.new {POLICY}")
    try:
        with hog(vm, "vm-marked") as pid:
            vm.run(f"ln -s /etc/policies/two.yaml {POLICY}.new && mv -T {POLICY}.new {POLICY}")
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
    finally:
        vm.run(f"rm -rf {POLICY} /etc/policies")


def test_a_drop_in_takes_effect_when_it_appears(installed: Service) -> None:
    """Packages add rules without touching the administrator's file."""
    vm = installed.vm
    with hog(vm, "vm-marked") as pid:
        vm.put(f"{DROP_INS}/50-marked.yaml", MARKED)
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        vm.run(f"rm {DROP_INS}/50-marked.yaml")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 0)
