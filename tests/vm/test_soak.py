"""Twenty minutes of everything at once: `-m soak`, with `--soak-minutes` and `--soak-seed`.

Programs start all the time while the policy is edited, broken and deleted, values are rewritten, caches
dropped, journald restarted, the daemon held up, and a user attacks. In the first half it is also killed and
frozen; the second half one daemon has to live through, and must not have grown by its end.
tests/daemon/test_soak.py does the like on the host, faster.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import pytest

from attacking import ATTACKS, attacker
from soak import Soak

from .service import POLICY, UNIT, Service
from .workload import churn, hog, rewrite_values, sleepers, wait_for_values

Say = Callable[[str], None]

SWAPPINESS = "/proc/sys/vm/swappiness"
RATE = 200
"""Programs a second that are asked for; an emulated machine starts fewer, and says how many."""

MARKED, PRECIOUS, STRANGERS = 50, 20, 50
"""How many processes stay: those of two rules, and those of none."""

PROTECTION = -600
"""The value of the precious; that of the marked changes."""

WARM_UP_SECONDS = 300
"""The heap grows by some KiB at each of the first 50 faults or so. On a host, 120 s have as many.

A short soak warms up for a quarter of it."""

SAMPLE_SECONDS = 60
GROWTH = 1.05
"""What resident memory may become of itself between the first and the last sample of one daemon."""

SPARE_DESCRIPTORS = 3
"""Those that are open for a moment: a process, its file, the reader of the policy."""


def policy(value: int, swappiness: int) -> str:
    """Return a policy whose values differ from those of others."""
    return (
        "resync_interval: 20\n"
        f"vm: {{swappiness: {swappiness}}}\n"
        "rules:\n"
        f"  - {{name: vm-precious, user: alice, oom_score_adj: {PROTECTION}}}\n"
        f"  - {{name: [vm-marked, vm-brief, vm-burst], oom_score_adj: {value}}}\n"
    )


# What happens


class Trouble:
    """The faults of one soak. Each leaves nothing behind that the daemon cannot mend."""

    def __init__(self, service: Service, chance: random.Random, say: Say) -> None:
        self.service = service
        self.vm = service.vm
        self.chance = chance
        self.say = say

    def reload(self) -> None:
        """Ask for the policy to be read."""
        self.service.reload()

    def edit(self) -> int:
        """Write another valid policy; return its value for the marked."""
        value = self.chance.randrange(100, 1000)
        self.service.write_policy(policy(value, self.chance.randrange(10, 90)))
        return value

    def break_the_policy(self) -> None:
        """Write one that is not valid, and then one that is."""
        self.service.write_policy(
            self.chance.choice(["rules: [", "on: off\n", "\0", "vm: {swappiness: -1}\n"])
        )
        self.vm.run("sleep 2")
        self.edit()

    def delete_the_policy(self) -> None:
        """Remove it, write another, and wait for it: a value written before that would be somebody's own."""
        self.vm.run(["rm", "-f", POLICY])
        self.vm.run("sleep 2")
        value = self.edit()
        wait_for_values(self.vm, "vm-marked", value, count=MARKED)
        wait_for_values(self.vm, "vm-precious", PROTECTION, count=PRECIOUS)

    def rewrite_processes(self) -> None:
        """Give kept processes other values, as somebody else would."""
        rewrite_values(self.vm, self.chance.choice(["vm-marked", "vm-precious"]), self.chance.randrange(99))

    def rewrite_sysctls(self) -> None:
        """Give a kept sysctl another value."""
        self.vm.run(f"sysctl -q vm.swappiness={self.chance.randrange(90, 100)}")

    def drop_caches(self) -> None:
        """Have the kernel drop what it can, dentries of /proc included."""
        self.vm.run("echo 3 >/proc/sys/vm/drop_caches")

    def restart_journald(self) -> None:
        """Restart where entries go."""
        self.vm.run("systemctl restart systemd-journald")

    def start_many_at_once(self) -> None:
        """Start 200 processes that a rule names, and end them once they are watched."""
        with sleepers(self.vm, "vm-burst", 200):
            self.vm.run("sleep 5")

    def take_memory(self) -> None:
        """Start a process that takes some of the memory, and end it."""
        with hog(self.vm, "vm-hog", mib=self.chance.randrange(100, 400)):
            self.vm.run("sleep 2")

    def attack(self) -> None:
        """Have a user keep the daemon busy, under a name that a rule matches."""
        self.attack_by(self.chance.choice(sorted(ATTACKS)))

    def attack_by(self, how: str) -> None:
        """Do one of the attacks, for some seconds."""
        self.say(f"        {how}, for 20 s")
        code = attacker(how, "vm-brief")
        done = self.vm.run(["timeout", "20", "/usr/bin/python3", "-c", code], user="alice", check=False)
        assert done.code == 124, f"it ended by itself: {done}"

    def hold_up(self) -> None:
        """Stop the daemon for a while, so that events are lost."""
        pid = self.service.main_pid
        self.vm.run(f"kill -STOP {pid}; sleep 4; kill -CONT {pid}")

    def kill(self) -> None:
        """End the daemon with no time to say goodbye."""
        pid = self.service.main_pid
        self.vm.run(["kill", "-KILL", str(pid)])
        self.service.wait_for_restart(pid)

    def freeze(self) -> None:
        """Stop the daemon until the watchdog ends it."""
        pid = self.service.main_pid
        self.vm.run(["kill", "-STOP", str(pid)])
        self.service.wait_for_restart(pid)  # by the watchdog

    @property
    def mild(self) -> list[Callable[[], object]]:
        """Those that one daemon has to live through."""
        return [
            self.reload,
            self.edit,
            self.break_the_policy,
            self.delete_the_policy,
            self.rewrite_processes,
            self.rewrite_sysctls,
            self.drop_caches,
            self.restart_journald,
            self.start_many_at_once,
            self.take_memory,
            self.attack,
            self.hold_up,
        ]

    @property
    def all(self) -> list[Callable[[], object]]:
        """Those and the ones that end a daemon."""
        return [*self.mild, self.kill, self.freeze]


