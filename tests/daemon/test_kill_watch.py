"""The kernel's log, record by record: which process died, and in which report."""

import os
import time
from itertools import repeat
from pathlib import Path

import pytest

import oom_formats as formats
from fakeproc import FakeProc
from oomguard.daemon import kills
from oomguard.daemon.ceiling import Ceiling
from oomguard.daemon.kills import KillWatch
from oomguard.daemon.loop import Loop
from oomguard.kernel.procfs import Procfs
from oomguard.oom.kill import Context, Kill

Found = list[tuple[Kill, Context | None]]


@pytest.fixture
def told(
    tmp_path: Path, proc: FakeProc, procfs: Procfs, monkeypatch: pytest.MonkeyPatch
) -> tuple[Found, KillWatch, int]:
    """Return what a watch tells, the watch, and where its log is written: a file that is read to its end."""
    log = tmp_path / "kmsg"
    log.touch()
    reader = os.open(log, os.O_RDONLY)
    writer = os.open(log, os.O_WRONLY)
    monkeypatch.setattr(kills, "inherited_kernel_log", lambda: reader)
    monkeypatch.setattr(Loop, "watch", lambda *_: None)
    monkeypatch.setattr(kills, "records", lambda _: iter(os.read(reader, 1 << 20).splitlines(keepends=True)))
    (proc.root / "vmstat").write_text("oom_kill 5\n")
    found: Found = []
    watch = KillWatch(Loop(), procfs, lambda kill, context: found.append((kill, context)))
    assert watch.open() == ""
    return found, watch, writer


def say(writer: int, text: str, *, priority: int = 4) -> None:
    """Write records as the device gives them."""
    lines = [f"{priority},{number},{number},-;{line}\n" for number, line in enumerate(text.splitlines())]
    os.write(writer, "".join(lines).encode())


def test_group_is_told_once_each(told: tuple[Found, KillWatch, int]) -> None:
    """The first victim is printed twice, and may come second then; all share the reason of the first."""
    found, watch, writer = told
    lines = formats.GROUP_5_15.splitlines()
    again = next(number for number, line in enumerate(lines) if line.startswith("Tasks in ")) + 1
    lines[again], lines[again + 1] = lines[again + 1], lines[again]
    say(writer, "\n".join(lines))
    watch.read()
    assert [kill.pid for kill, _ in found] == [900, 901]
    assert [context.oom_memcg for _, context in found if context] == ["/app.slice"] * 2
    assert found[1][1] is not None
    assert found[1][1].pid == 901


def test_kill_without_a_report_borrows_none(told: tuple[Found, KillWatch, int]) -> None:
    """What the kernel left out is not made up from the report before."""
    found, watch, writer = told
    say(writer, formats.CPUSET_5_10)
    say(writer, "Memory cgroup out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB")
    watch.read()
    assert [context and context.constraint for _, context in found] == ["cpuset", None]


def test_same_pid_in_two_reports_is_two_deaths(told: tuple[Found, KillWatch, int]) -> None:
    """Pids are given again."""
    found, watch, writer = told
    say(writer, formats.PAGES_64K + formats.PAGES_64K)
    watch.read()
    assert len(found) == 2


def test_records_of_programs_are_passed_over(told: tuple[Found, KillWatch, int]) -> None:
    """They have another facility."""
    found, watch, writer = told
    say(writer, formats.PAGES_64K, priority=12)
    watch.read()
    assert found == []


def test_reports_of_every_kernel_are_understood(told: tuple[Found, KillWatch, int]) -> None:
    """With the context where the kernel prints one."""
    found, watch, writer = told
    for kernel in formats.KERNELS:
        say(writer, "\n".join(formats.host_report(kernel)))
    watch.read()
    assert [kill.pid for kill, _ in found] == [formats.VICTIM.pid] * len(formats.KERNELS)
    assert [context is not None for _, context in found] == [kernel.context for kernel in formats.KERNELS]


