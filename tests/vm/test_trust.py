"""Who gets protected by a name, under a real service manager and with the daemon's real capabilities."""

from collections.abc import Iterator
from contextlib import contextmanager

from .guest import Completed, Guest
from .service import STATUS, Service
from .workload import FOREVER_SECONDS, HOG, hog, unit, wait_for_values

BY_NAME = "rules: [{name: vm-guarded, oom_score_adj: -500}]\n"

SWITCHING = """#!/usr/bin/python3
import os, time
while True:
    os.seteuid(1000)
    time.sleep(0.0005)
    os.seteuid(0)
    time.sleep(0.0005)
"""

HEADLESS = """#!/usr/bin/python3
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(100000,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)
"""


@contextmanager
def guarded(vm: Guest, *properties: str) -> Iterator[str]:
    """Run vm-guarded as a unit of the system, with these properties; give its pid."""
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-guarded")
    with unit(vm, "vm-guarded", f"vm-guarded 0 {FOREVER_SECONDS}", *properties, below="system.slice"):
        yield vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()


def refused(installed: Service, pid: str, *, since: float) -> str:
    """Wait until protection of vm-guarded was refused, check that it has none, and return why."""
    installed.wait_for_event("refused", since=since)
    assert installed.vm.get(f"/proc/{pid}/oom_score_adj") == b"0\n"
    (entry,) = installed.events("refused", since=since)
    assert entry["PRIORITY"] == "4"
    return str(entry["MESSAGE"])


def test_a_system_users_service_is_protected_by_name(installed: Service) -> None:
    """Only root puts processes there."""
    installed.write_policy(BY_NAME)
    with guarded(installed.vm, "User=nobody") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)


def test_a_service_with_a_dynamic_user_is_protected_by_name(installed: Service) -> None:
    """Its uid is far above those of people, and is nobody's."""
    installed.write_policy(BY_NAME)
    with guarded(installed.vm, "DynamicUser=yes") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)


def test_a_persons_job_in_a_system_service_is_not(installed: Service) -> None:
    """So does cron run what people schedule."""
    since = installed.vm.now()
    installed.write_policy(BY_NAME)
    with guarded(installed.vm, "User=alice") as pid:
        assert "uid 1000 could give any program this name" in refused(installed, pid, since=since)
        by_rule = '"by": "[^"]*vm-guarded'  # a complaint's
        installed.vm.wait_until(f"grep -q '{by_rule}' {STATUS}", describe="the refusal in the status")


def test_a_users_own_unit_is_not_the_systems_of_that_name(installed: Service) -> None:
    """Not for `unit`, which reads the system's part of the path; `user_unit` finds it, but does not vouch."""
    vm = installed.vm
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-guarded; loginctl enable-linger alice")
    vm.wait_until("systemctl is-active user@1000.service", describe="alice's service manager")
    own = "env XDG_RUNTIME_DIR=/run/user/1000"
    try:
        since = vm.now()
        installed.write_policy("rules: [{name: vm-guarded, unit: postgresql.service, oom_score_adj: -500}]\n")
        vm.run(
            f"runuser -u alice -- {own} systemd-run --quiet --user --unit=postgresql.service "
            f"vm-guarded 0 {FOREVER_SECONDS}"
        )
        pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
        installed.wait_for_event("policy-loaded", since=since)
        vm.run("oomguard plan")  # exits 3 if there were something to change
        assert "postgresql.service" in vm.run(["cat", f"/proc/{pid}/cgroup"]).stdout
        before = vm.run(["cat", f"/proc/{pid}/oom_score_adj"]).stdout
        since = vm.now()
        installed.write_policy("rules: [{user_unit: postgresql.service, oom_score_adj: -500}]\n")
        installed.wait_for_event("refused", since=since)
        assert vm.run(["cat", f"/proc/{pid}/oom_score_adj"]).stdout == before
    finally:
        vm.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)


