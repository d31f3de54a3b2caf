"""Processes as /proc shows them: handles that outlive them."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeproc import HOSTILE_NAMES, FakeProc, stat_line
from oomguard.core.process import Identity, Process, UnknownFactError
from oomguard.kernel.capability import CAP_SYS_RESOURCE
from oomguard.kernel.cgroup_folders import CgroupFolders
from oomguard.kernel.proc_files import PF_EXITING, parse_arguments, read_whole
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.slow_reads import SlowReads, patient_reads

USER = 4242
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture
def real() -> Iterator[Procfs]:
    """Open the kernel's /proc, and wait for answers for as long as this machine is busy."""
    procfs = Procfs(slow_reads=patient_reads())
    yield procfs
    procfs.close()


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that only waits, and end it."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


# A tree made for tests


@pytest.mark.parametrize("comm", HOSTILE_NAMES, ids=repr)
def test_a_process_is_read_whatever_its_name(proc: FakeProc, procfs: Procfs, comm: bytes) -> None:
    """Every fact of it, through the handle."""
    process = Process(
        Identity(12, 345),
        comm,
        parent_pid=3,
        arguments=(b"/bin/" + comm.replace(b"\0", b""), b"-x") if comm else (),
        uid=1000,
        cgroup="/system.slice/a.scope",
        exe="/bin/a",
        in_pid_namespace=True,
        in_container=True,
        in_user_namespace=False,
        oom_score_adj=-5,
    )
    proc.process(process)
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        assert handle.snapshot() == process


def test_a_process_that_is_not_there_is_none(procfs: Procfs) -> None:
    """It is no error: processes end at any time."""
    assert procfs.open(999_999_999) is None
    assert not procfs.is_alive(Identity(999_999_999, 1))


@pytest.mark.parametrize(("threads", "is_alive"), [(1, False), (2, True)])
def test_a_zombie_is_not_alive_unless_threads_are(
    proc: FakeProc, procfs: Procfs, threads: int, is_alive: bool
) -> None:
    """The state is that of the main thread, which can end before the others."""
    process = Process(Identity(12, 1), b"x")
    proc.process(process, state="Z", threads=threads)
    assert procfs.is_alive(process.identity) is is_alive


def test_a_tree_without_a_boot_id_has_none(proc: FakeProc, procfs: Procfs) -> None:
    """It is told by the empty text, which no boot has."""
    assert procfs.boot_id() == "fake-boot"
    (proc.root / "sys/kernel/random/boot_id").unlink()
    assert procfs.boot_id() == ""


# The kernel


def test_the_own_process_is_as_the_system_calls_say(real: Procfs) -> None:
    """Pid, parent, uid, name, arguments and executable agree with what os knows."""
    handle = real.open(os.getpid())
    assert handle is not None
    with handle:
        found = handle.snapshot()
    assert found.identity.pid == os.getpid()
    assert found.parent_pid == os.getppid()
    assert found.uid == os.geteuid()
    assert found.comm == Path("/proc/self/comm").read_bytes()[:-1]
    raw = Path("/proc/self/cmdline").read_bytes()[:4096]
    assert found.arguments == tuple(raw.removesuffix(b"\0").split(b"\0"))
    assert found.exe == os.path.realpath(sys.executable)
    assert not found.in_user_namespace
    assert found.oom_score_adj == int(Path("/proc/self/oom_score_adj").read_text())
    assert os.getpid() in real.pids()
    assert real.is_alive(found.identity)
    assert not real.is_alive(found.identity._replace(start_time_ticks=found.identity.start_time_ticks - 1))


def test_the_start_time_is_in_ticks_since_boot(real: Procfs, child: "subprocess.Popen[bytes]") -> None:
    """It is between then and now on the clock that counts suspended time, too."""
    handle = real.open(child.pid)
    assert handle is not None
    with handle:
        started = handle.identity.start_time_ticks / os.sysconf("SC_CLK_TCK")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert now - 10 < started <= now + 0.02