def test_kills_that_the_log_lost_are_counted(told: tuple[Found, KillWatch, int], proc: FakeProc) -> None:
    """Who makes the kernel log enough overwrites what was not read yet; the counter has it all the same."""
    found, watch, writer = told
    vmstat = proc.root / "vmstat"
    assert watch.count() == 0
    vmstat.write_text("oom_kill 7\n")  # two died, of which one is logged later
    assert watch.count() == 0
    say(writer, formats.PAGES_64K)
    assert watch.count() == 1
    assert len(found) == 1
    assert watch.count() == 0
    vmstat.write_text("oom_kill 8\n")
    assert [watch.count() for _ in range(3)] == [0, 1, 0]


def group_kill(killed: int) -> str:
    """Return what the kernel says of a cgroup whose processes die together."""
    lines = formats.GROUP_5_15.splitlines()
    victim = next(line for line in lines if "Killed process 901 " in line)
    return "\n".join([*lines, *(victim.replace(" 901 ", f" {pid} ") for pid in range(1000, 1000 + killed))])


def test_a_large_group_is_not_remembered(told: tuple[Found, KillWatch, int]) -> None:
    """Until the next kill, which may be a year later, its pids would stay in locked memory."""
    found, watch, writer = told
    say(writer, group_kill(400))
    watch.read()
    assert len(found) == 402
    assert not any(isinstance(one, list | set | dict) and len(one) > 10 for one in vars(watch).values())
    say(writer, group_kill(3))
    watch.read()
    assert len(found) == 402 + 5


def test_pause_at_the_ceiling_is_not_spent_on_kills(
    told: tuple[Found, KillWatch, int], monkeypatch: pytest.MonkeyPatch, procfs: Procfs, proc: FakeProc
) -> None:
    """Timers run during a pause, and to report a kill takes long: a few each time, and none is lost."""
    found, loop = told[0], Loop()
    watch = KillWatch(loop, procfs, lambda kill, context: found.append((kill, context)))
    assert watch.open() == ""
    log = iter([b"4,1,1,-;%s\n" % line.encode() for line in group_kill(600).splitlines()])
    monkeypatch.setattr(kills, "records", lambda _: log)
    loop.ceiling = Ceiling(time.monotonic(), time.process_time() - 60)
    loop.ceiling.is_reached = True
    loop.set("kernel-log", 0.0)
    taken: list[int] = []
    for _ in range(3):
        assert not loop.turn(busy=True)  # a pause
        taken.append(len(found) - sum(taken))
        assert loop.is_set("kernel-log")
    assert all(0 < count <= 8 for count in taken)
    (proc.root / "vmstat").write_text("oom_kill 607\n")
    assert watch.count() == 0
    assert {context.oom_memcg for _, context in found if context} == {"/app.slice"}
    assert len(found) == 602
    assert watch.count() == 0


def test_what_the_log_may_still_name_is_not_counted_as_unknown(
    told: tuple[Found, KillWatch, int], monkeypatch: pytest.MonkeyPatch, proc: FakeProc
) -> None:
    """A log of which the end is far is read on later, and every process is counted once."""
    found, watch, _ = told
    (proc.root / "vmstat").write_text("oom_kill 5005\n")
    log = iter([b"4,1,1,-;%s\n" % line.encode() for line in group_kill(4998).splitlines()])
    monkeypatch.setattr(kills, "records", lambda _: log)
    assert [watch.count() for _ in range(5)] == [0] * 5
    assert len(found) == 5000


def test_log_that_is_never_read_to_its_end_is_left_for_a_while(
    told: tuple[Found, KillWatch, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four turns at once; then it waits, as if there were nothing new."""
    pauses: list[float] = []
    monkeypatch.setattr(Loop, "set_after", lambda _self, _name, seconds: pauses.append(seconds))
    monkeypatch.setattr(kills, "records", lambda _: repeat(b"4,1,1,-;usb 1-1: x\n"))
    for _ in range(8):
        told[1].read()
    assert pauses == [0.0, 0.0, 0.0, kills.GATHER_SECONDS] * 2