def test_a_setuid_program_has_its_callers_name(installed: Service) -> None:
    """It is called what its caller's link is called, and its real uid is its caller's."""
    vm = installed.vm
    vm.run("install -m 4755 /bin/sleep /usr/local/bin/vm-setuid")
    vm.run("ln -sf /usr/local/bin/vm-setuid /home/alice/vm-guarded")
    since = vm.now()
    installed.write_policy(BY_NAME)
    command = "/bin/sh -c 'exec /home/alice/vm-guarded 1000'"
    with unit(vm, "vm-link", command, "User=alice", below="system.slice"):
        pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
        assert "\nUid:\t1000\t0\t" in vm.get(f"/proc/{pid}/status").decode()
        assert "uid 1000" in refused(installed, pid, since=since)
        # The last rule tells when the policy is in force.
        by_user = "{name: vm-guarded, user: root, oom_score_adj: -500}"
        installed.write_policy(f"rules: [{by_user}, {{name: vm-guarded, oom_score_adj: 50}}]\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 50)


def test_a_root_daemon_that_works_as_a_user_keeps_its_protection(installed: Service) -> None:
    """As smbd does, a thousand times a second: nothing is written once it is protected."""
    vm = installed.vm
    vm.put("/usr/local/bin/vm-guarded", SWITCHING, mode=0o755)
    installed.write_policy(BY_NAME)
    with unit(vm, "vm-guarded", "vm-guarded", below="system.slice"):
        pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)
        since = vm.now()
        for _ in range(3):
            installed.reload()
            sample = f"for _ in $(seq 200); do cat /proc/{pid}/oom_score_adj; done | sort | uniq -c"
            assert vm.run(sample).stdout.split() == ["200", "-500"]
        assert not installed.events("applied", "refused", "contended", since=since)


def test_a_daemon_whose_main_thread_ended_keeps_its_protection(installed: Service) -> None:
    """The kernel calls its main thread a zombie; it lives."""
    vm = installed.vm
    vm.put("/usr/local/bin/vm-guarded", HEADLESS, mode=0o755)
    installed.write_policy("rules: [{unit: vm-guarded.service, oom_score_adj: -500}]\n")
    with unit(vm, "vm-guarded", "vm-guarded", below="system.slice"):
        pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
        vm.wait_until(f"grep -q '^State:.Z' /proc/{pid}/status", describe="its main thread to end")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)
        vm.run("oomguard plan")  # nothing to change
        assert "stays -500" in vm.run(f"oomguard explain {pid}").stdout


def test_root_of_a_user_namespace_is_not_root(installed: Service) -> None:
    """Alice is root in hers, and uid 1000 to everybody else."""
    vm = installed.vm
    since = vm.now()
    installed.write_policy(BY_NAME)
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-guarded")
    command = f"unshare --user --map-root-user vm-guarded 0 {FOREVER_SECONDS}"
    with unit(vm, "vm-namespace", command, "User=alice"):
        pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
        assert "uid 1000" in refused(installed, pid, since=since)


def test_containers_are_left_to_their_runtime_unless_asked_for(installed: Service) -> None:
    """What a runtime put into a cgroup of its own matches with `containers: true` only."""
    vm = installed.vm
    policy = "rules: [{{name: vm-contained, oom_score_adj: 300{more}}}]\n"
    installed.write_policy(policy.format(more=""))
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-contained; mkdir -p /sys/fs/cgroup/vm-payload")
    first = f"echo 0 > /sys/fs/cgroup/vm-payload/cgroup.procs; exec vm-contained 0 {FOREVER_SECONDS}"
    vm.put("/usr/local/bin/vm-payload", f"#!/bin/sh\n{first}\n", mode=0o755)
    with unit(vm, "vm-container", "unshare --pid --fork --kill-child vm-payload"):
        pid = vm.wait_until("pgrep -x vm-contained", describe="vm-contained").stdout.strip()
        vm.run("oomguard plan")
        assert vm.get(f"/proc/{pid}/oom_score_adj") == b"0\n"
        assert "containers: in a container" in vm.run(f"oomguard explain {pid}").stdout
        installed.write_policy(policy.format(more=", containers: true"))
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)
    vm.run("rmdir /sys/fs/cgroup/vm-payload", check=False)


def test_nobody_leaves_a_raising_rule_by_a_sandbox(installed: Service) -> None:
    """In alice's user@.service, in a service of hers, and below cgroups that she owns."""
    vm = installed.vm
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-sandboxed; loginctl enable-linger alice")
    vm.wait_until("systemctl is-active user@1000.service", describe="alice's service manager")
    sandboxed = f"unshare -Ur --pid --fork --kill-child vm-sandboxed 0 {FOREVER_SECONDS}"
    start = "env XDG_RUNTIME_DIR=/run/user/1000 systemd-run --quiet --user -p TimeoutStopSec=3"
    own = f"runuser -u alice -- {start} {sandboxed}"
    cgroup = "/sys/fs/cgroup/system.slice/vm-delegated.service"
    vm.put(
        "/usr/local/bin/vm-inner",
        f"#!/bin/sh\nmkdir {cgroup}/mine {cgroup}/other; echo $$ >{cgroup}/other/cgroup.procs\n"
        f"exec unshare -Ur --pid --fork --kill-child sh -c 'echo 0 >{cgroup}/mine/cgroup.procs; "
        f"exec vm-sandboxed 0 {FOREVER_SECONDS}'\n",
        mode=0o755,
    )
    installed.write_policy("rules: [{name: vm-sandboxed, user: alice, oom_score_adj: 500}]\n")
    try:
        vm.run(own)
        delegated = ("User=alice", "Delegate=yes")
        with (
            unit(vm, "vm-plain", sandboxed, "User=alice", below="system.slice"),
            unit(vm, "vm-delegated", "vm-inner", *delegated, below="system.slice"),
        ):
            wait_for_values(vm, "vm-sandboxed", 500, count=3)
            found = vm.run("for p in $(pgrep -x vm-sandboxed); do cat /proc/$p/cgroup; done").stdout
            assert "/mine\n" in found
            vm.run("oomguard plan")  # exits 3 if a pass would lower one of them
    finally:
        vm.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)


