"""What any user may do to the events that the daemon lives on: the attacks that take a guest.

Since Linux 6.6 the kernel stores a request to the proc connector before it validates it, so that pairs of an
invalid one and IGNORE take its count of listeners down until it sends events to nobody.
"""

import re

import pytest

from oomguard.daemon.ceiling import CAPACITY_SECONDS, LIMIT_PERCENT

from .guest import Guest
from .service import STATUS, Service
from .workload import unit

DEAFEN = """\
import socket, struct, sys, time
pairs, seconds = int(sys.argv[1]), float(sys.argv[2])
connector = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
requests = [struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, what) for what in (77, 2)]
end = time.monotonic() + seconds
while True:
    for _ in range(pairs):
        for request in requests:
            connector.send(request)
    if time.monotonic() >= end:
        break
"""

# Starts a program and prints after how many milliseconds it has the value, or the one that it has after 20 s.
LATENCY = """\
import subprocess, sys, time
wanted, program = sys.argv[1], sys.argv[2]
begin = time.monotonic()
with subprocess.Popen([program, "60"]) as process:
    while (value := open(f"/proc/{process.pid}/oom_score_adj").read().strip()) != wanted:
        if time.monotonic() - begin > 20:
            sys.exit(f"it still has {value}")
        time.sleep(0.001)
    print(round(1000 * (time.monotonic() - begin)))
    process.kill()
"""
BRIEF = "/usr/local/bin/vm-brief"
EARLIER_STARTS = 40
"""At most: each start of a daemon in this guest has raised the count, and 50 pairs may not be enough."""

POLICY = "resync_interval: 3600\nrules: [{name: vm-brief, oom_score_adj: 400}]\n"
"""Between passes only events, or polling, can explain that a program gets its value."""


def is_vulnerable(vm: Guest) -> bool:
    """Tell whether the guest's kernel has the defect."""
    major, minor = re.findall(r"\d+", vm.run(["uname", "-r"]).stdout)[:2]
    return (int(major), int(minor)) >= (6, 6)


@pytest.fixture
def attacked(installed: Service) -> Service:
    """Return a service that was just restarted, in a guest with what the attack needs."""
    return prepared(installed)


def prepared(service: Service) -> Service:
    """Copy what the attack needs into the guest, and restart the service."""
    vm = service.vm
    vm.put("/usr/local/bin/deafen.py", DEAFEN)
    vm.put("/usr/local/bin/latency.py", LATENCY)
    vm.run(f"install -m 755 /bin/sleep {BRIEF}")
    service.write_policy(POLICY)
    service.restart()
    latency(vm)
    return service


def latency(vm: Guest) -> int:
    """Return how many milliseconds a program waits for its value."""
    return int(vm.run(["python3", "/usr/local/bin/latency.py", "400", BRIEF]).stdout)


@pytest.mark.parametrize("pairs", [50, 3_000])
def test_who_silences_the_kernel_delays_values_by_a_second(attacked: Service, pairs: int) -> None:
    """It is noticed at once and reported; a while later events are relied on again."""
    vm = attacked.vm
    since = vm.now()
    before = attacked.status()["losses"]
    for _ in range(1 + is_vulnerable(vm) * EARLIER_STARTS * 50 // pairs):
        vm.run(["python3", "/usr/local/bin/deafen.py", str(pairs), "0"], user="alice")
        if attacked.events("events-stopped", since=since):
            break
    first = latency(vm)
    if is_vulnerable(vm):
        attacked.wait_for_event("events-stopped", since=since)
        attacked.wait_for_event("events-resumed", since=since)
        assert attacked.status()["losses"] > before
    vm.wait_until(f"grep -q '\"events\": true' {STATUS}", describe="events in the status")
    vm.wait_until(f"grep -q '\"throttled\": false' {STATUS}", describe="no pauses")  # polling took its CPU
    assert not [limit for limit in attacked.status()["limits"] if "process events" in limit]
    waits = sorted(latency(vm) for _ in range(5))
    print(f"after {pairs} pairs: {first} ms, later {waits} ms")
    assert first < 5_000
    assert waits[2] < 500, "half of them did not get it by an event"
    assert len(attacked.events("events-stopped", since=since)) == is_vulnerable(vm)


def test_what_was_forked_meanwhile_keeps_no_protection(attacked: Service) -> None:
    """A protected process's child that runs another program has its own value back soon."""
    vm = attacked.vm
    attacked.write_policy(
        "resync_interval: 3600\nrules: [{name: vm-guard, user: root, oom_score_adj: -900}]\n"
    )
    vm.put(
        "/usr/local/bin/vm-guard",
        "#!/bin/sh\nuntil [ -e /run/go ]; do sleep 0.2; done\nsleep 1000\n",
        mode=0o755,
    )
    vm.run("rm -f /run/go")
    since = vm.now()
    with unit(vm, "vm-guard", "vm-guard"):
        guard = vm.run("systemctl show -P MainPID vm-guard").stdout.strip()
        attacked.wait_for_value(f"/proc/{guard}/oom_score_adj", -900)
        vm.run(["python3", "/usr/local/bin/deafen.py", "3000", "0"], user="alice")  # root may anywhere
        vm.run("touch /run/go")
        child = vm.wait_until(
            f"pgrep -x -P {guard} -a sleep | grep 1000", describe="its child"
        ).stdout.split()[0]
        attacked.wait_for_value(f"/proc/{child}/oom_score_adj", 0)
        if is_vulnerable(vm):
            attacked.wait_for_event("events-stopped", since=since)  # or a fork event may have reset it


def test_who_goes_on_silencing_it_costs_little(fresh_vm: Guest) -> None:
    """For 20 s, as fast as it goes: values still arrive, and neither processor nor journal fills up.

    The kernel's count is then so low that events stay away for long, so the guest is for nothing else.
    """
    vm, service = fresh_vm, Service(fresh_vm)
    service.ensure_installed()
    attacked = prepared(service)
    since = vm.now()
    with unit(vm, "vm-deafen", "python3 /usr/local/bin/deafen.py 1000 30", "User=alice"):
        vm.run("sleep 1")
        begin, begun = attacked.cpu_ticks(), vm.now()
        waits = [latency(vm) for _ in range(5) if not vm.run("sleep 4").code]
        spent, seconds = attacked.cpu_ticks() - begin, vm.now() - begun
        assert attacked.status()["events"] is not is_vulnerable(vm)
    print(f"continuous: {spent} ticks in {seconds:.0f} s, waits {waits} ms")
    # Emulated, a pass takes 25 times as long, so that polling reaches the ceiling and waits for it.
    assert max(waits) < 15_000
    assert spent < 100 * (CAPACITY_SECONDS + seconds * LIMIT_PERCENT / 100)
    entries = attacked.log(since=since)
    assert len([entry for entry in entries if "OOMGUARD_EVENT" in entry]) < 15
    assert len(attacked.events("events-stopped", "events-resumed", since=since)) <= 3
