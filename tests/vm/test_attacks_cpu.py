"""Processes that change all the time: the daemon is bounded, others get their values, and so do they."""

import pytest

from attacking import ATTACKS
from oomguard.daemon.ceiling import LIMIT_PERCENT

from .guest import Guest
from .service import Service
from .workload import hog, unit, wait_for_values

POLICY = """\
resync_interval: 5
rules:
- {name: vm-busy, oom_score_adj: 400}
- {name: vm-prompt, oom_score_adj: 300}
"""

PROCESSES = "/sys/fs/cgroup/scenario.slice/vm-busy.service/cgroup.procs"
BURST_SECONDS = 15
"""Of at most 10 s above the limit; on a busy host, an emulated daemon uses them later."""


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (ATTACKS["rename"], 1),
        (ATTACKS["open"], 1),
        (ATTACKS["rewrite"], 1),
        (f"{ATTACKS['rewrite']}; time.sleep(0.1)", 100),
    ],
    ids=["rename", "open", "rewrite", "rewrite-by-a-hundred"],
)
def test_who_changes_all_the_time_takes_no_cpu_from_others(installed: Service, code: str, count: int) -> None:
    """At real-time priority, as the unit has it: below the ceiling once the burst is over."""
    vm = installed.vm
    wait = "while not os.path.exists('/run/vm-busy-go'): time.sleep(0.2)"
    fork = f"for _ in range({count - 1}):\n if not os.fork(): break"
    vm.put(
        "/usr/local/bin/vm-busy", f"#!/usr/bin/python3\nimport os, time\n{fork}\n{wait}\n{code}\n", mode=0o755
    )
    vm.run("rm -f /run/vm-busy-go")
    installed.write_policy(POLICY)
    installed.restart()  # or an emulated one pays for what came before, for a minute and more
    with unit(vm, "vm-busy", "vm-busy", "User=alice"):
        wait_for_values(vm, "vm-busy", 400, count=count)
        vm.run(f"touch /run/vm-busy-go; sleep {BURST_SECONDS}")
        shares: list[float] = []
        while len(shares) < 3 and (not shares or shares[-1] >= LIMIT_PERCENT):
            start, before = vm.now(), installed.cpu_ticks()
            vm.run("sleep 20")
            shares.append((installed.cpu_ticks() - before) / (vm.now() - start))
        assert shares[-1] < LIMIT_PERCENT, shares
        with hog(vm, "vm-prompt") as prompt:
            installed.wait_for_value(f"/proc/{prompt}/oom_score_adj", 300)
        vm.run("systemctl kill --signal=STOP vm-busy")
        vm.wait_for(lambda: values(vm), lambda found: found == [400] * count, "the rule's value")


def values(vm: Guest) -> list[int]:
    """Return the values of the processes in the unit, whatever they call themselves."""
    return [int(vm.get(f"/proc/{pid}/oom_score_adj")) for pid in vm.get(PROCESSES).decode().split()]
