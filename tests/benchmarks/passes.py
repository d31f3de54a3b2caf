"""Run by the interpreter that has oomguard: `passes.py POLICY STATE_DIR ROUNDS`.

Does full passes as the daemon does, in this process, and prints as JSON how long they took.
"""

import json
import sys
import time

from oomguard.daemon.policy_child import read_policy
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import open_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state import open_state_folder


def main() -> None:
    """Time the first pass, which writes, and those after it."""
    policy_path, state_dir, rounds = sys.argv[1:]
    folder = open_state_folder(state_dir)
    assert folder is not None
    procfs = Procfs()
    ledger = open_ledger(folder, boot_id=procfs.boot_id(), is_alive=procfs.is_alive)
    reconciler = Reconciler(read_policy(policy_path, now=time.monotonic()), ledger, procfs)
    passes, written = [], 0
    for _ in range(int(rounds)):
        start = time.perf_counter_ns()
        pids = procfs.pids()
        reconciler.planner.forget_all_but(set(pids))
        now = time.monotonic()
        for pid in pids:
            written += reconciler.process(pid, "resync", now) is not None
        passes.append(time.perf_counter_ns() - start)
    result = {"passes": passes, "processes": len(pids), "written": written}
    try:
        import psutil  # type: ignore[import-untyped]  # may not be there at all
    except ImportError:
        pass
    else:
        start = time.perf_counter_ns()
        for process in psutil.process_iter():
            try:
                process.name()
            except psutil.NoSuchProcess:
                continue
        result["psutil"] = time.perf_counter_ns() - start
    print(json.dumps(result))


main()
