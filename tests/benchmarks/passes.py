"""Run by the interpreter that has oomguard: `passes.py POLICY STATE_DIR ROUNDS SCAN...`.

Does full passes as the daemon does, in this process, in turn with the C scan, and prints as JSON
the processor time that they took, in ns.
"""

import json
import os
import sys
import time

from oomguard.daemon.policy_child import DEADLINE_SECONDS, PolicyChild
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import open_ledger
from oomguard.reconcile.policy_cache import Copy
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import open_state_folder


def main() -> None:
    """Time the first pass, which writes, and those after it."""
    policy_path, state_dir, rounds, *scan = sys.argv[1:]
    folder = open_state_folder(state_dir)
    assert folder is not None
    procfs = Procfs()
    ledger = open_ledger(folder, boot_id=procfs.boot_id(), is_alive=procfs.is_alive)
    child = PolicyChild(policy_path, None, deadline=time.monotonic() + DEADLINE_SECONDS, copy=Copy(""))
    os.set_blocking(child.fd, True)
    child.receive()
    reconciler = Reconciler(child.finish(), ledger, procfs)
    passes, floors, others = [], [], []
    for _ in range(int(rounds)):
        start = time.process_time_ns()
        pids = procfs.pids()
        reconciler.managed.keep_only(set(pids))
        now = time.monotonic()
        for pid in pids:
            reconciler.process(pid, "resync", now, in_pass=True)
        passes.append(time.process_time_ns() - start)
        with os.popen(" ".join(scan)) as output:
            floors.append(int(output.read().split()[0]))
        others.append(_psutil())
    print(json.dumps({"processes": len(pids), "passes": passes, "floors": floors, "psutil": others}))


def _psutil() -> int:
    """Return how long psutil takes for the names alone, or 0 if it is not there."""
    try:
        import psutil  # type: ignore[import-untyped]  # may not be there at all
    except ImportError:
        return 0
    start = time.process_time_ns()
    for pid in psutil.pids():
        try:
            psutil.Process(pid).name()
        except psutil.NoSuchProcess:
            continue
    return time.process_time_ns() - start


main()