DEEP = f"""#!/usr/bin/python3
import os
for line in open("/proc/self/cgroup"):
    path = line.rstrip().partition("::")[2]
at = os.open("/sys/fs/cgroup" + os.path.dirname(path), os.O_RDONLY)
for _ in range(17):
    os.mkdir("x" * 250, dir_fd=at)
    at = os.open("x" * 250, os.O_RDONLY, dir_fd=at)
procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=at)
os.write(procs, b"0")
os.execvp("vm-deep", ["vm-deep", "0", "{FOREVER_SECONDS}"])
"""


SURFACE = """
import os, signal, sys, time
os.kill(int(sys.argv[1]), signal.SIGKILL)
name, folders = "x" * 250, []
at = os.open("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice", os.O_RDONLY)
while name in os.listdir(at):
    folders.append(at)
    at = os.open(name, os.O_RDONLY, dir_fd=at)
for folder in reversed(folders):
    while True:
        try:
            os.rmdir(name, dir_fd=folder)
            break
        except OSError:
            time.sleep(0.1)
"""
"""The service manager cannot remove what it cannot name, and would not start again."""


def test_a_cgroup_too_deep_to_be_printed_is_below_its_users_manager(installed: Service) -> None:
    """The kernel says ENAMETOOLONG, or cuts it; nothing fails, and nobody leaves a raising rule by that."""
    vm = installed.vm
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-deep; loginctl enable-linger alice")
    vm.wait_until("systemctl is-active user@1000.service", describe="alice's service manager")
    vm.put("/usr/local/bin/vm-dive", DEEP, mode=0o755)
    installed.write_policy("rules: [{unit: user@1000.service, oom_score_adj: 500}]\n")
    try:
        own = "runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/1000 systemd-run --quiet --user"
        vm.run(f"{own} --scope --unit=vm-dive vm-dive >/dev/null 2>&1 &")
        wait_for_values(vm, "vm-deep", 500, count=1)
        pid = vm.run("pgrep -x vm-deep").stdout.strip()
        vm.run(f"runuser -u alice -- sh -c 'echo 0 >/proc/{pid}/oom_score_adj'")
        wait_for_values(vm, "vm-deep", 500, count=1)
        vm.run(f"oomguard explain {pid}")
        assert vm.run("oomguard check --host", check=False).code in (0, 78)
        assert installed.is_active
        vm.put("/usr/local/bin/vm-surface", f"#!/usr/bin/python3{SURFACE}", mode=0o755)
        vm.run(f"vm-surface {pid} && systemctl restart user@1000.service")
    finally:
        vm.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)


