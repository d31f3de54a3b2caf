"""The kernel runs out of memory for real, and does what the policy said."""

import errno

import pytest

from .guest import Guest, GuestError, GuestPanicError
from .service import Service
from .workload import HOG, fill_memory, hog, kills

POLICY = """\
rules:
  - name: vm-precious
    user: alice
    oom_score_adj: -700
  - name: vm-expendable
    oom_score_adj: 700
"""


@pytest.mark.smoke
def test_the_marked_hog_dies_and_the_protected_one_lives(installed: Service) -> None:
    """The protected one is larger: by size alone it would have been first."""
    vm = installed.vm
    installed.write_policy(POLICY)
    since = vm.now()
    with hog(vm, "vm-precious", mib=350) as precious, hog(vm, "vm-expendable", mib=150) as expendable:
        installed.wait_for_value(f"/proc/{precious}/oom_score_adj", -700)
        installed.wait_for_value(f"/proc/{expendable}/oom_score_adj", 700)
        fill_memory(vm)
        killed = kills(vm, since=since)
        assert killed
        assert f"Killed process {expendable} (vm-expendable)" in killed[0]
        assert not any("(vm-precious)" in message for message in killed)
        assert vm.get(f"/proc/{precious}/comm") == b"vm-precious\n"
        assert installed.is_active


def test_strict_overcommit_refuses_instead_of_killing(installed: Service) -> None:
    """`overcommit_memory=2`: the allocation fails, nobody dies."""
    vm = installed.vm
    since = vm.now()
    installed.write_policy("vm: {overcommit_memory: 2, overcommit_ratio: 60}\n")
    installed.wait_for_value("/proc/sys/vm/overcommit_memory", 2)
    done = vm.run([HOG, "4000"], user="alice", check=False, timeout_seconds=300)
    assert done.code == errno.ENOMEM, done
    assert "refused" in done.stdout
    assert not kills(vm, since=since)
    installed.write_policy("rules: []\n")
    installed.wait_for_value("/proc/sys/vm/overcommit_memory", 0)


def test_a_fatal_commit_limit_is_refused(installed: Service) -> None:
    """A limit below what the host has promised already would make every later allocation fail."""
    vm = installed.vm
    since = vm.now()
    installed.write_policy("vm: {overcommit_memory: 2, overcommit_ratio: 1}\n")
    installed.wait_for_event("refused", since=since)
    assert vm.get("/proc/sys/vm/overcommit_memory") == b"0\n"
    assert vm.run("true").code == 0


def test_without_the_refusal_the_same_limit_is_fatal(fresh_vm: Guest) -> None:
    """What the refusal is for: nothing starts any more, not even the shell to repair it with."""
    fresh_vm.run("sysctl -q vm.overcommit_ratio=1 vm.overcommit_memory=2")
    with pytest.raises(GuestError, match=r"Cannot allocate memory|MemoryError"):
        fresh_vm.run(["true"])


def test_panic_on_oom_panics_and_the_host_would_reboot(fresh_vm: Guest) -> None:
    """The policy's `panic_on_oom` and `kernel.panic` are those the kernel acts on."""
    service = Service(fresh_vm)
    service.ensure_installed()
    service.write_policy("vm: {panic_on_oom: 1}\nkernel: {panic: 1}\n")
    service.wait_for_value("/proc/sys/vm/panic_on_oom", 1)
    service.wait_for_value("/proc/sys/kernel/panic", 1)
    with pytest.raises(GuestPanicError):
        fill_memory(fresh_vm)
    assert fresh_vm.expect_panic()
