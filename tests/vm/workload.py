"""Processes that scenarios look at: each in a unit of its own, under the name the scenario wants."""

from collections.abc import Iterator
from contextlib import contextmanager

from .guest import Guest

HOG = "/media/oomguard/vm/hog.py"
FOREVER_SECONDS = 100_000


@contextmanager
def hog(vm: Guest, name: str, *, mib: int = 0, user: str = "alice") -> Iterator[str]:
    """Run a process called `name` that takes `mib` of memory and keeps it; give its pid.

    It is in no system service's cgroup, so a policy has no more reason to trust it than its user's shell.
    """
    vm.run(f"install -m 755 {HOG} /usr/local/bin/{name}")
    vm.run(
        f"systemd-run --quiet --unit={name} --slice=scenario.slice -p User={user} -p OOMPolicy=continue "
        f"{name} {mib} {FOREVER_SECONDS}"
    )
    try:
        started = vm.wait_until(
            f"pid=$(systemctl show -P MainPID {name}); grep -qx {name} /proc/$pid/comm && echo $pid",
            describe=f"{name} to start",
        )
        yield started.stdout.strip()
    finally:
        if vm.is_alive:
            vm.run(f"systemctl stop {name}; systemctl reset-failed {name}", check=False)


def fill_memory(vm: Guest) -> None:
    """Take more memory than the guest has, as an ordinary process of root's; somebody dies of it."""
    vm.run([HOG, "4000"], check=False, timeout_seconds=300)


def kills(vm: Guest, *, since: float) -> list[str]:
    """Return what the kernel said about each process it killed."""
    messages = [entry["MESSAGE"] for entry in vm.journal("_TRANSPORT=kernel", since=since)]
    return [message for message in messages if "Killed process" in message]