def test_a_cgroup_that_alice_named_vouches_for_nothing(installed: Service) -> None:
    """Neither in her user@.service nor in a service of hers with Delegate=; the service itself does."""
    vm = installed.vm
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-guarded")
    cgroup = "/sys/fs/cgroup/system.slice/vm-delegated.service"
    inner = f"mkdir {cgroup}/vm-database; echo $$ >{cgroup}/vm-database/cgroup.procs"
    vm.put(
        "/usr/local/bin/vm-inner", f"#!/bin/sh\n{inner}; exec vm-guarded 0 {FOREVER_SECONDS}\n", mode=0o755
    )
    since = vm.now()
    installed.write_policy("rules: [{cgroup: '*vm-database*', oom_score_adj: -500}]\n")
    with unit(vm, "vm-delegated", "vm-inner", "User=alice", "Delegate=yes", below="system.slice"):
        pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
        assert "a cgroup with any name" in refused(installed, pid, since=since)
        installed.write_policy("rules: [{unit: vm-delegated.service, oom_score_adj: -500}]\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)


def attach(vm: Guest, pid: str, service: str, *, below: str = "") -> Completed:
    """Have alice ask systemd to move a process into a service's cgroup, or one below that."""
    manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    call = f"busctl call {manager} AttachProcessesToUnit ssau {service} '{below}' 1 {pid}"
    return vm.run(call, user="alice", check=False)


def test_systemd_moves_no_process_into_a_service_of_others(installed: Service) -> None:
    """AttachProcessesToUnit is open to all: for a service with Delegate=, and that service's own user.

    Such a service's `unit` protects what its user moves there, as it does what its user starts there;
    a name is not trusted in it.
    """
    vm = installed.vm
    nobodys = ("User=nobody", "Delegate=yes")
    with (
        unit(vm, "vm-roots", "sleep 1000", "Delegate=yes", below="system.slice"),
        unit(vm, "vm-nobodys", "sleep 1000", *nobodys, below="system.slice"),
        unit(vm, "vm-plain", "sleep 1000", "User=alice", below="system.slice"),
        unit(vm, "vm-delegated", "sleep 1000", "User=alice", "Delegate=yes", below="system.slice"),
        hog(vm, "vm-guarded") as pid,
        hog(vm, "vm-others", user="nobody") as others,
    ):
        for service in ("vm-roots", "vm-nobodys", "vm-plain", "system.slice", "init.scope"):
            refused_by_systemd = attach(vm, pid, service if "." in service else f"{service}.service")
            assert refused_by_systemd.code != 0, service
        assert attach(vm, others, "vm-delegated.service").code != 0
        assert "/scenario.slice/vm-guarded.service" in vm.run(["cat", f"/proc/{pid}/cgroup"]).stdout
        moved = attach(vm, pid, "vm-delegated.service")
        assert moved.code == 0, moved.stderr
        assert vm.run(["cat", f"/proc/{pid}/cgroup"]).stdout.endswith("/system.slice/vm-delegated.service\n")
        since = vm.now()
        installed.write_policy(BY_NAME)
        assert "uid 1000" in refused(installed, pid, since=since)
        installed.write_policy("rules: [{unit: vm-delegated.service, oom_score_adj: -500}]\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)


def test_a_process_that_systemd_moves_to_its_users_own_manager_stays_raised(installed: Service) -> None:
    """It leaves the service whose `unit` raises it; another program there has the rule of its user."""
    vm = installed.vm
    vm.run("loginctl enable-linger alice")
    vm.wait_until("systemctl is-active user@1000.service", describe="alice's service manager")
    rules = "{unit: vm-raised.service, oom_score_adj: 500}, {user: alice, oom_score_adj: 300}"
    installed.write_policy(f"resync_interval: 5\nrules: [{rules}]\n")
    try:
        with unit(vm, "vm-raised", "sleep 1000", "User=alice", below="system.slice"):
            pid = vm.run("systemctl show -P MainPID vm-raised").stdout.strip()
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 500)
            moved = attach(vm, pid, "user@1000.service", below="/init.scope")
            assert moved.code == 0, moved.stderr
            assert "user@1000.service" in vm.run(["cat", f"/proc/{pid}/cgroup"]).stdout
            vm.run(f"echo 0 >/proc/{pid}/oom_score_adj", user="alice")
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 500)
            # By the status file, which an emulated daemon replaces every few seconds.
            vm.wait_until(f"oomguard explain {pid} | grep 'until it runs another program'")
            manager = vm.run("systemctl show -P MainPID user@1000.service").stdout.strip()
            installed.wait_for_value(f"/proc/{manager}/oom_score_adj", 300)
    finally:
        vm.run("loginctl disable-linger alice; systemctl stop user@1000.service", check=False)


def test_executables_take_the_right_to_look_at_them(installed: Service) -> None:
    """As shipped the daemon says that it cannot; with the documented setting it can, and sees what is run."""
    vm = installed.vm
    policy = "rules: [{exe: /usr/local/bin/vm-sleeper, oom_score_adj: -500}]\n"
    vm.run("install -m 755 /bin/sleep /usr/local/bin/vm-sleeper")
    since = vm.now()
    installed.write_policy(policy)
    with unit(vm, "vm-sleeper", "vm-sleeper 100000", "User=alice"):
        pid = vm.wait_until("pgrep -x vm-sleeper", describe="vm-sleeper").stdout.strip()
        installed.wait_for_event("limited", since=since)
        entries = installed.events("limited", since=since)
        assert any("CAP_SYS_PTRACE" in entry["MESSAGE"] for entry in entries)
        assert vm.get(f"/proc/{pid}/oom_score_adj") == b"0\n"
        with installed.unit_settings("CapabilityBoundingSet=CAP_SYS_PTRACE"):
            installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)