def test_the_own_process_is_known_on_a_host_that_is_too_busy_to_read_others(
    real: Procfs, procfs: Procfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon asks for it as it starts; in a container, stat is read in a thread."""
    own = real.identity(os.getpid())

    def busy(*_: object) -> None:
        raise UnknownFactError("this host is too busy to read it", is_transient=True)

    monkeypatch.setattr("oomguard.kernel.procfs._is_hosts", lambda _: False)
    monkeypatch.setattr(real.pinning_reads, "call", busy)
    with pytest.raises(UnknownFactError):
        real.identity(os.getpid())
    assert real.own_identity() == own
    assert procfs.own_identity() == Identity(os.getpid(), 0), "no process of this tree"


def test_the_kernel_itself_has_a_boot_id(real: Procfs) -> None:
    """It is a UUID with nothing around it."""
    assert len(real.boot_id()) == 36
    assert real.boot_id() == real.boot_id().strip()


def test_kernel_threads_are_recognised(real: Procfs) -> None:
    """Pid 2 is kthreadd on a host; in a container there is none to see."""
    handle = real.open(2)
    if handle is None:
        pytest.skip("no pid 2 here")
    with handle:
        if handle.comm != b"kthreadd":
            pytest.skip("pid 2 is not the kernel's here")
        assert handle.stat.is_kernel_thread
        assert handle.arguments == ()
        assert handle.exe is None
    own = real.open(os.getpid())
    assert own is not None
    with own:
        assert not own.stat.is_kernel_thread


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if b"\0" not in name], ids=repr)
def test_a_real_process_may_call_itself_anything(real: Procfs, name: bytes) -> None:
    """It writes its name into its own comm; the kernel shows it as it stands."""
    code = (
        "import signal, sys; open('/proc/self/comm', 'wb', 0).write(sys.stdin.buffer.read());"
        "print(flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(name or b"\0")
            process.stdin.close()
            process.stdout.readline()
            handle = real.open(process.pid)
            assert handle is not None
            with handle:
                assert handle.comm == name
                assert handle.stat.parent_pid == os.getpid()
                assert handle.stat.state in "RS"
                assert handle.uid == os.geteuid()
        finally:
            process.kill()


def test_a_value_is_written_through_the_handle(real: Procfs, child: "subprocess.Popen[bytes]") -> None:
    """Raising and going back to the start takes no capability."""
    handle = real.open(child.pid)
    assert handle is not None
    with handle:
        before = handle.read_oom_score_adj()
        handle.write_oom_score_adj(777)
        assert handle.read_oom_score_adj() == 777
        assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) == 777
        handle.write_oom_score_adj(before)
        assert handle.read_oom_score_adj() == before


@pytest.mark.parametrize("value", [1001, -1001, 2**31, 10**30])
def test_a_value_out_of_range_is_refused_by_the_kernel(
    real: Procfs, child: "subprocess.Popen[bytes]", value: int
) -> None:
    """At the write, and the value stays."""
    handle = real.open(child.pid)
    assert handle is not None
    with handle:
        before = handle.read_oom_score_adj()
        with pytest.raises(OSError, match=r"Invalid argument|Numerical result"):
            handle.write_oom_score_adj(value)
        assert handle.read_oom_score_adj() == before


ACCESSES: dict[str, Callable[[ProcessHandle], object]] = {
    "comm": lambda handle: handle.comm,
    "stat": lambda handle: handle.stat,
    "identity": lambda handle: handle.identity,
    "arguments": lambda handle: handle.arguments,
    "uid": lambda handle: handle.uid,
    "cgroup": lambda handle: handle.cgroup,
    "in_container": lambda handle: handle.in_container,
    "in_user_namespace": lambda handle: handle.in_user_namespace,
    "read": lambda handle: handle.read_oom_score_adj(),
    "write": lambda handle: handle.write_oom_score_adj(500),
}


def assert_gone(handle: ProcessHandle) -> None:
    """Every read and write says that the process is gone."""
    for name, access in ACCESSES.items():
        with pytest.raises((ProcessLookupError, FileNotFoundError)):
            pytest.fail(f"{name} gave {access(handle)!r}")


def test_a_handle_of_a_process_that_ended_says_so(real: Procfs, child: "subprocess.Popen[bytes]") -> None:
    """On every read and every write."""
    handle = real.open(child.pid)
    assert handle is not None
    child.kill()
    child.wait()
    with handle:
        assert_gone(handle)


HIDING = """
mount -t proc -o hidepid=1,gid=12345 proc "$1" || exit 77
exec setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace "$2" -c "$3" "$1"
"""
BECOMES_ANOTHERS = """
import os, sys, time
from oomguard.kernel.procfs import Procfs
procfs = Procfs(sys.argv[1])
ready, go = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.read(go[0], 1)
    os.setuid(12345)
    os.write(ready[1], b"x")
    time.sleep(60)
before = procfs.identity(child)
class Opened(Procfs):
    def open(self, pid):
        handle = super().open(pid)
        os.write(go[1], b"x")
        os.read(ready[0], 1)
        return handle
after = Opened(sys.argv[1]).identity(child)
os.kill(child, 9)
print(before is not None, after)
"""


def test_a_process_that_is_hidden_as_it_is_read_is_none_to_be_seen(tmp_path: Path) -> None:
    """With hidepid=1 it was root's when it was opened, and became another user's before its next file was."""
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("takes root and setpriv")
    command = ["unshare", "-m", "sh", "-c", HIDING, "sh", str(tmp_path), sys.executable, BECOMES_ANOTHERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("cannot mount proc here")
    assert done.stdout == "True None\n", done.stderr


def test_a_pid_that_is_used_again_never_answers_for_the_first(
    real: Procfs, child: "subprocess.Popen[bytes]"
) -> None:
    """The handle stays that of the process that ended, and the new one keeps its value."""
    if not os.access(LAST_PID, os.W_OK):
        pytest.skip("cannot choose the next pid here")
    handle = real.open(child.pid)
    assert handle is not None
    with handle:
        started = handle.identity
        handle = real.open(child.pid)  # one that has read nothing yet
    assert handle is not None
    child.kill()
    child.wait()
    with handle:
        for _ in range(200):
            try:
                LAST_PID.write_text(str(child.pid - 1))
            except PermissionError:
                pytest.skip("cannot choose the next pid here")
            with subprocess.Popen(["/bin/sleep", "60"]) as second:
                try:
                    if second.pid != child.pid:
                        continue  # somebody else was faster
                    before = Path(f"/proc/{second.pid}/oom_score_adj").read_text()
                    assert_gone(handle)
                    assert Path(f"/proc/{second.pid}/oom_score_adj").read_text() == before
                    return
                finally:
                    second.send_signal(signal.SIGKILL)
        pytest.skip(f"pid {started.pid} never came again")


def test_a_uid_map_of_a_process_that_just_ended_is_gone(
    proc: FakeProc, procfs: Procfs, child: "subprocess.Popen[bytes]"
) -> None:
    """The kernel says EINVAL if it ends while the file is opened; a link to the file holds that moment."""
    proc.process(Process(Identity(12, 1), b"x"))
    held = os.open(f"/proc/{child.pid}/uid_map", os.O_PATH)
    try:
        os.symlink(f"/proc/self/fd/{held}", proc.root / "12" / "uid_map")
        handle = procfs.open(12)
        assert handle is not None
        with handle:
            assert handle.in_user_namespace  # the tree has no map of its own, so any is another
            child.kill()
            child.wait()
            with pytest.raises(OSError, match="Invalid argument"):
                os.close(os.open(f"/proc/self/fd/{held}", os.O_RDONLY))
            with pytest.raises(ProcessLookupError):
                pytest.fail(f"{handle.in_user_namespace}")
    finally:
        os.close(held)


def test_ended_threads_hide_the_living_one_only_from_who_gives_up(proc: FakeProc, procfs: Procfs) -> None:
    """A tracer can keep them; the process then cannot be read, and is nothing that ended.

    The living one is in the middle: file systems list from either end.
    """
    process = Process(Identity(12, 1), b"x", cgroup="/a.slice", arguments=(b"whole",))
    for living in (5, 500):
        proc.process(process._replace(arguments=()), state="Z", threads=living)
        for tid in range(20, 20 + living):
            thread = proc.root / "12" / "task" / str(tid)
            thread.mkdir(parents=True, exist_ok=True)
            (thread / "stat").write_bytes(stat_line(b"x", state="S" if tid == 20 + living // 2 else "Z"))
            (thread / "cmdline").write_bytes(b"whole\0")
        handle = procfs.open(12)
        assert handle is not None
        with handle:
            assert not handle.stat.is_zombie
            if living == 5:
                assert handle.arguments == process.arguments
                continue
            with pytest.raises(UnknownFactError, match="find a running one"):
                pytest.fail(f"{handle.arguments}")
            assert handle.cgroup == process.cgroup
    (proc.root / "12" / "cgroup").write_text("1:name=systemd:/\n")
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        assert handle.cgroup != "/", "cgroup v1 shows the root's, to which only root can move a process"


def test_a_main_thread_that_is_kept_from_ending_hides_no_other(proc: FakeProc, procfs: Procfs) -> None:
    """Its user serves a file that it closes, and does not answer: it is no zombie, but has nothing more."""
    proc.process(Process(Identity(12, 1), b"x"), threads=2)
    folder = proc.root / "12"
    (folder / "stat").write_bytes(stat_line(b"x", flags=PF_EXITING, threads=2))
    (folder / "cgroup").write_text("1:name=systemd:/\n")
    other = folder / "task" / "13"
    other.mkdir(parents=True)
    (other / "stat").write_bytes(stat_line(b"x", threads=2))
    (other / "cmdline").write_bytes(b"whole\0")
    (other / "cgroup").write_text("1:name=systemd:/a.slice\n")
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        assert (handle.arguments, handle.cgroup) == ((b"whole",), "/a.slice")


def test_a_cgroup_too_deep_to_be_printed_is_below_its_users_manager(
    proc: FakeProc, procfs: Procfs, tmp_path: Path
) -> None:
    """Or below that of somebody who is not known: only who owns a cgroup makes one that deep."""
    user = os.geteuid()
    proc.process(Process(Identity(12, 1), b"x", uid=user))
    (proc.root / "12" / "cgroup").unlink()
    (proc.root / "12" / "cgroup").symlink_to("x" * 300)  # ENAMETOOLONG, as the kernel says
    manager = f"/user.slice/user-{user}.slice/user@{user}.service"
    for known, path in ((False, "/user.slice/unknown/too-deep"), (True, f"{manager}/too-deep")):
        if known:
            (tmp_path / manager[1:]).mkdir(parents=True)
        procfs.cgroups = CgroupFolders(str(tmp_path))
        handle = procfs.open(12)
        assert handle is not None
        with handle:
            assert handle.cgroup == path
            assert handle.budget_key == (f"user-{user}.slice" if known else "untrusted users")
            assert known or handle.cgroup_is_roots is None


def test_a_dynamic_uid_is_one_that_systemd_keeps_a_file_of(proc: FakeProc, procfs: Procfs) -> None:
    """By its number, for as long as the service runs."""
    proc.process(Process(Identity(12, 1), b"x", uid=61500, has_dynamic_uid=True))
    proc.process(Process(Identity(13, 1), b"x", uid=61501))
    for pid, is_dynamic in ((12, True), (13, False)):
        handle = procfs.open(pid)
        assert handle is not None
        with handle:
            assert handle.has_dynamic_uid is is_dynamic


def test_many_groups_hide_nothing(real: Procfs) -> None:
    """65,536 groups make a status of half a megabyte, in front of the line that shows PID namespaces."""
    if os.geteuid() != 0:
        pytest.skip("setting groups takes CAP_SETGID")
    code = "import os, signal; os.setgroups(range(100000, 165536)); print(flush=True); signal.pause()"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-S", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                pytest.skip("no PID namespace can be made here")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            inner = real.open(int(children[0]))
            assert inner is not None
            with inner:
                assert inner.status.namespace_depth == 2
                assert inner.uid == 0
        finally:
            process.kill()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4096))
def test_a_title_cut_anywhere_is_still_read(length: int) -> None:
    """A command line is read up to a limit, wherever that cuts it."""
    raw = (b"/usr/bin/program\0--option\0" * 200)[:length]
    found = parse_arguments(raw)
    assert b"\0".join(found) == raw.rstrip(b"\0")


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a process of another user")
@pytest.mark.parametrize("file", ["stat", "status"])
def test_a_users_process_that_ends_while_it_is_read_keeps_nobody_waiting(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has the reader free its memory, which its FUSE server can delay forever (`slow_reads`)."""
    ended = threading.Event()

    def read(directory: int, path: str) -> bytes:
        if path == file and os.fstat(directory).st_uid != 0:
            assert threading.current_thread() is not threading.main_thread()
            ended.wait(20)
        return read_whole(directory, path)

    monkeypatch.setattr("oomguard.kernel.procfs.read_whole", read)
    procfs = Procfs()
    with ExitStack() as started:
        users, roots = [
            started.enter_context(subprocess.Popen(["/bin/sleep", "60"], user=uid)) for uid in (USER, 0)
        ]
        for process in (users, roots):
            started.callback(process.kill)
        handle = procfs.open(users.pid)
        assert handle is not None
        with handle:
            for _ in range(2):
                with pytest.raises(UnknownFactError):
                    _ = handle.uid if file == "status" else handle.identity
            assert handle.likely_uid == USER
            assert procfs.is_alive(Identity(users.pid, 1)), "nobody may forget what it had"
        assert (own := procfs.identity(roots.pid)) is not None
        assert procfs.is_alive(own)
        ended.set()
    procfs.close()


def test_who_has_many_groups_pays_for_the_time_it_takes_to_read_them(real: Procfs) -> None:
    """Any number of processes takes some nine reads of 20 ms; others, root's above all, are read as ever."""
    real.slow_reads = SlowReads()
    if os.geteuid() != 0:
        pytest.skip("setting groups takes CAP_SETGID")
    code = (
        "import os, signal; os.setgroups(range(100000, 165536)); os.setuid({uid}); print(flush=True);"
        " signal.pause()"
    )
    with ExitStack() as started:
        handles = {}
        for uid in (USER, 0):
            process = started.enter_context(
                subprocess.Popen([sys.executable, "-c", code.format(uid=uid)], stdout=subprocess.PIPE)
            )
            started.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline()
            handle = real.open(process.pid)
            assert handle is not None
            handles[uid] = started.enter_context(handle)
        read = 0
        with pytest.raises(UnknownFactError, match="too much CPU time"):
            while read < 50:
                handles[USER].forget_status()
                assert handles[USER].uid == USER
                read += 1
        assert 1 <= read < 12
        assert handles[USER].spender() == (handles[USER].budget_key, False)
        for _ in range(20):
            handles[0].forget_status()
            assert handles[0].uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="the tree has to be root's")
