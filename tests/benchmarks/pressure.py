"""From exec to the value written among 10,000 processes, with and without a lack of memory.

The lack is real, but small: two programs in a cgroup of 32 MiB write files of 256 MiB again and again, so
they wait for memory half of the time, and the daemon looks each second.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Target, middle
from benchmarks.host import FIFO, PREFIX, VALUE, cpu_ns
from benchmarks.latency import PROBE, Latencies, over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.host import Host

PROCESSES, ROUNDS = 10_000, 3
EXECS, RATE = 1000, 50
LIMIT_MIB, FILE_MIB, WRITERS = 32, 256, 2
WRITER = f"""\
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
while True:
    for at in range({FILE_MIB}):
        os.pwrite(fd, bytes(1 << 20), at << 20)
"""
V1 = Path("/sys/fs/cgroup/memory")
BASE, LIMIT = (V1, "memory.limit_in_bytes") if V1.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")


def figures(host: "Host") -> "Iterator[Figure]":
    """Measure without and with it, in turn."""
    policy = host.policy(100, names=[PROBE])
    calm: list[Latencies] = []
    short: list[Latencies] = []
    shares = []
    with host.sleepers(PROCESSES), host.daemon(policy, scheduling=FIFO) as daemon:
        time.sleep(5)
        for _ in range(ROUNDS):
            calm.append(_measure(host))
            with _lack_of_memory():
                time.sleep(3)  # until the trigger has fired
                before, start = cpu_ns(daemon.pid), time.monotonic()
                time.sleep(20)
                shares.append((cpu_ns(daemon.pid) - before) / 1e7 / (time.monotonic() - start))
                short.append(_measure(host))
            time.sleep(15)  # until the episode has ended
        episodes = daemon.status()["pressure"]["episodes"]
    among = f"among {PROCESSES:,} processes"
    for name, rounds in ((among, calm), (f"{among}, memory short", short)):
        wall, ran = [each.wall for each in rounds], [each.ran for each in rounds]
        yield Figure(f"{name}, exec → value: median", over(wall, 50), "µs")
        yield Figure(f"{name}: p99 of the time it ran", over(ran, 99), "µs", None, Target(100, 300))
    yield Figure(
        f"{among}, memory short: CPU", middle(shares), "%", None, Target(1), note=f"{episodes} episodes"
    )


def _measure(host: "Host") -> Latencies:
    command = host.tool("execer", EXECS, RATE, 1, host.named("probe", PROBE), VALUE, 100_000)
    return Latencies.read(
        subprocess.run(
            command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ).stdout
    )


@contextmanager
def _lack_of_memory() -> "Iterator[None]":
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-", dir=BASE))
    (folder / LIMIT).write_text(f"{LIMIT_MIB << 20}")
    enter = f'echo $$ >{folder}/cgroup.procs; exec "$@"'
    with ExitStack() as stack:
        for _ in range(WRITERS):
            file = stack.enter_context(tempfile.NamedTemporaryFile(dir="/var/tmp"))
            command = ["sh", "-c", enter, "sh", sys.executable, "-c", WRITER, file.name]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield
    folder.rmdir()
