"""Pids used again and again while they are decided on: run in a PID namespace of its own, by unshare(1).

    recycling.py DECISIONS SAFE|NAIVE

Two processes fork all the time, and have the kernel use the same few pids for it. What the one forks is
called as the rule says; what the other forks looks, as it ends, whether it was given a value: that would have
been meant for somebody else. Prints decisions, writes, forks and wrong writes. NAIVE writes by path, a moment
after it decided: what happens then shows that the others would have noticed; it ends with the first.
"""

import os
import random
import sys
import time
from pathlib import Path

from oomguard.core.policy import Policy
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

MARKED, OTHER = b"oomg-marked", b"oomg-other"
FIRST_PID, PIDS = 300, 6
VALUE = 500

_WRONG, _RIGHT = b"w", b"r"


def fork_for_ever(name: bytes, report: int) -> None:
    """Be called `name`, and fork children that live for about a millisecond and report how they fared."""
    Path("/proc/self/comm").write_bytes(name)
    chance = random.Random(name)
    last_pid = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY)
    while True:
        os.pwrite(last_pid, b"%d" % (FIRST_PID + chance.randrange(PIDS)), 0)
        child = os.fork()
        if child == 0:
            time.sleep(chance.random() * 0.002)
            value = int(Path("/proc/self/oom_score_adj").read_bytes())
            os.write(report, _WRONG if name == OTHER and value != 0 else _RIGHT)
            os._exit(0)
        os.waitpid(child, 0)


def start(name: bytes, report: int) -> None:
    """Start one that forks for ever; it ends with the namespace."""
    if os.fork() == 0:
        fork_for_ever(name, report)


def main() -> int:
    """Decide on every pid there may be until it was done often enough."""
    decisions, is_naive = int(sys.argv[1]), sys.argv[2] == "NAIVE"
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.set_blocking(writer, True)
    start(MARKED, writer)
    start(OTHER, writer)
    rule = Rule(0, (MARKED,), Terms(Value("exact", VALUE)), "p.yaml", 1)
    procfs = Procfs()
    reconciler = Reconciler(Policy(rules=(rule,)), Ledger(), procfs)
    made = writes = forks = wrong = 0
    while made < decisions and not (is_naive and wrong):
        for pid in range(FIRST_PID, FIRST_PID + PIDS + 2):
            made += 1
            if is_naive:
                writes += write_naively(reconciler, procfs, pid)
            else:
                outcome = reconciler.process(pid, "exec", 0.0)
                writes += outcome is not None and outcome.result == "applied"
        try:
            reports = os.read(reader, 65536)
        except BlockingIOError:
            continue
        forks += len(reports)
        wrong += reports.count(_WRONG)
    print(f"decisions {made} writes {writes} forks {forks} wrong {wrong}")
    return 0


def write_naively(reconciler: Reconciler, procfs: Procfs, pid: int) -> bool:
    """Decide on a process, then write to whoever has its pid by now."""
    handle = procfs.open(pid)
    if handle is None:
        return False
    with handle:
        change = reconciler.next_change(handle, "exec")
    if change is None or change.rule is None:
        return False
    time.sleep(0.001)
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(f"{change.after}\n")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
