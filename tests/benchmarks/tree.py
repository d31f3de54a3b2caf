"""Run by the interpreter that has oomguard: `tree.py POLICY PROC ROUNDS`.

Decides on the processes of a tree of files, as the daemon does, and prints as JSON the processor time in ns:
of each pass, of each exec after them, and of reading the policy.
"""

import json
import os
import resource
import sys
import time

from oomguard.daemon.policy_child import DEADLINE_SECONDS, PolicyChild
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.policy_cache import Copy
from oomguard.reconcile.reconciler import Reconciler

EXECS = 300


def main() -> None:
    """Read the policy, do passes, and then look at single processes as if each had just run a program."""
    policy_path, proc, rounds = sys.argv[1:]
    child = PolicyChild(policy_path, None, deadline=time.monotonic() + DEADLINE_SECONDS, copy=Copy(""))
    os.set_blocking(child.fd, True)
    child.receive()
    policy = child.finish()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    reconciler = Reconciler(policy, Ledger(), Procfs(proc))
    passes, execs = [], []
    for _ in range(int(rounds)):
        start = time.process_time_ns()
        for _ in reconciler.everything("resync", 0.0):
            pass
        passes.append(time.process_time_ns() - start)
    pids = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())[-EXECS:]
    for _ in range(int(rounds)):
        start = time.process_time_ns()
        for pid in pids:
            if not reconciler.needs_nothing(pid):
                reconciler.process(pid, "exec", 0.0)
        execs.append((time.process_time_ns() - start) / len(pids))
    read = (used.ru_utime + used.ru_stime) * 1e9
    print(json.dumps({"passes": passes, "execs": execs, "read": read, "peak_kib": used.ru_maxrss}))


main()
