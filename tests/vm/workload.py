"""Processes that scenarios look at: each in a unit of its own, under the name the scenario wants."""

from collections.abc import Iterator
from contextlib import contextmanager

from .guest import Guest, accelerator

HOG = "/media/oomguard/vm/hog.py"
CHURN = "/media/oomguard/vm/churn.py"
GLUTTON = "/media/oomguard/vm/glutton.py"
FOREVER_SECONDS = 100_000
STORM = 50 if accelerator() == "kvm" else 10
"""Programs a second that keep a daemon busy: emulated, each takes it 25 times as long."""


@contextmanager
def unit(
    vm: Guest, name: str, command: str, *properties: str, below: str = "scenario.slice"
) -> Iterator[None]:
    """Run a command as a unit of the system, with these properties, and stop it whatever happens.

    `unshare --fork` ignores SIGTERM, and systemd would wait for 90 s.
    """
    settings = "".join(f" -p {one}" for one in ("TimeoutStopSec=3", *properties))
    vm.run(f"systemd-run --quiet --unit={name} --slice={below}{settings} {command}")
    try:
        yield
    finally:
        if vm.is_alive:
            vm.run(f"systemctl stop {name}; systemctl reset-failed {name}", check=False)


@contextmanager
def family(vm: Guest, script: str) -> Iterator[str]:
    """Run a parent called vm-parent, a script that may start vm-child and vm-orphan; give its pid."""
    for name in ("vm-child", "vm-orphan"):
        vm.run(f"install -m 755 /bin/sleep /usr/local/bin/{name}")
    vm.put("/usr/local/bin/vm-parent", f"#!/bin/sh\n{script}\n", mode=0o755)
    with unit(vm, "vm-parent", "vm-parent"):
        yield vm.run(["systemctl", "show", "-P", "MainPID", "vm-parent"]).stdout.strip()


@contextmanager
def hog(vm: Guest, name: str, *, mib: int = 0, user: str = "alice") -> Iterator[str]:
    """Run a process called `name` that takes `mib` of memory and keeps it; give its pid.

    It is in no system service's cgroup, so a policy has no more reason to trust it than its user's shell.
    """
    vm.run(f"install -m 755 {HOG} /usr/local/bin/{name}")
    with unit(vm, name, f"{name} {mib} {FOREVER_SECONDS}", f"User={user}", "OOMPolicy=continue"):
        started = vm.wait_until(
            f"pid=$(systemctl show -P MainPID {name}); grep -qx {name} /proc/$pid/comm && echo $pid",
            describe=f"{name} to start",
        )
        yield started.stdout.strip()


@contextmanager
def sleepers(vm: Guest, name: str, count: int, *, own: int = 0, user: str = "alice") -> Iterator[list[str]]:
    """Run `count` processes called `name` that do nothing, with a value of their `own`; give their pids."""
    vm.run(f"install -m 755 /bin/sleep /usr/local/bin/{name}")
    start = f"sh -c 'for _ in $(seq {count}); do {name} {FOREVER_SECONDS} & done; wait'"
    settings = (f"User={user}", "TasksMax=infinity", "OOMPolicy=continue", f"OOMScoreAdjust={own}")
    with unit(vm, f"{name}s", start, *settings):
        found = vm.wait_until(f"test $(pgrep -cx {name}) = {count} && pgrep -x {name}", describe=f"{name}s")
        yield found.stdout.split()


@contextmanager
def churn(vm: Guest, name: str, *, rate: int, user: str = "alice") -> Iterator[str]:
    """Start programs called `name` that end at once, up to `rate` a second; give the unit that does."""
    # The one of initramfs-tools, where there is one: in an emulator it starts in a quarter of the time.
    vm.run(f"install -m 755 $(ls -d /usr/lib/klibc/bin/true /bin/true | tail -n 1) /usr/local/bin/{name}")
    settings = (f"User={user}", "TasksMax=infinity", "OOMPolicy=continue")
    with unit(vm, f"{name}-churn", f"{CHURN} {rate} /usr/local/bin/{name}", *settings):
        yield f"{name}-churn"


@contextmanager
def glutton(vm: Guest) -> Iterator[None]:
    """Have a user's process take every promise of memory that strict overcommit makes."""
    with unit(vm, "glutton", GLUTTON, "User=alice", "StandardOutput=truncate:/var/tmp/glutton"):
        vm.wait_until("grep -qx full /var/tmp/glutton", describe="nothing to be left")
        yield


def rewrite_values(vm: Guest, name: str, value: int = 1) -> None:
    """Give all processes of that name another value, as somebody else would."""
    vm.run(f"for p in $(pgrep -x {name}); do echo {value} >/proc/$p/oom_score_adj; done")


def wait_for_values(vm: Guest, name: str, value: int, *, count: int, timeout_seconds: float = 300.0) -> None:
    """Wait until there are `count` processes of that name and each has `value`."""
    vm.wait_for(
        lambda: vm.values(name),
        lambda found: found == {value: count},
        f"{count} times {name} with {value}",
        timeout_seconds=timeout_seconds,
    )


def fill_memory(vm: Guest) -> None:
    """Take more memory than the guest has, as an ordinary process of root's; somebody dies of it."""
    vm.run([HOG, "4000"], check=False, timeout_seconds=300)


def kills(vm: Guest, *, since: float) -> list[str]:
    """Return what the kernel said about each process it killed."""
    messages = [entry["MESSAGE"] for entry in vm.journal("_TRANSPORT=kernel", since=since)]
    return [message for message in messages if "Killed process" in message]
