"""A host under load: programs start by the hundred, memory is gone, or another tool wants other values."""

import pytest

from .guest import Guest, accelerator
from .service import INSTALLER, UNIT, WHEELS, Service
from .workload import (
    STORM,
    churn,
    fill_memory,
    glutton,
    hog,
    kills,
    rewrite_values,
    sleepers,
    unit,
    wait_for_values,
)

SWAPPINESS = "/proc/sys/vm/swappiness"
MARKED = "vm: {swappiness: 33}\nrules: [{name: vm-marked, oom_score_adj: 800}]\n"
RESTORING = "rules: []\n"


def test_killed_in_a_storm_it_comes_back_with_all_originals(installed: Service) -> None:
    """`kill -9`, three times, while programs start: all that live have their value, then their own."""
    vm = installed.vm
    before = int(vm.get(SWAPPINESS))
    installed.write_policy(MARKED)
    with (
        sleepers(vm, "vm-marked", 50, own=77),
        churn(vm, "vm-brief", rate=STORM),
        churn(vm, "vm-other", rate=STORM),
    ):
        wait_for_values(vm, "vm-marked", 800, count=50)
        for _ in range(3):
            old = installed.main_pid
            vm.run(["kill", "-KILL", str(old)])
            rewrite_values(vm, "vm-marked", 90)  # by root, so it is their floor from here on, above their own
            installed.wait_for_restart(old)
            wait_for_values(vm, "vm-marked", 800, count=50)
        installed.write_policy(RESTORING)
        wait_for_values(vm, "vm-marked", 77, count=50)
        installed.wait_for_value(SWAPPINESS, before)


@pytest.mark.guest(memory_mib=3072)
def test_a_fork_bomb_of_thousands_is_kept(fresh_vm: Guest) -> None:
    """Each of them has the value, the daemon is the same as before, and each gets its own back.

    An emulated processor takes 25 times as long for each, so the daemon reaches its limit of CPU time.
    """
    vm, bombs = fresh_vm, 10_000 if accelerator() == "kvm" else 400
    vm.run("sysctl -q kernel.pid_max=60000 kernel.threads-max=60000")
    service = Service(vm)
    service.ensure_installed()
    service.write_policy("rules: [{name: vm-bomb, oom_score_adj: 700}]\n")
    pid = service.main_pid
    vm.run("install -m 755 /usr/bin/perl /usr/local/bin/vm-bomb")
    script = f"for (2..{bombs}) {{ defined(my $p = fork) or die $!; $p or sleep 100000 }} sleep 100000"
    vm.run(
        "systemd-run --quiet --unit=bomb --slice=scenario.slice -p User=alice -p TasksMax=infinity "
        f"-p LimitNPROC=infinity vm-bomb -e '{script}'"
    )
    vm.wait_until(f"test $(pgrep -cx vm-bomb) = {bombs}", timeout_seconds=600, describe=f"{bombs} processes")
    wait_for_values(vm, "vm-bomb", 700, count=bombs, timeout_seconds=600)
    service.write_policy("rules: [{name: vm-bomb, oom_score_adj: 600}]\n")
    wait_for_values(vm, "vm-bomb", 600, count=bombs, timeout_seconds=600)
    service.write_policy(RESTORING)
    wait_for_values(vm, "vm-bomb", 0, count=bombs, timeout_seconds=600)
    assert service.main_pid == pid


def test_out_of_memory_again_and_again_it_lives_and_the_marked_die(installed: Service) -> None:
    """Three times while programs start: each takes a marked process, none the daemon or a protected one."""
    vm = installed.vm
    installed.write_policy(
        "rules:\n"
        "  - {name: vm-precious, user: alice, oom_score_adj: -700}\n"
        "  - {name: vm-marked, oom_score_adj: 800}\n"
    )
    pid, since = installed.main_pid, vm.now()
    with hog(vm, "vm-precious", mib=300) as precious, churn(vm, "vm-brief", rate=20):
        installed.wait_for_value(f"/proc/{precious}/oom_score_adj", -700)
        for _ in range(3):
            with hog(vm, "vm-marked", mib=100) as marked:
                installed.wait_for_value(f"/proc/{marked}/oom_score_adj", 800)
                fill_memory(vm)
                assert any(f"process {marked} (vm-marked)" in line for line in kills(vm, since=since))
            assert installed.main_pid == pid
        assert not any("(vm-precious)" in line for line in kills(vm, since=since))
        rewrite_values(vm, "vm-precious")
        installed.wait_for_value(f"/proc/{precious}/oom_score_adj", -700)


