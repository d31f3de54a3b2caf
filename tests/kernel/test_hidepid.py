"""Who sees all processes of a host, by the options that its /proc is mounted with."""

import subprocess
import sys
import tracemalloc
from io import BytesIO

import pytest

from fakeproc import FakeProc
from oomguard.kernel.hidepid import observe_privileged_group, parse_privileged_group
from oomguard.kernel.procfs import Procfs

ROOT = b"28 1 259:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
OTHER = b"99 28 0:21 / /srv/jail/proc rw,relatime - proc proc rw,hidepid=invisible\n"


def mounted(options: bytes, kind: bytes = b"proc") -> bytes:
    """Return a mountinfo with a /proc that has these options."""
    return ROOT + b"22 28 0:21 / /proc rw,nosuid shared:5 - " + kind + b" proc " + options + b"\n" + OTHER


@pytest.mark.parametrize(
    ("mountinfo", "group"),
    [
        (mounted(b"rw"), None),
        (mounted(b"rw,hidepid=0"), None),
        (mounted(b"rw,hidepid=off,gid=5"), None),
        (mounted(b"rw,hidepid=1"), 0),
        (mounted(b"rw,hidepid=2"), 0),
        (mounted(b"rw,gid=26,hidepid=invisible"), 26),
        (mounted(b"rw,hidepid=ptraceable,subset=pid"), 0),
        (mounted(b"rw,hidepid=2") + mounted(b"rw"), None),
        (mounted(b"rw") + mounted(b"rw,hidepid=2,gid=7"), 7),
        (mounted(b"rw,hidepid=2", b"tmpfs"), None),
        (ROOT, None),
        (b"", None),
    ],
)
def test_the_last_proc_that_is_mounted_there_counts(mountinfo: bytes, group: int | None) -> None:
    """In the old words and in those of Linux 5.8; no other mount of proc."""
    assert parse_privileged_group(BytesIO(mountinfo)) == group


def test_where_the_first_process_is_hidden_so_are_others(proc: FakeProc, procfs: Procfs) -> None:
    """Then only root's group is trusted with names, or the one for which our own /proc hides them."""
    assert observe_privileged_group(procfs) == 0
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_bytes(mounted(b"rw,hidepid=2,gid=8"))
    assert observe_privileged_group(procfs) == 8
    (proc.root / "self" / "mountinfo").unlink()
    (proc.root / "1").mkdir()
    assert observe_privileged_group(procfs) == 0
    (proc.root / "1" / "mountinfo").write_bytes(mounted(b"rw,hidepid=2,gid=9"))
    assert observe_privileged_group(procfs) == 9


def test_a_user_who_mounts_much_takes_no_memory(proc: FakeProc, procfs: Procfs) -> None:
    """1,000 file systems at paths of 4 KiB; the kernel escapes each space."""
    line = b"31 25 0:27 / /home/user/" + rb"\040" * 4000 + b" rw shared:5 - fuse x rw\n"
    (proc.root / "1").mkdir()
    (proc.root / "1" / "mountinfo").write_bytes(mounted(b"rw,hidepid=2,gid=9") + line * 1000)
    tracemalloc.start()
    try:
        assert observe_privileged_group(procfs) == 9
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


LOOK = """
from oomguard.kernel.hidepid import observe_privileged_group
from oomguard.kernel.procfs import Procfs
procfs = Procfs()
expected = open("/proc/1/mountinfo", "rb").readlines()
found = [[*procfs.own_mounts()], [*procfs.init_mounts()]]
print(observe_privileged_group(procfs), *(lines == expected for lines in found))
"""


BLIND = """
import os
from oomguard.kernel.hidepid import observe_privileged_group
from oomguard.kernel.procfs import Procfs
print(observe_privileged_group(Procfs()), Procfs().init_mounts())
"""


def test_a_group_that_hides_the_first_process_is_found() -> None:
    """Root without CAP_SYS_PTRACE, as in the unit: gid= takes from its group what hidepid= leaves it."""
    script = 'mount -t proc -o hidepid=2,gid=26 proc /proc && exec setpriv --bounding-set=-sys_ptrace "$@"'
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", f"({script}); exit $?"]
    done = subprocess.run(
        [*command, "sh", sys.executable, "-c", BLIND], capture_output=True, text=True, check=False
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.stdout == "26 None\n", done.stderr


def test_a_real_mount_is_found_behind_many_others() -> None:
    """In namespaces of its own, where a shell is the first process; the kernel tells mounts by and by."""
    script = """
set -e
for number in $(seq 240); do mount -t tmpfs -o size=4k none /mnt; done
mount -t proc -o hidepid=2,gid=26 proc /proc
test $(wc -c </proc/1/mountinfo) -gt 9000
"$@"
"""
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", sys.executable, "-c", LOOK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.stdout == "26 True True\n", done.stderr