@pytest.mark.parametrize(
    ("cgroup", "pays"),
    [
        ("/system.slice/docker-1.scope", True),
        ("/docker/1", True),
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope", True),
        ("/", False),
        ("/init.scope", False),
        ("/system.slice/ssh.service", False),
        ("/user.slice/user-1000.slice/session-1.scope", False),
    ],
)
def test_root_of_a_container_pays_and_root_of_the_host_does_not(
    proc: FakeProc, procfs: Procfs, cgroup: str, pays: bool
) -> None:
    """The owner of both is root, and only the long file itself would tell their PID namespaces apart."""
    procfs.slow_reads = SlowReads()
    proc.process(Process(Identity(12, 1), b"x", cgroup=cgroup))
    with (proc.root / "12/status").open("a") as status:
        status.write("Groups:\t" + "100000 " * 65_536 + "\n")
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        read = 0
        with suppress(UnknownFactError):
            while read < 100:
                handle.forget_status()
                assert handle.uid == 0
                read += 1
    assert (read < 12) is pays


def test_a_long_status_in_a_cgroup_too_deep_to_be_printed_is_read(
    proc: FakeProc, procfs: Procfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kernels have an error for such a path (others cut it); its user pays for the long file."""
    procfs.slow_reads = SlowReads()
    proc.process(Process(Identity(12, 1), b"x", uid=1000))
    with (proc.root / "12/status").open("a") as status:
        status.write("Groups:\t" + "100000 " * 65_536 + "\n")

    def read(fd: int, path: str) -> bytes:
        if path.endswith("cgroup"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return read_whole(fd, path)

    monkeypatch.setattr("oomguard.kernel.procfs.read_whole", read)
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        assert (handle.uid, handle.cgroup) == (1000, "/user.slice/unknown/too-deep")
        assert handle.budget_key == "untrusted users"
        assert not handle.in_container


class Crowded(Procfs):
    """A host on which a user has mounted so much that its mounts are not read in time."""

    def own_mounts(self) -> Iterator[bytes]:
        """Take as long as 4 MiB of them do, when this is not to open /proc."""
        if hasattr(self, "slow_reads") and hasattr(self, "cgroups"):
            time.sleep(3)
        return super().own_mounts()


def test_mounts_without_end_keep_nobody_waiting(child: "subprocess.Popen[bytes]") -> None:
    """Whose program it is then counts as unknown."""
    procfs = Crowded(slow_reads=SlowReads(deadline_seconds=0.01))
    handle = procfs.open(child.pid)
    assert handle is not None
    with handle:
        assert handle.exe
        begun = time.monotonic()
        with pytest.raises(UnknownFactError):
            assert handle.program
        assert time.monotonic() - begun < 2.5
    procfs.close()


SHARING = """
import ctypes, signal
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
print(libc.clone(libc.pause, top, 0x100 | signal.SIGCHLD, None), flush=True)  # CLONE_VM
signal.pause()
"""


def test_processes_that_share_their_memory_share_their_value(real: Procfs) -> None:
    """The kernel writes it to all of them (fs/proc/base.c:__set_oom_adj), and nothing tells which."""
    with subprocess.Popen([sys.executable, "-c", SHARING], stdout=subprocess.PIPE) as process:
        child = 0
        try:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            one, other = real.open(process.pid), real.open(child)
            assert one is not None
            assert other is not None
            with one, other:
                other.write_oom_score_adj(300)
                assert one.read_oom_score_adj() == 300
                one.write_oom_score_adj(200)
                assert other.read_oom_score_adj() == 200
        finally:
            process.kill()
            if child > 0:
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("is_own", [False, True])
def test_root_of_a_user_namespace_is_not_the_hosts(proc: FakeProc, procfs: Procfs, *, is_own: bool) -> None:
    """It has all capabilities there, and may not lower itself here; and it pays for what it costs."""
    proc.process(Process(Identity(12, 1), b"x", uid=0, in_user_namespace=is_own))
    status = proc.root / "12/status"
    effective = f"CapEff:\t{1 << CAP_SYS_RESOURCE:016x}"
    status.write_text(re.sub(r"CapEff:\t\w+", effective, status.read_text()))
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        assert handle.may_lower_itself is not is_own
        assert handle.spender().is_root is not is_own


@pytest.mark.parametrize(
    ("cgroup", "is_hosts"),
    [
        ("/", True),
        ("/system.slice/a.service", True),
        ("/user.slice/user-0.slice/session-1.scope", True),
        ("/system.slice/docker-1.scope", False),
        ("/kubepods.slice/pod1.slice/cri-containerd-a", False),
    ],
)
def test_root_of_a_container_is_read_in_a_thread(
    proc: FakeProc, procfs: Procfs, monkeypatch: pytest.MonkeyPatch, cgroup: str, *, is_hosts: bool
) -> None:
    """With /dev/fuse it can keep its readers waiting as users can; no thread is taken for the host's root."""
    readers: dict[str, bool] = {}

    def read(directory: int, path: str) -> bytes:
        readers[path] = threading.current_thread() is threading.main_thread()
        return read_whole(directory, path)

    monkeypatch.setattr("oomguard.kernel.procfs.read_whole", read)
    proc.process(Process(Identity(12, 1), b"x", cgroup=cgroup))
    handle = procfs.open(12)
    assert handle is not None
    with handle:
        _ = handle.identity, handle.uid
    assert readers == {"cgroup": True, "stat": is_hosts, "status": is_hosts}


def test_users_cannot_keep_services_from_being_read(proc: FakeProc, procfs: Procfs) -> None:
    """Some of the threads are left to them."""
    for pid, cgroup, is_service in (
        (12, "/system.slice/postgresql.service", True),
        (13, "/user.slice/user-26.slice/session-1.scope", False),
        (14, "/system.slice/docker-1.scope", False),
    ):
        proc.process(Process(Identity(pid, 1), b"x", uid=26, cgroup=cgroup))
        os.chown(proc.root / str(pid), 26, 26)
        handle = procfs.open(pid)
        assert handle is not None
        with handle:
            assert handle._owner().is_root is is_service