# What is measured


class Memory(NamedTuple):
    """What of a daemon is in memory, in KiB: its own, and what the kernel can read again from files."""

    own: int
    of_files: int

    @property
    def kib(self) -> int:
        """The sum of both, which is what the bound is for."""
        return self.own + self.of_files


def memory(service: Service) -> Memory:
    """Look at a daemon's memory only: that costs an emulated guest little."""
    lines = service.vm.get(f"/proc/{service.main_pid}/status").decode().splitlines()
    values = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return Memory(int(values["RssAnon"][0]), int(values["RssFile"][0]))


class Sample(NamedTuple):
    """A daemon at one moment."""

    pid: int
    memory: Memory
    descriptors: int
    watches: int
    forks: int
    """All that the guest has made since it booted."""


def sample(service: Service) -> Sample:
    """Look at the daemon."""
    pid = service.main_pid
    done = service.vm.run(f"ls /proc/{pid}/fd | wc -l; awk '/^processes/ {{ print $2 }}' /proc/stat")
    descriptors, forks = map(int, done.stdout.split())
    return Sample(pid, memory(service), descriptors, service.status()["watches"], forks)


def cause(fault: Callable[[], object], service: Service, say: Say) -> None:
    """Cause a fault, and say what the daemon has in memory afterwards."""
    fault()
    say(f"        {fault.__name__}: {memory(service)}")


def trouble_for(
    seconds: float, faults: list[Callable[[], object]], service: Service, chance: random.Random, say: Say
) -> Iterator[Sample]:
    """Cause faults for so long, and yield a sample now and then."""
    end = time.monotonic() + seconds
    due = 0.0
    count = 0
    while (now := time.monotonic()) < end:
        if now >= due:
            taken = sample(service)
            say(f"{end - now:5.0f} s left, {count} faults: {taken}")
            yield taken
            due = now + SAMPLE_SECONDS
        fault = chance.choice(faults)
        cause(fault, service, say)
        count += 1
        service.vm.run(f"sleep {chance.uniform(0.5, 5):.1f}")


