"""The facts of a host that a policy may depend on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.host import Host
from oomguard.kernel.host_facts import observe_host
from oomguard.kernel.procfs import Procfs


def test_the_facts_are_those_of_meminfo_and_uname(proc: FakeProc, procfs: Procfs) -> None:
    """Huge pages beyond the pool come and go, so they do not count: 100 of 600."""
    proc.meminfo(HugePages_Total=600, HugePages_Surp=100, Hugetlb=600 * 2048 + 3 * 1048576, SwapTotal=5)
    host = observe_host(procfs)
    assert host._replace(is_container=None) == Host(
        memory_kib=16 * 1024 * 1024,
        swap_kib=5,
        hugetlb_kib=500 * 2048 + 3 * 1048576,
        other_hugetlb_kib=3 * 1048576,
        huge_page_kib=2048,
        hostname=os.uname().nodename,
        kernel=os.uname().release,
    )


def test_without_meminfo_the_sizes_are_not_known(procfs: Procfs) -> None:
    """As with subset=pid."""
    Path(procfs.root, "meminfo").unlink()
    host = observe_host(procfs)
    assert (host.memory_kib, host.swap_kib, host.hugetlb_kib) == (None, None, None)
    assert host.hostname


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a PID namespace")
def test_in_a_pid_namespace_of_its_own_it_is_in_a_container() -> None:
    """What Docker, LXC and systemd-nspawn have in common."""
    code = "from oomguard.kernel.host_facts import is_in_container as c; print(c())"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr)
    assert done.stdout == "True\n"