def test_with_nothing_left_to_promise_it_keeps_what_it_keeps(installed: Service) -> None:
    """Strict overcommit used up: drift is healed all the same, and a reload waits for better days.

    The reserve for administrators is left to those who look; without CAP_SYS_ADMIN the daemon has no share.
    """
    vm = installed.vm
    strict = (
        "resync_interval: 2\n"
        "vm: {overcommit_memory: 2, overcommit_ratio: 80, admin_reserve_kbytes: 131072, "
        "user_reserve_kbytes: 0, swappiness: 33}\n"
        "rules: [{name: vm-marked, oom_score_adj: 800}]\n"
    )
    installed.write_policy(strict)
    installed.wait_for_value("/proc/sys/vm/overcommit_memory", 2)
    pid = installed.main_pid
    with sleepers(vm, "vm-marked", 5), glutton(vm):
        wait_for_values(vm, "vm-marked", 800, count=5)
        vm.wait_for(  # what a program that just ended had promised is taken within 0.05 s
            lambda: vm.run(["true"], user="alice", check=False).code, bool, "alice to get no memory"
        )
        rewrite_values(vm, "vm-marked")
        vm.run("sysctl -q vm.swappiness=70")
        wait_for_values(vm, "vm-marked", 800, count=5)
        installed.wait_for_value(SWAPPINESS, 33)
        since = vm.now()
        installed.write_policy(strict.replace("33", "34"))
        # Its reader may find some memory. If not, or if the daemon itself has none, that is said.
        found = ("policy-loaded", "policy-rejected", "out-of-memory")
        vm.wait_until(
            f"journalctl --quiet --output=cat --since=@{since:.6f} _SYSTEMD_UNIT={UNIT}"
            f"{''.join(f' OOMGUARD_EVENT={event}' for event in found)} | grep .",
            timeout_seconds=300,
            describe="what became of the new policy",
        )
        wait_for_values(vm, "vm-marked", 800, count=5)
    installed.wait_for_value(SWAPPINESS, 34)
    installed.write_policy(MARKED)
    installed.wait_for_value("/proc/sys/vm/overcommit_memory", 0)
    assert installed.main_pid == pid


def test_a_tool_that_rewrites_everything_is_given_way_to_and_said_once(installed: Service) -> None:
    """Twice a second: one entry for each rule and sysctl when it begins, and when it ends."""
    vm = installed.vm
    installed.write_policy("resync_interval: 2\n" + MARKED)
    with sleepers(vm, "vm-marked", 5) as pids:
        wait_for_values(vm, "vm-marked", 800, count=5)
        vm.run("sleep 4")  # until they are watched
        since = vm.now()
        files = " ".join([SWAPPINESS, *(f"/proc/{pid}/oom_score_adj" for pid in pids)])
        rewrite = f"while sleep 0.5; do for file in {files}; do echo 1 >$file; done; done"
        with unit(vm, "vm-rewriter", f"sh -c '{rewrite}'"):
            installed.wait_for_status(lambda now: len(now["contended"]) == 1 + len(pids), "all contended")
        wait_for_values(vm, "vm-marked", 800, count=5)
        installed.wait_for_value(SWAPPINESS, 33)
        vm.wait_until(
            "test $(oomguard status --json | grep -c '\"contended\": \\[\\]') = 1", timeout_seconds=180
        )
        begun = [entry["OOMGUARD_TARGET"] for entry in installed.events("contended", since=since)]
        ended = [entry["OOMGUARD_TARGET"] for entry in installed.events("uncontended", since=since)]
        assert sorted(begun) == ["oom_score_adj", "vm.swappiness"]
        assert len(ended) <= 2 + len(pids)  # those that end with the same pass share an entry
        assert "vm.swappiness" in ended
        assert all(any(f"pid {pid}" in target for target in ended) for pid in pids)
        # Each pass corrects them, which is one entry an hour for each rule and sysctl, and a last one.
        assert len(installed.log(since=since)) < 60


def test_an_upgrade_under_load_loses_no_value_and_no_original(installed: Service) -> None:
    """Programs start before, during and after it; all that live have their value, and get their own back."""
    vm = installed.vm
    before = int(vm.get(SWAPPINESS))
    installed.write_policy(MARKED)
    old = installed.main_pid
    with sleepers(vm, "vm-marked", 20, own=77), churn(vm, "vm-brief", rate=STORM):
        wait_for_values(vm, "vm-marked", 800, count=20)
        vm.run(
            "systemd-run --quiet --no-block --unit=upgrade --slice=scenario.slice -p Type=oneshot "
            f"-p RemainAfterExit=yes sh {INSTALLER} --wheels {WHEELS}"
        )
        vm.wait_until(
            "test $(systemctl show -P ActiveState upgrade) = active || ! sleep 2", timeout_seconds=900
        )
        vm.run(["systemctl", "stop", "upgrade"])
        assert installed.main_pid not in (0, old)
        wait_for_values(vm, "vm-marked", 800, count=20)
        installed.write_policy(RESTORING)
        wait_for_values(vm, "vm-marked", 77, count=20)
        installed.wait_for_value(SWAPPINESS, before)