# The soak


@pytest.mark.soak
def test_nothing_grows_and_nothing_is_wrong_at_the_end(installed: Service, soak: Soak) -> None:
    """Memory and descriptors stay; every value is as the last policy says, and then as it was before."""
    vm, say = installed.vm, soak.say
    kernel = vm.run(["uname", "-r"]).stdout.strip()
    say(f"{soak.seconds / 60:.0f} minutes, --soak-seed {soak.seed}, Linux {kernel}")
    trouble = Trouble(installed, soak.chance, say)
    before = int(vm.get(SWAPPINESS))
    half = soak.seconds / 2
    warm_up = min(WARM_UP_SECONDS, half / 2)
    installed.apply_policy(policy(100, before - 10))
    installed.wait_for_passes(2)  # after the first, the shipped rules' processes are watched
    others = installed.status()["watches"]
    with ExitStack() as residents:
        residents.enter_context(sleepers(vm, "vm-marked", MARKED, own=77))
        residents.enter_context(sleepers(vm, "vm-precious", PRECIOUS, own=5))
        residents.enter_context(sleepers(vm, "vm-stranger", STRANGERS, own=9))
        since, began = vm.now(), time.monotonic()
        with churn(vm, "vm-brief", rate=RATE // 2), churn(vm, "vm-other", rate=RATE // 2):
            for _ in trouble_for(half, trouble.all, installed, trouble.chance, say):
                pass
            say("from here on one daemon")
            for how in ATTACKS:
                trouble.attack_by(how)
            for fault in trouble.mild:  # so that the first sample knows what each costs once
                cause(fault, installed, say)
            for _ in trouble_for(warm_up, trouble.mild, installed, trouble.chance, say):
                pass
            samples = [
                *trouble_for(half - warm_up, trouble.mild, installed, trouble.chance, say),
                sample(installed),
            ]
            seconds = time.monotonic() - began
        started = [int(number) for number in re.findall(r"(\d+) programs in", churned(installed, since))]
        assert sum(started) > 0
        restarts = vm.run(["systemctl", "show", "-P", "NRestarts", UNIT]).stdout.strip()
        say(
            f"{sum(started)} programs in {seconds:.0f} s, {sum(started) / seconds:.0f}/s; {restarts} restarts"
        )

        installed.write_policy(policy(432, 21))
        installed.wait_for_value(SWAPPINESS, 21)
        wait_for_values(vm, "vm-marked", 432, count=MARKED)
        wait_for_values(vm, "vm-precious", PROTECTION, count=PRECIOUS)
        wait_for_values(vm, "vm-stranger", 9, count=STRANGERS)
        vm.wait_until("oomguard plan", describe="nothing to be left to change")
        vm.run("sleep 10")
        last = sample(installed)
        say(f"at rest: {last}; {installed.status()['outcomes']}")

        installed.write_policy("rules: []\n")
        installed.wait_for_value(SWAPPINESS, before)
        wait_for_values(vm, "vm-marked", 77, count=MARKED)
        wait_for_values(vm, "vm-precious", 5, count=PRECIOUS)
        wait_for_values(vm, "vm-stranger", 9, count=STRANGERS)

    assert {taken.pid for taken in samples} == {last.pid}, "the daemon was restarted in the second half"
    assert last.memory.kib <= samples[0].memory.kib * GROWTH
    rest = [taken.descriptors - taken.watches for taken in (*samples, last)]
    assert rest[-1] <= median(rest) + SPARE_DESCRIPTORS, rest  # some counts are of different moments
    assert last.watches <= MARKED + PRECIOUS + others + 1, "dead processes are still watched"


def churned(service: Service, since: float) -> str:
    """Return what the units that start programs said at their end."""
    entries = service.vm.journal("SYSLOG_IDENTIFIER=churn.py", since=since)
    return "\n".join(entry["MESSAGE"] for entry in entries)
