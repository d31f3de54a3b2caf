"""Who gets protected by a name, under a real service manager and with the daemon's real capabilities."""

from collections.abc import Iterator
from contextlib import contextmanager

from .guest import Guest
from .service import Service
from .workload import FOREVER_SECONDS, HOG, unit

BY_NAME = "rules: [{name: vm-guarded, oom_score_adj: -500}]\n"


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
        assert "uid 1000 may call any program that name" in refused(installed, pid, since=since)
    status = installed.status()
    assert any("vm-guarded" in complaint["by"] for complaint in status["complaints"])


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
    """It is root's and called what its caller's link is called."""
    vm = installed.vm
    vm.run("install -m 4755 /bin/sleep /usr/local/bin/vm-setuid")
    vm.run("ln -sf /usr/local/bin/vm-setuid /home/alice/vm-guarded")
    for policy in (BY_NAME, "rules: [{name: vm-guarded, user: root, oom_score_adj: -500}]\n"):
        since = vm.now()
        installed.write_policy(policy)
        command = "/bin/sh -c 'exec /home/alice/vm-guarded 1000'"
        with unit(vm, "vm-link", command, "User=alice", below="system.slice"):
            pid = vm.wait_until("pgrep -x vm-guarded", describe="vm-guarded").stdout.strip()
            assert "\nUid:\t1000\t0\t" in vm.get(f"/proc/{pid}/status").decode()
            assert "setuid" in refused(installed, pid, since=since)


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
    """A process in a PID namespace below the host's matches with `containers: true` only."""
    vm = installed.vm
    policy = "rules: [{{name: vm-contained, oom_score_adj: 300{more}}}]\n"
    installed.write_policy(policy.format(more=""))
    vm.run(f"install -m 755 {HOG} /usr/local/bin/vm-contained")
    command = f"unshare --pid --fork --mount-proc vm-contained 0 {FOREVER_SECONDS}"
    with unit(vm, "vm-container", command):
        pid = vm.wait_until("pgrep -x vm-contained", describe="vm-contained").stdout.strip()
        vm.run("oomguard plan")
        assert vm.get(f"/proc/{pid}/oom_score_adj") == b"0\n"
        installed.write_policy(policy.format(more=", containers: true"))
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)


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
