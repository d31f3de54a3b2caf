"""Processes that scenarios look at: each in a unit of its own, under the name the scenario wants."""

from collections.abc import Iterator
from contextlib import contextmanager

from .guest import Guest

HOG = "/media/oomguard/vm/hog.py"
CHURN = "/media/oomguard/vm/churn.py"
GLUTTON = "/media/oomguard/vm/glutton.py"
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


@contextmanager
def sleepers(vm: Guest, name: str, count: int, *, own: int = 0, user: str = "alice") -> Iterator[list[str]]:
    """Run `count` processes called `name` that do nothing, with a value of their `own`; give their pids."""
    vm.run(f"install -m 755 /bin/sleep /usr/local/bin/{name}")
    start = f"for _ in $(seq {count}); do {name} {FOREVER_SECONDS} & done; wait"
    vm.run(
        f"systemd-run --quiet --unit={name}s --slice=scenario.slice -p User={user} -p TasksMax=infinity "
        f"-p OOMPolicy=continue -p OOMScoreAdjust={own} sh -c '{start}'"
    )
    try:
        found = vm.wait_until(f"test $(pgrep -cx {name}) = {count} && pgrep -x {name}", describe=f"{name}s")
        yield found.stdout.split()
    finally:
        if vm.is_alive:
            vm.run(f"systemctl stop {name}s; systemctl reset-failed {name}s", check=False)


@contextmanager
def churn(vm: Guest, name: str, *, rate: int, user: str = "alice") -> Iterator[str]:
    """Start programs called `name` that end at once, up to `rate` a second; give the unit that does."""
    # The one of initramfs-tools, where there is one: in an emulator it starts in a quarter of the time.
    vm.run(f"install -m 755 $(ls -d /usr/lib/klibc/bin/true /bin/true | tail -n 1) /usr/local/bin/{name}")
    unit = f"{name}-churn"
    vm.run(
        f"systemd-run --quiet --unit={unit} --slice=scenario.slice -p User={user} -p TasksMax=infinity "
        f"-p OOMPolicy=continue {CHURN} {rate} /usr/local/bin/{name}"
    )
    try:
        yield unit
    finally:
        if vm.is_alive:
            vm.run(f"systemctl stop {unit}; systemctl reset-failed {unit}", check=False)


@contextmanager
def glutton(vm: Guest) -> Iterator[None]:
    """Have a user's process take every promise of memory that strict overcommit makes."""
    vm.run(
        "systemd-run --quiet --unit=glutton --slice=scenario.slice -p User=alice "
        f"-p StandardOutput=truncate:/var/tmp/glutton {GLUTTON}"
    )
    try:
        vm.wait_until("grep -qx full /var/tmp/glutton", describe="nothing to be left")
        yield
    finally:
        if vm.is_alive:
            vm.run("systemctl stop glutton; systemctl reset-failed glutton", check=False)


def rewrite_values(vm: Guest, name: str, value: int = 1) -> None:
    """Give all processes of that name another value, as somebody else would."""
    vm.run(f"for p in $(pgrep -x {name}); do echo {value} >/proc/$p/oom_score_adj; done")


def wait_for_values(vm: Guest, name: str, value: int, *, count: int, timeout_seconds: float = 180.0) -> None:
    """Wait until there are `count` processes of that name and each has `value`."""
    read = f"pgrep -x {name} | sed 's|.*|/proc/&/oom_score_adj|' | xargs cat"
    vm.wait_until(
        f"found=$({read} | sort -n | uniq -c | xargs); echo $found; test \"$found\" = '{count} {value}'",
        timeout_seconds=timeout_seconds,
        describe=f"{count} times {name} with {value}",
    )


def fill_memory(vm: Guest) -> None:
    """Take more memory than the guest has, as an ordinary process of root's; somebody dies of it."""
    vm.run([HOG, "4000"], check=False, timeout_seconds=300)


def kills(vm: Guest, *, since: float) -> list[str]:
    """Return what the kernel said about each process it killed."""
    messages = [entry["MESSAGE"] for entry in vm.journal("_TRANSPORT=kernel", since=since)]
    return [message for message in messages if "Killed process" in message]
