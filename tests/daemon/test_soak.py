"""Twenty minutes of everything at once, on this host: `-m soak`, with `--soak-minutes` and `--soak-seed`.

200 programs start each second while the policy is edited, broken and deleted, values are rewritten, one
program attacks, and the daemon is held up. In the first half it is also killed; the second half one daemon
has to live through, and it must not have grown by its end. tests/vm/test_soak.py does the like to a whole
system, more slowly.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from attacking import ATTACKS, attacker
from running import Daemon, Program, descriptors, oom_score_adj, running, wait_until, write_oom_score_adj
from soak import Soak

RATE = 200
RESIDENTS = 50
BURST = 200
OWN = 77
WARM_UP_SECONDS = 60
LONGEST_ATTACK_SECONDS = 20.0
SAMPLE_SECONDS = 60
PATIENCE_SECONDS = 120.0
"""For values to be right at the end: long, since machines are busy."""

GROWTH = 1.05
SPARE_DESCRIPTORS = 3
"""Those that are open for a moment: a process, its file, the reader of the policy."""

NAMES = {kind: f"og-{kind}-{os.getpid() % 10000}" for kind in ("kept", "brief", "burst", "other")}


def policy(value: int) -> str:
    """Return a policy that gives `value` to all but the others."""
    names = ", ".join(NAMES[kind] for kind in ("kept", "brief", "burst"))
    return f"resync_interval: 10\nrules:\n  - name: [{names}]\n    oom_score_adj: {value}\n"


class Churn(threading.Thread):
    """Starts programs, `RATE` a second or as many as the machine can, and counts them."""

    def __init__(self, programs: list[Path]) -> None:
        super().__init__(daemon=True)
        self.started = 0
        self.stopped = threading.Event()
        self._programs = programs

    def run(self) -> None:
        """Start what is due, collect what has ended."""
        running: list[int] = []
        start = time.monotonic()
        while not self.stopped.wait(0.01):
            due = int((time.monotonic() - start) * RATE) - self.started
            for _ in range(min(due, RATE // 10)):  # those that ended hold pids, however busy this host is
                path = self._programs[self.started % len(self._programs)]
                running.append(os.posix_spawn(path, [str(path)], {}))
                self.started += 1
            running = [pid for pid in running if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        for pid in running:
            os.waitpid(pid, 0)


@contextmanager
def churn(programs: list[Path]) -> Iterator[Churn]:
    """Start programs for the block."""
    made = Churn(programs)
    made.start()
    try:
        yield made
    finally:
        made.stopped.set()
        made.join()


class Sample(NamedTuple):
    """A daemon at one moment."""

    pid: int
    resident_kib: int
    descriptors: int
    watches: int
    losses: int


def sample(daemon: Daemon) -> Sample:
    """Look at the daemon."""
    pid = daemon.process.pid
    resident = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]
    status = json.loads((daemon.state / "status.json").read_text())
    return Sample(pid, int(resident), descriptors(pid), status["watches"], status["losses"])


class Trouble:
    """The faults. Each leaves nothing behind that the daemon cannot mend."""

    def __init__(self, daemon: Daemon, kept: list[int], burst: Program, chance: random.Random) -> None:
        self.daemon, self.kept, self.burst, self.chance = daemon, kept, burst, chance

    def reload(self) -> None:
        """Ask for the policy to be read."""
        self.daemon.process.send_signal(signal.SIGHUP)

    def edit(self) -> None:
        """Write another valid policy."""
        self.daemon.policy.write_text(policy(self.chance.randrange(100, 1000)))

    def break_the_policy(self) -> None:
        """Write one that is not valid, and then one that is."""
        self.daemon.policy.write_text(self.chance.choice(["rules: [", "on: off\n", "rules: 1\n"]))
        time.sleep(1)
        self.edit()

    def delete_the_policy(self) -> None:
        """Remove it, and write another."""
        self.daemon.policy.unlink()
        time.sleep(1)
        self.edit()

    def rewrite(self) -> None:
        """Give kept processes other values, as somebody else would."""
        for pid in self.chance.sample(self.kept, 10):
            write_oom_score_adj(pid, self.chance.randrange(OWN, 99))

    def start_many_at_once(self) -> None:
        """Start processes that a rule names, and end them once they are watched."""
        for _ in range(BURST):
            self.burst.start()
        time.sleep(5)
        self.burst.end()

    def hold_up(self) -> None:
        """Stop the daemon for a while."""
        self.daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.1, 5))
        self.daemon.process.send_signal(signal.SIGCONT)

    def attack(self) -> None:
        """Have a process keep the daemon busy, under a name that a rule matches."""
        self.attack_by(self.chance.choice(sorted(ATTACKS)))

    def attack_by(self, how: str, seconds: float = 0.0) -> None:
        """Do one of the attacks, for so long, or for a while."""
        command = [sys.executable, "-c", attacker(how, NAMES["burst"])]
        with subprocess.Popen(command) as process:
            time.sleep(seconds or self.chance.uniform(5, LONGEST_ATTACK_SECONDS))
            assert process.poll() is None, how
            process.kill()

    def kill(self) -> None:
        """End the daemon with no time to say goodbye, and start it again."""
        self.daemon.stop(signal.SIGKILL)
        self.edit()  # it starts with a valid one only
        (self.daemon.state / "status.json").unlink()
        self.daemon.start()

    @property
    def mild(self) -> list[Callable[[], None]]:
        """Those that one daemon has to live through."""
        return [
            self.reload,
            self.edit,
            self.break_the_policy,
            self.delete_the_policy,
            self.rewrite,
            self.start_many_at_once,
            self.attack,
            self.hold_up,
        ]

    def go_on(self, faults: list[Callable[[], None]], *, seconds: float, soak: Soak) -> list[Sample]:
        """Cause some of these faults for so long; return samples, the first and the last included."""
        end, due, count = time.monotonic() + seconds, 0.0, 0
        samples = []
        while (now := time.monotonic()) < end:
            if now >= due:
                samples.append(sample(self.daemon))
                soak.say(f"{end - now:5.0f} s left, {count} faults: {samples[-1]}")
                due = now + SAMPLE_SECONDS
            self.chance.choice(faults)()
            count += 1
            time.sleep(self.chance.uniform(0.2, 3))
        return [*samples, sample(self.daemon)]


@pytest.mark.soak
def test_nothing_grows_and_nothing_is_wrong_at_the_end(tmp_path: Path, soak: Soak) -> None:
    """Memory and descriptors stay; every value is as the last policy says, and then as it was before."""
    kept, others = Program(tmp_path, NAMES["kept"]), Program(tmp_path, NAMES["other"])
    # Made before anything starts: a file that is still being written cannot be run.
    burst, brief = Program(tmp_path, NAMES["burst"]), Program(tmp_path, NAMES["brief"], "/bin/true")
    half = soak.seconds / 2
    soak.say(f"{soak.seconds / 60:.0f} minutes, --soak-seed {soak.seed}, Linux {os.uname().release}")
    try:
        pids = [kept.start(str(2 * soak.seconds + 600)) for _ in range(RESIDENTS)]
        strangers = [others.start(str(2 * soak.seconds + 600)) for _ in range(RESIDENTS)]
        for pid in (*pids, *strangers):
            write_oom_score_adj(pid, OWN)
        with running(tmp_path, policy(300)) as daemon:
            trouble = Trouble(daemon, pids, burst, soak.chance)
            with churn([brief.path, Path("/bin/true")]) as churned:
                began = time.monotonic()
                trouble.go_on([*trouble.mild, trouble.kill], seconds=half, soak=soak)
                soak.say("from here on one daemon")
                trouble.start_many_at_once()  # so that the first sample knows what many cost
                for how in ATTACKS:
                    trouble.attack_by(how, LONGEST_ATTACK_SECONDS)
                trouble.go_on(trouble.mild, seconds=WARM_UP_SECONDS, soak=soak)
                samples = trouble.go_on(trouble.mild, seconds=half - WARM_UP_SECONDS, soak=soak)
                seconds = time.monotonic() - began
            assert churned.started > 0
            soak.say(f"{churned.started} programs, {churned.started / seconds:.0f}/s")

            daemon.policy.write_text(policy(432))
            wait_until(lambda: values(pids) == {432}, "432", seconds=PATIENCE_SECONDS)
            assert values(strangers) == {OWN}
            time.sleep(12)  # a pass, and the second until its status is written
            last = sample(daemon)
            soak.say(f"at rest: {last}")
            command = [sys.executable, "-m", "oomguard", "plan", "--policy", str(daemon.policy)]
            planned = subprocess.run(
                [*command, "--state-dir", str(daemon.state)], check=False, capture_output=True
            )
            assert planned.returncode == 0, planned.stdout
            daemon.policy.write_text("rules: []\n")
            wait_until(lambda: values(pids) == {OWN}, "their own", seconds=PATIENCE_SECONDS)
            assert values(strangers) == {OWN}
    finally:
        for program in (kept, others, burst):
            program.end()
    assert {taken.pid for taken in samples} == {last.pid}
    assert last.resident_kib <= samples[0].resident_kib * GROWTH
    # Only of samples taken at rest: the number of watches may be a second older than that of descriptors.
    first, besides = (taken.descriptors - taken.watches for taken in (samples[0], last))
    assert besides <= first + SPARE_DESCRIPTORS
    assert last.watches <= RESIDENTS, "dead processes are still watched"


def values(pids: list[int]) -> set[int]:
    """Return the values that these processes have."""
    return {oom_score_adj(pid) for pid in pids}
