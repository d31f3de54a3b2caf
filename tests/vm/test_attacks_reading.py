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
        assert len(threads) <= 3, "one that waits for alice, one that reads, and the main thread"
        assert vm.run(f"sed 's/.*) //' /proc/{pid}/stat | cut -c1").stdout.strip() in "RS"
        for verb in ("plan", "rank", "check --host", "explain vm-prompt", "explain 1", "advise", "status"):
            done = vm.run(f"timeout -s KILL 60 oomguard {verb}", check=False, timeout_seconds=120)
            assert done.code in (0, 1, 3), f"{verb}: {done}"
    said = [entry["MESSAGE"] for entry in installed.events("limited", since=since)]
    assert 1 <= len([message for message in said if "cannot be read" in message]) <= 3, said
    assert installed.main_pid == pid, "the watchdog had no reason to end it"
