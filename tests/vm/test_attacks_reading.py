"""Processes that keep whoever reads them waiting: the daemon and the verbs go on."""

from .attack import attack
from .service import Service
from .workload import FOREVER_SECONDS, hog, unit

POLICY = """\
resync_interval: 5
rules:
- {name: systemd-networkd, oom_score_adj: -500}
- {name: systemd-network-of-a-user, oom_score_adj: 400}
- {name: vm-prompt, oom_score_adj: 300}
"""

ENDING = (
    "rules: [{name: vm-ending, user: alice, oom_score_adj: 500}, {name: vm-prompt, oom_score_adj: 300}]\n"
)

DEEP = """\
#!/usr/bin/python3
import os, signal
at = os.open("/sys/fs/cgroup", os.O_RDONLY)
for name in ["vm-deep"] + 17 * ["x" * 250]:
    os.mkdir(name, dir_fd=at)
    at = os.open(name, os.O_RDONLY, dir_fd=at)
os.write(os.open("cgroup.procs", os.O_WRONLY, dir_fd=at), b"0")
os.setgroups(range(100_000, 165_536))
os.setuid(1000)
signal.pause()
"""
"""A process of a user with a `status` of 400 KiB, in a cgroup whose path the kernel does not print."""


def test_a_command_line_that_never_comes_holds_up_nobody(installed: Service) -> None:
    """Under a name that fills its 15 bytes, so that only the command line tells which rule is meant."""
    vm = installed.vm
    program = attack(vm, "unreadable")
    vm.run("modprobe fuse; install -d -o alice /var/tmp/hang")
    installed.write_policy(POLICY)
    since = vm.now()
    pid = installed.main_pid
    command = f"{program} systemd-network /var/tmp/hang {FOREVER_SECONDS} 30"
    with unit(vm, "vm-unreadable", command, "User=alice", "StandardOutput=truncate:/var/tmp/unreadable"):
        # No pgrep and no ps from here on: they would hang.
        vm.wait_until("grep -qx ready /var/tmp/unreadable", describe="command lines that never come")
        installed.wait_for_passes(2)
        installed.wait_for_event("limited", since=since)
        with hog(vm, "vm-prompt") as prompt:
            installed.wait_for_value(f"/proc/{prompt}/oom_score_adj", 300)
        threads = vm.run(f"cat /proc/{pid}/task/*/stat | sed 's/.*) //' | cut -c1").stdout.split()
        assert len(threads) <= 4, "one that waits for alice, two that read, and the main thread"
        assert vm.run(f"sed 's/.*) //' /proc/{pid}/stat | cut -c1").stdout.strip() in ("R", "S")
        for verb in ("plan", "rank", "check --host", "explain vm-prompt", "explain 1", "advise", "status"):
            done = vm.run(f"timeout -s KILL 60 oomguard {verb}", check=False, timeout_seconds=120)
            assert done.code in (0, 1, 3), f"{verb}: {done}"
    said = [entry["MESSAGE"] for entry in installed.events("limited", since=since)]
    assert 1 <= len([message for message in said if "cannot be read" in message]) <= 3, said
    assert installed.main_pid == pid, "the watchdog had no reason to end it"


def test_a_process_that_ends_while_it_is_read_holds_up_nobody(installed: Service) -> None:
    """Its last reader closes its files, and waits for their owner: a thread does, not the daemon."""
    vm, pid = installed.vm, installed.main_pid
    program = attack(vm, "ending")
    vm.run("modprobe fuse")
    installed.apply_policy(ENDING)
    since = vm.now()
    waited = vm.run(f"{program} vm-ending 1000 3000 60 {pid}", timeout_seconds=300).stdout
    assert waited == "another\n", "of the daemon's threads"
    with hog(vm, "vm-prompt") as prompt:
        installed.wait_for_value(f"/proc/{prompt}/oom_score_adj", 300)
    assert installed.main_pid == pid
    assert any("cannot be read" in entry["MESSAGE"] for entry in installed.events("limited", since=since))


def test_a_long_status_in_a_cgroup_too_deep_to_be_printed_ends_no_pass(installed: Service) -> None:
    """Every pass reads both if a rule protects something; kernels cut such a path, or refuse to print it."""
    vm, pid = installed.vm, installed.main_pid
    vm.put("/usr/local/bin/vm-deep", DEEP, mode=0o755)
    try:
        with unit(vm, "vm-deep", "vm-deep"):
            vm.wait_until("test $(wc -c </proc/$(systemctl show -P MainPID vm-deep)/status) -gt 400000")
            installed.wait_for_passes(2)
            assert installed.main_pid == pid, "it went on"
            for verb in ("plan", "rank", "check --host", "status"):
                done = vm.run(f"oomguard {verb}", check=False)
                assert done.code in (0, 3), f"{verb}: {done}"
    finally:
        vm.run("find /sys/fs/cgroup/vm-deep -depth -type d -delete", check=False)
