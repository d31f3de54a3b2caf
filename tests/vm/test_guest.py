"""The guest itself, before oomguard comes into it: what every other scenario relies on."""

import pytest

from .guest import Guest, GuestError, GuestPanicError
from .workload import fill_memory, hog, kills

KERNELS = {"bookworm": "6.1.", "trixie": "6.12.", "forky": "7."}


def test_the_guest_boots_debian_with_systemd_and_its_own_kernel(vm: Guest, suite: str) -> None:
    """The release decides the kernel, and the kernel how the proc connector behaves."""
    assert vm.run(["uname", "-r"]).stdout.startswith(KERNELS[suite])
    assert vm.run("cat /proc/1/comm").stdout == "systemd\n"
    assert vm.run("systemctl is-system-running").stdout == "running\n"
    assert "memory" in vm.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split()


def test_commands_run_as_ordinary_processes(vm: Guest) -> None:
    """The agent is exempt from the OOM killer; what it starts must not be."""
    assert vm.run("cat /proc/self/oom_score_adj").stdout == "0\n"
    assert "system.slice" not in vm.run("cat /proc/self/cgroup").stdout
    assert vm.run(["id", "-un"], user="alice").stdout == "alice\n"
    lowered = vm.run("echo -1 >/proc/self/oom_score_adj", user="alice", check=False)
    assert lowered.code != 0, "the floor came along from the agent"


def test_a_command_reports_status_output_and_its_time_limit(vm: Guest) -> None:
    """A stuck scenario must not take the suite with it."""
    done = vm.run("cat; echo bad >&2; exit 3", stdin=b"good", check=False)
    assert (done.code, done.stdout, done.stderr) == (3, "good", "bad\n")
    assert vm.run("kill -KILL $$", check=False).code == 128 + 9
    with pytest.raises(GuestError, match="took more than 1"):
        vm.run("sleep 1000", timeout_seconds=1)


def test_files_travel_unchanged(vm: Guest) -> None:
    """Any byte, and more than fits one buffer of the serial port."""
    content = bytes(range(256)) * 2048
    vm.put("/var/tmp/made/file", content, mode=0o640)
    assert vm.get("/var/tmp/made/file") == content
    assert vm.run("stat -c %a /var/tmp/made/file").stdout == "640\n"


def test_the_journal_can_be_read_from_a_point_on(vm: Guest) -> None:
    """Scenarios share a boot, so each must see its own entries only."""
    vm.run("logger -t scenario before")
    start = vm.now()
    vm.run("logger -t scenario after")
    assert [entry["MESSAGE"] for entry in vm.journal("SYSLOG_IDENTIFIER=scenario", since=start)] == ["after"]


def test_the_kernel_kills_the_hog_with_the_higher_score(vm: Guest) -> None:
    """A global OOM without oomguard: the values alone decide."""
    since = vm.now()
    with hog(vm, "vm-meek", mib=300) as meek, hog(vm, "vm-bold", mib=200) as bold:
        vm.run(f"choom -n -500 -p {meek}; choom -n 500 -p {bold}")
        fill_memory(vm)
        assert f"Killed process {bold} (vm-bold)" in kills(vm, since=since)[0]


def test_a_panic_is_recognised_and_so_is_the_reboot_after_it(fresh_vm: Guest) -> None:
    """`panic_on_oom=1` with `kernel.panic=1`: the guest is lost, and says why."""
    fresh_vm.run("sysctl -q vm.panic_on_oom=1 kernel.panic=1")
    with pytest.raises(GuestPanicError):
        fill_memory(fresh_vm)
    assert fresh_vm.expect_panic()
    assert "panic_on_oom is enabled" in fresh_vm.console.read_text(errors="replace")
