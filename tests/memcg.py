"""A memory cgroup with a limit, and programs that run into it: kills by the real kernel, for tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20

_HOG = """
import ctypes, mmap, os, sys, time
name, mib, value, tasks = sys.argv[1].encode(), int(sys.argv[2]), sys.argv[3], sys.argv[4]
open("/proc/self/oom_score_adj", "w").write(value)
ctypes.CDLL(None).prctl(15, name)
open(tasks, "w").write(str(os.getpid()))
held = []
print("in", flush=True)
for _ in range(mib):
    held.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    held[-1].write(b"x" * (1 << 20))
print("full", flush=True)
time.sleep(600)
"""


class MemoryCgroup:
    """A memory cgroup of either version, with no swap."""

    def __init__(self, folder: Path, *, limit_mib: int, is_v2: bool) -> None:
        self.folder = folder
        self.tasks = folder / "cgroup.procs"
        folder.mkdir()
        limit = str(limit_mib * MIB)
        if is_v2:
            (folder / "memory.max").write_text(limit)
        else:
            (folder / "memory.limit_in_bytes").write_text(limit)
        for swap, text in (("memory.swap.max", "0"), ("memory.swappiness", "0")):
            with suppress(OSError):
                (folder / swap).write_text(text)

    @contextmanager
    def hog(self, name: str, mib: int, *, value: int = 0) -> "Iterator[subprocess.Popen[bytes]]":
        """Run a program of that name here that takes so much memory; it may not live to have it all."""
        command = [sys.executable, "-c", _HOG, name, str(mib), str(value), str(self.tasks)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"in\n"
                process.stdout.readline()  # it is full, or it is dead
                yield process
            finally:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)


def missing() -> str:
    """Return why there can be no limited memory cgroup here, "" if there can."""
    if os.geteuid() != 0:
        return "only root may make a memory cgroup"
    return "" if _parent() is not None else "no memory cgroup can be made here"


@contextmanager
def memory_cgroup(name: str, *, limit_mib: int) -> Iterator[MemoryCgroup]:
    """Make a memory cgroup, and remove it when everything in it is gone."""
    found = _parent()
    assert found is not None, missing()
    parent, is_v2 = found
    cgroup = MemoryCgroup(parent / name, limit_mib=limit_mib, is_v2=is_v2)
    try:
        yield cgroup
    finally:
        cgroup.folder.rmdir()


def _parent() -> tuple[Path, bool] | None:
    v1 = Path("/sys/fs/cgroup/memory")
    if (v1 / "memory.limit_in_bytes").exists() and os.access(v1, os.W_OK):
        return v1, False
    v2 = Path("/sys/fs/cgroup")
    controllers = v2 / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text().split() and os.access(v2, os.W_OK):
        return v2, True
    return None
