"""What a preview may read in place of the daemon."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from oomguard.kernel.process_rights import see_as
from oomguard.kernel.procfs import Procfs

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes root and setpriv"
)
_WITHOUT_PTRACE = "--bounding-set=-sys_ptrace"


@contextmanager
def _sleeping(*options: str) -> Iterator[int]:
    """Run a process with these options of setpriv."""
    with subprocess.Popen(["setpriv", *options, "sh", "-c", "echo; exec sleep 60"], stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()  # setpriv has become another program
        yield child.pid
        child.kill()


@pytest.mark.parametrize("daemon", [(), (_WITHOUT_PTRACE,)])
def test_executables_are_seen_as_the_daemon_sees_them(daemon: tuple[str, ...]) -> None:
    """Without CAP_SYS_PTRACE, those of its own user, unless they have capabilities that it lacks.

    It is told whether this process, root or not, sees as many.
    """
    others = [("--reuid=65534", "--clear-groups"), ("--inh-caps=-all",), (_WITHOUT_PTRACE,)]
    with ExitStack() as stack, closing(Procfs()) as procfs:
        processes = [stack.enter_context(_sleeping(*options)) for options in others]
        pid = stack.enter_context(_sleeping(*daemon))
        assert see_as(procfs, pid)
        os.seteuid(65534)
        try:
            assert see_as(procfs, pid) is bool(daemon)
        finally:
            os.seteuid(0)
        handles = [handle for pid in processes if (handle := procfs.open(pid)) is not None]
        for handle in handles:
            stack.enter_context(handle)
        assert [handle.exe is not None for handle in handles] == [not daemon, not daemon, True]
