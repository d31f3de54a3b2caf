"""Warnings before memory runs out, and what is recorded, on a tree that looks like /proc."""

import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeproc import FakeProc
from mounts import disk, fill
from oomguard.core.overcommit import Memory
from oomguard.core.policy import Policy, PressureLimit
from oomguard.core.process import Identity, Process, UnknownFactError
from oomguard.core.sample import Sample
from oomguard.daemon import foresight
from oomguard.daemon.foresight import Foresight
from oomguard.daemon.loop import Loop
from oomguard.daemon.status_writer import StatusWriter
from oomguard.kernel.floor import Privilege
from oomguard.kernel.proc_files import Stat
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.reconcile.flight_recorder import Recorder, read_samples
from oomguard.reconcile.state_folder import StateFolder, open_state_folder
from oomguard.report.reporter import Degradations, Reporter
from workers import Said

PAGES_A_MIB = 256


class Watched:
    """Foresight with a trigger that a test fires: urgent data of a socket has EPOLLPRI, as the kernel's."""

    def __init__(
        self, proc: FakeProc, procfs: Procfs, folder: StateFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.kernel = socket.create_connection(server.getsockname())
            self.trigger, _ = server.accept()
        monkeypatch.setattr(foresight, "open_trigger", lambda *_: self.trigger.detach())
        self.proc, self._folder = proc, folder
        self.said, self.loop, self.recorder = Said(), Loop(), Recorder(folder)
        reporter = Reporter(self.said)
        self.degradations = Degradations(reporter)
        status = StatusWriter(self.loop, folder, procfs, Identity(1, 2), reporter, self.degradations)
        self.it = Foresight(
            self.loop, procfs, reporter, self.degradations, status, self.recorder, rule_of=lambda _: None
        )
        self.it.adopt(Policy(), Privilege())

    @property
    def messages(self) -> list[str]:
        """What was logged."""
        return self.said.messages

    @property
    def samples(self) -> list[Sample]:
        """What was recorded."""
        return read_samples(self._folder.path) or []

    def memory(self, *, available_mib: int, swap_mib: int = 0, swap_free_mib: int = 0) -> None:
        """Have so much left of 16 GiB and of swap."""
        self.proc.meminfo(
            MemAvailable=available_mib * 1024, SwapTotal=swap_mib * 1024, SwapFree=swap_free_mib * 1024
        )

    def hold(self, pid: int, comm: bytes, mib: int) -> None:
        """Let a process have so much memory."""
        self.proc.process(Process(Identity(pid, pid * 10), comm, parent_pid=1, uid=1000, oom_score_adj=0))
        self.proc.hold(pid, rss_pages=mib * PAGES_A_MIB, score=666 + mib // 24)

    def cgroup(self, mount: Path, name: str, *, used_mib: int, stalled_percent: int = 0) -> None:
        """Have one more cgroup, with a limit of 1000 MiB and the process 200 in it; or let it change."""
        (self.proc.root / "self").mkdir(exist_ok=True)
        (self.proc.root / "self" / "mountinfo").write_text(f"31 20 0:27 / {mount} rw - cgroup2 none rw\n")
        (mount / name).mkdir(exist_ok=True)
        for file, text in (
            ("memory.max", f"{1000 << 20}\n"),
            ("memory.current", f"{used_mib << 20}\n"),
            ("memory.stat", "active_file 0\n"),
            ("memory.swap.max", "0\n"),
            ("memory.pressure", f"some avg10={stalled_percent}.00 avg60=0.00 avg300=0.00 total=9\n"),
            ("cgroup.procs", "200\n"),
        ):
            (mount / name / file).write_text(text)
        (mount / "cgroup.stat").write_text(f"nr_descendants {len(list(mount.glob('*/')))}\nnr_dying 3\n")

    def begin_stall(self) -> None:
        """Fire the trigger, and let the daemon see it."""
        self.kernel.send(b"!", socket.MSG_OOB)
        while not self.it.is_urgent:
            self.loop.turn(busy=True)

    def stall(self) -> None:
        """Fire the trigger, and let the daemon finish its look."""
        self.begin_stall()
        self.look()

    def end_pass(self, *, minutes: float = 1) -> None:
        """Look as after a pass, so long after the one before."""
        self.age(60 * minutes)
        self.it.pass_ended()
        self.look()

    def glance(self, *, seconds: float) -> None:
        """Look as when something wakes the daemon, so long after the last time."""
        self.age(seconds)
        self.it.awake(time.monotonic())
        self.look()

    def age(self, seconds: float) -> None:
        """Let so much time pass since what was seen."""
        self.it.glance_at -= seconds
        trend = self.it.trend
        trend.at, trend.read_at = trend.at - seconds, trend.read_at - seconds
        trend.latest = {cgroup: (at - seconds, left) for cgroup, (at, left) in trend.latest.items()}

    def calm_down(self) -> None:
        """Let some seconds pass in which nothing stalls, nor falls."""
        for seconds in (1, 2, 11):
            self.it.due(time.monotonic() + seconds)
            self.look()

    def look(self) -> None:
        """Finish the look that has begun."""
        while self.it.is_busy:
            self.it.work(time.monotonic() + 0.0005)


@pytest.fixture
def watched(
    proc: FakeProc, procfs: Procfs, folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watched]:
    """Return what watches a host with three processes."""
    made = Watched(proc, procfs, folder, monkeypatch)
    made.memory(available_mib=8000)
    for pid, comm, mib in ((100, b"bash", 5), (200, b"chrome", 900), (300, b"firefox", 700)):
        made.hold(pid, comm, mib)
    yield made
    made.it.close()
    made.recorder.close()
    made.kernel.close()


def test_a_pass_records_what_holds_memory(watched: Watched) -> None:
    """The first victim first, without a warning."""
    watched.it.pass_ended()
    watched.look()
    [sample] = watched.samples
    assert [one.label for one in sample.holders] == ["chrome[200]", "firefox[300]", "bash[100]"]
    assert sample.left.available_kib == 8000 * 1024
    assert watched.messages == []


def test_a_warning_says_what_is_left_who_would_go_and_what_grew(watched: Watched) -> None:
    """Once an episode, with what the recorder has of the time before."""
    watched.it.pass_ended()
    watched.look()
    watched.memory(available_mib=212, swap_mib=1000)
    (watched.proc.root / "pressure").mkdir()
    (watched.proc.root / "pressure" / "memory").write_text(
        "some avg10=38.20 avg60=1.00 avg300=0.00 total=9\n"
    )
    watched.hold(300, b"firefox", 2100)
    watched.stall()
    watched.it.due(time.monotonic() + 1)
    watched.look()
    [said] = watched.messages
    assert said.startswith(
        "memory is running out: tasks stalled 38 % of the last 10 s, 212.0 MiB available, swap full;"
        " the kernel would kill firefox[300] next (2.1 GiB, +1.4 GiB in "
    )
    assert said.endswith(", oom_score_adj 0)")
    assert len(watched.samples) == 3
    assert watched.it.status[-2:] == ("firefox[300]", 212 * 1024)


def delay_reader(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    """Let reading a process take too long from now on."""
    read_stat = ProcessHandle.read_stat

    def read(handle: ProcessHandle, folder: str = "") -> Stat:
        if handle.pid == pid:
            raise UnknownFactError("reading a process took more than 100 ms")
        return read_stat(handle, folder)

    monkeypatch.setattr(ProcessHandle, "read_stat", read)


def test_a_warning_names_who_cannot_be_read_in_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its user could see to it, or a host that thrashes: the kernel's score tells how much it has."""
    watched.it.pass_ended()
    watched.look()
    delay_reader(monkeypatch, 200)
    watched.hold(200, b"chrome", 2100)
    watched.memory(available_mib=212)
    watched.stall()
    [said] = watched.messages
    assert "the kernel would kill chrome[200] next (2.1 GiB, +1.2 GiB in " in said
    samples = watched.samples
    assert {one.start_time_ticks for sample in samples for one in sample.holders} == {1000, 2000, 3000}


def test_a_process_of_a_cgroup_that_cannot_be_read_in_time_is_the_one_that_the_host_has(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or how it grew would be that of two processes."""
    watched.cgroup(tmp_path, "pod", used_mib=990, stalled_percent=5)
    watched.it.pass_ended()
    watched.look()
    delay_reader(monkeypatch, 200)
    watched.stall()
    assert {one.cgroup for one in watched.samples} == {"", "/pod"}
    starts = {one.start_time_ticks for sample in watched.samples for one in sample.holders if one.pid == 200}
    assert starts == {2000}


def test_users_budgets_are_spent_on_the_first_victims(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on those with low pids: sleepers of the user who leaks."""
    asked: list[int] = []
    read_stat = ProcessHandle.read_stat

    def read(handle: ProcessHandle, folder: str = "") -> Stat:
        asked.append(handle.pid)
        return read_stat(handle, folder)

    monkeypatch.setattr(ProcessHandle, "read_stat", read)
    watched.it.pass_ended()
    watched.look()
    assert asked == [200, 300, 100]


def test_the_first_of_many_are_recorded_wherever_they_are(watched: Watched) -> None:
    """Not all are kept in memory while they are compared."""
    largest = range(3000, 3700, 50)
    for pid in range(3000, 3700):
        watched.hold(pid, b"worker", 900 + pid % 7 if pid in largest else 24)
    watched.it.pass_ended()
    watched.look()
    [sample] = watched.samples
    assert {one.pid for one in sample.holders} == {200, *largest}


def test_a_leak_that_grew_while_all_were_read_is_the_one_named(watched: Watched) -> None:
    """As where a look takes seconds: what it names must be what is first by its end."""
    watched.it.pass_ended()
    watched.look()
    watched.memory(available_mib=212)
    watched.begin_stall()
    for _ in range(2 * 3):  # scores, and then memory
        watched.it.work(0.0)
    watched.hold(300, b"firefox", 2100)
    watched.look()
    [said] = watched.messages
    assert "the kernel would kill firefox[300] next (2.1 GiB" in said


def test_a_look_waits_for_other_work_unless_memory_runs_out(watched: Watched) -> None:
    """A storm of new processes may be what takes the memory."""
    watched.it.pass_ended()
    assert (watched.it.is_busy, watched.it.is_urgent) == (True, False)
    watched.look()
    watched.stall()
    watched.it.due(time.monotonic() + 1)
    assert (watched.it.is_busy, watched.it.is_urgent) == (True, True)
    watched.look()
    assert not watched.it.is_urgent


def test_memory_that_stays_short_is_one_episode(watched: Watched) -> None:
    """Nothing is looked at while nothing stalls; the pass after memory is back ends it."""
    watched.memory(available_mib=100)
    watched.stall()
    watched.calm_down()
    assert not watched.it.is_busy
    watched.it.pass_ended()
    watched.look()
    assert watched.it.status.short
    assert len(watched.messages) == 1
    watched.memory(available_mib=9000)
    watched.it.pass_ended()
    watched.look()
    assert watched.messages[1].startswith("memory is no longer short")
    assert not watched.it.status.short


def test_an_episode_ends_when_tasks_no_longer_stall(watched: Watched) -> None:
    """How long it was, how little was left, and who was killed; the next one is another."""
    watched.memory(available_mib=100)
    watched.stall()
    watched.memory(available_mib=60)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    watched.it.killed(200, "chrome", "")
    assert watched.it.status.short
    watched.memory(available_mib=9000)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    watched.calm_down()
    assert watched.messages[-1] == (
        "memory is no longer short, after 1 second: the kernel killed chrome[200];"
        " at the lowest, 60.0 MiB available, no swap"
    )
    assert watched.it.status[:2] == (False, 1)
    watched.memory(available_mib=100)
    watched.stall()
    assert watched.messages[-1].startswith("memory is running out")


def test_pressure_with_memory_left_is_no_warning(watched: Watched) -> None:
    """A busy disk cache stalls tasks, too. It is recorded each second, and that is all."""
    watched.stall()
    watched.calm_down()
    assert watched.messages == []
    assert len(watched.samples) == 3
    assert watched.it.status[:2] == (False, 1)


def test_a_slow_leak_is_found_by_passes_before_anything_stalls(watched: Watched) -> None:
    """What would be gone by the next pass is looked at each second, and warned of when little is left."""
    for available in (8000, 5000, 2200):
        watched.memory(available_mib=available)
        watched.end_pass()
    assert watched.messages == []
    for available in (2000, 1700, 1500):
        watched.memory(available_mib=available)
        watched.it.due(time.monotonic() + 1)
        watched.look()
    [said] = watched.messages
    assert said.startswith(
        "memory is running out: 1.5 GiB available, no swap; the kernel would kill chrome[200] next"
    )
    watched.memory(available_mib=9000)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    watched.calm_down()
    assert watched.messages[1].startswith("memory is no longer short")


def test_a_cgroup_that_fills_up_is_found_by_passes(watched: Watched, tmp_path: Path) -> None:
    """In it, nothing stalls before the kernel kills. What stays full is no news."""
    for used in (200, 610):
        watched.cgroup(tmp_path, "pod", used_mib=used)
        watched.end_pass()
    assert watched.it.episode is not None
    for used in (700, 890, 910, 990):
        watched.cgroup(tmp_path, "pod", used_mib=used)
        watched.it.due(time.monotonic() + 1)
        watched.look()
    [said] = watched.messages
    assert said.startswith(
        "memory is running out in /pod: 90.0 MiB available, no swap;"
        " the kernel would kill chrome[200] next (900.0 MiB, "
    )
    assert not watched.it.status.short, "of the host"
    watched.it.killed(200, "chrome", "/pod")
    watched.it.killed(300, "firefox", "/other")
    watched.calm_down()
    assert watched.messages[1].startswith("memory is no longer short in /pod")
    assert ": the kernel killed chrome[200]; at the lowest" in watched.messages[1]
    for used in (999, 980, 995, 970):
        watched.cgroup(tmp_path, "pod", used_mib=used)
        watched.end_pass(minutes=20)
        watched.calm_down()
    assert len(watched.messages) == 2


def test_a_warning_of_a_cgroup_measures_its_processes_by_its_limit(watched: Watched, tmp_path: Path) -> None:
    """By the host's, which is larger, a point of `oom_score_adj` is more than what fills the cgroup."""
    others = range(1000, 1040)
    watched.proc.hold(200, rss_pages=40 * PAGES_A_MIB, score=666)
    for pid in others:
        watched.hold(pid, b"sleep", 1)
        watched.proc.set_oom_score_adj(pid, 1)
        watched.proc.hold(pid, rss_pages=PAGES_A_MIB, score=667)
    watched.cgroup(tmp_path, "pod", used_mib=990, stalled_percent=5)
    (tmp_path / "pod" / "cgroup.procs").write_text("\n".join(map(str, [200, *others])))
    watched.stall()
    [said] = watched.messages
    assert "the kernel would kill chrome[200] next" in said


def test_a_fast_leak_is_found_between_passes(watched: Watched) -> None:
    """When the watchdog wakes the daemon anyway; nothing is recorded as long as nothing falls."""
    watched.end_pass()
    for available_mib in (7900, 7000):
        watched.memory(available_mib=available_mib)
        watched.glance(seconds=15)
        assert len(watched.samples) == 1
    watched.memory(available_mib=3000)
    watched.hold(300, b"firefox", 4700)
    watched.glance(seconds=15)
    assert watched.it.episode is not None
    assert watched.messages == []
    watched.memory(available_mib=1000)
    watched.hold(300, b"firefox", 6700)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    [said] = watched.messages
    assert "the kernel would kill firefox[300] next (6.5 GiB, +5.9 GiB in " in said


@pytest.mark.parametrize("where", ["host", "cgroup"])
def test_where_looks_take_long_what_is_left_is_still_read_each_second(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    """As in a cgroup of thousands of processes: they are looked at again when it is short."""
    monkeypatch.setattr(foresight, "_CPU_SHARE", 1e-9)
    monkeypatch.setattr(foresight, "_FULL_SHARE", 1e-9)
    for used, available in ((200, 9000), (700, 3000)):
        watched.cgroup(tmp_path, "pod", used_mib=used if where == "cgroup" else 0)
        watched.memory(available_mib=available if where == "host" else 9000)
        watched.end_pass()
    watched.it.due(time.monotonic() + 1)
    watched.look()
    samples = len(watched.samples)
    for used, available in ((800, 2500), (910, 1000)):
        watched.cgroup(tmp_path, "pod", used_mib=used if where == "cgroup" else 0)
        watched.memory(available_mib=available if where == "host" else 9000)
        assert watched.messages == []
        assert len(watched.samples) == samples
        watched.it.due(time.monotonic() + 1)
        watched.look()
    [said] = watched.messages
    assert said.startswith("memory is running out")


@pytest.mark.parametrize("is_new", [False, True])
def test_a_cgroup_that_fills_up_fast_is_found_between_passes(
    watched: Watched, tmp_path: Path, *, is_new: bool
) -> None:
    """Also one that was made since the last pass, and that was mostly empty at the first glance."""
    if is_new:
        watched.cgroup(tmp_path, "old", used_mib=300)
        watched.end_pass()
    watched.cgroup(tmp_path, "job", used_mib=400)
    if not is_new:
        watched.end_pass()
    watched.cgroup(tmp_path, "job", used_mib=380 if is_new else 550)
    watched.glance(seconds=30)
    assert watched.it.episode is None
    watched.cgroup(tmp_path, "job", used_mib=800)
    watched.glance(seconds=15)
    assert watched.it.episode is not None


def test_a_glance_follows_another_after_fourteen_seconds(watched: Watched) -> None:
    """However often the daemon wakes up."""
    watched.end_pass()
    watched.glance(seconds=20)
    watched.memory(available_mib=100)
    for seconds, is_found in ((13, False), (0, False), (1, True)):
        watched.glance(seconds=seconds)
        assert (watched.it.episode is not None) == is_found


@pytest.mark.parametrize(("used", "is_found"), [(300, True), (200, False)])
def test_a_cgroup_that_fills_up_in_seconds_is_found_at_its_first_glance(
    watched: Watched, tmp_path: Path, used: int, *, is_found: bool
) -> None:
    """By what it took since the last glance, not since the last pass, which was long before it was made."""
    watched.cgroup(tmp_path, "old", used_mib=300)
    watched.end_pass()
    watched.glance(seconds=40)
    watched.cgroup(tmp_path, "job", used_mib=used)
    watched.glance(seconds=15)
    assert (watched.it.episode is not None) == is_found


def test_a_pass_does_not_lose_its_look_to_a_glance(watched: Watched) -> None:
    """Both wait for other work, and their timers are due at the same time, a minute being four times 15 s."""
    watched.end_pass()
    watched.it.trend.at -= 15
    watched.it.awake(time.monotonic())
    watched.it.pass_ended()
    watched.look()
    assert len(watched.samples) == 2


def test_looks_that_come_late_do_not_end_what_still_falls(watched: Watched) -> None:
    """Only a look that saw nothing fall does, however much time passed on a host that is too busy to look."""
    for available in (8000, 3900):
        watched.memory(available_mib=available)
        watched.end_pass()
    for available in (3500, 3000, 1500):
        watched.memory(available_mib=available)
        watched.it.due(time.monotonic() + 30)
        watched.look()
    assert [said.partition(":")[0] for said in watched.messages] == ["memory is running out"]


def test_memory_that_one_program_took_at_once_is_no_warning(watched: Watched) -> None:
    """It is looked at for ten seconds, in which it does not fall."""
    for available in (8000, 3000):
        watched.memory(available_mib=available)
        watched.end_pass()
    assert watched.it.episode is not None
    for _ in range(3):
        watched.it.due(time.monotonic() + 1)
        watched.look()
    watched.calm_down()
    assert watched.messages == []
    assert watched.it.episode is None


def test_between_full_looks_only_the_largest_are_read(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full ones take at most a hundredth of a CPU: what starts in between is seen by the next."""
    monkeypatch.setattr(foresight, "_FULL_SHARE", 1e-6)
    watched.memory(available_mib=100)
    watched.stall()
    watched.hold(400, b"new", 3000)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    assert watched.it.last is not None
    assert [one.pid for one in watched.it.last.holders] == [200, 300, 100]
    watched.memory(available_mib=9000)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    watched.it.due(time.monotonic() + 1e7)  # this ends the episode, as nothing stalled for so long
    monkeypatch.setattr(foresight, "_FULL_SHARE", 1e9)
    watched.it.pass_ended()
    watched.look()
    watched.stall()
    assert [one.pid for one in watched.it.last.holders] == [400, 200, 300, 100]


def test_a_warning_names_the_first_of_all_processes(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that started after the last full look, which was a moment ago."""
    monkeypatch.setattr(foresight, "_FULL_SHARE", 1e-6)
    watched.end_pass()
    watched.hold(400, b"new", 3000)
    watched.stall()
    assert watched.messages == []
    watched.memory(available_mib=100)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    assert "the kernel would kill new[400] next (2.9 GiB" in watched.messages[0]


def test_memory_that_gets_short_during_a_look_is_looked_at_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That look read only the largest of before, and the one that took the memory may be new."""
    monkeypatch.setattr(foresight, "_FULL_SHARE", 1e-6)
    watched.end_pass()
    watched.stall()
    watched.hold(400, b"new", 3000)
    watched.it.due(time.monotonic() + 1)
    watched.it.work(0.0)
    assert watched.it.is_busy
    watched.memory(available_mib=100)
    watched.look()
    assert "the kernel would kill new[400] next (2.9 GiB" in watched.messages[0]


def test_memory_that_gets_short_during_a_look_at_all_is_looked_at_again(watched: Watched) -> None:
    """It may have begun long before, since it waits for other work: what started meanwhile is not in it."""
    watched.end_pass()
    watched.it.pass_ended()
    watched.it.work(0.0)
    assert watched.it.is_busy
    watched.hold(400, b"new", 3000)
    watched.memory(available_mib=100)
    watched.stall()
    assert "the kernel would kill new[400] next (2.9 GiB" in watched.messages[0]


def test_a_warning_names_who_will_be_the_first_when_nothing_is_left(watched: Watched) -> None:
    """Not an idle process that is only before the leak for now; `status` says the same."""
    watched.end_pass()
    watched.hold(300, b"firefox", 890)
    watched.memory(available_mib=100)
    watched.stall()
    assert "the kernel would kill firefox[300] next" in watched.messages[0]
    assert watched.it.last is not None
    assert watched.it.last.holders[0].label == "chrome[200]"
    assert watched.it.status.next_process == "firefox[300]"


def test_memory_that_came_back_during_a_look_is_no_warning(watched: Watched) -> None:
    """The kernel has killed meanwhile: a warning of what it would kill next would be late, and wrong."""
    watched.end_pass()
    watched.memory(available_mib=100)
    watched.begin_stall()
    watched.it.work(0.0)
    assert watched.it.is_busy
    watched.memory(available_mib=4000)
    watched.look()
    assert watched.messages == []
    assert watched.it.last is not None
    assert watched.it.last.left.available_kib == 4000 * 1024


def test_a_policy_can_turn_both_off(watched: Watched) -> None:
    """And on again with a reload."""
    watched.it.adopt(Policy(pressure=PressureLimit(some_percent=0), recorder=False), Privilege())
    assert not watched.loop._readable
    watched.it.pass_ended()
    assert not watched.it.is_busy, "it reads nothing that nobody wants"
    assert watched.samples == []


def test_a_policy_that_turns_both_off_ends_the_episode(watched: Watched) -> None:
    """No check would see that memory is back."""
    watched.memory(available_mib=100)
    watched.stall()
    assert watched.it.status.short
    watched.it.adopt(Policy(pressure=PressureLimit(some_percent=0), recorder=False), Privilege())
    assert not watched.it.status.short
    assert not watched.loop.is_set("sample")


def test_a_policy_that_turns_both_off_ends_what_the_last_look_found(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would be killed next, and that a look failed: no later one would say otherwise."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    watched.end_pass()
    with monkeypatch.context() as broken:
        broken.setattr(foresight, "observe_stalled_percent", fails)
        watched.end_pass()
    assert watched.it.last is not None
    assert watched.degradations.texts
    watched.it.adopt(Policy(pressure=PressureLimit(some_percent=0), recorder=False), Privilege())
    watched.end_pass()
    assert watched.it.last is None
    assert watched.degradations.texts == []


def test_a_kernel_without_pressure_information_is_said_once(
    proc: FakeProc, procfs: Procfs, folder: StateFolder
) -> None:
    """With the option that turns it on; samples are still taken at each pass."""
    loop, reporter, recorder = Loop(), Reporter(Said()), Recorder(folder)
    degradations = Degradations(reporter)
    status = StatusWriter(loop, folder, procfs, Identity(1, 2), reporter, degradations)
    it = Foresight(loop, procfs, reporter, degradations, status, recorder, rule_of=lambda _: None)
    for _ in range(2):
        it.adopt(Policy(), Privilege())
    recorder.close()
    [text] = degradations.texts
    assert text.startswith("oomguard cannot warn before memory runs out: ")
    assert text.endswith("this kernel has no pressure information: boot with psi=1")
    assert proc.pids() == []


@pytest.mark.parametrize("step", ["open", "watch"])
def test_a_trigger_that_failed_is_tried_again_at_a_reload(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also if the policy is the same."""

    def fails(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    watched.it.adopt(Policy(pressure=PressureLimit(some_percent=0)), Privilege())
    made: list[int] = []

    def opens(*_: object) -> int:
        made.append(os.eventfd(0))
        return made[-1]

    monkeypatch.setattr(foresight, "open_trigger", fails if step == "open" else opens)
    with monkeypatch.context() as broken:
        if step == "watch":
            broken.setattr(Loop, "watch", fails)
        watched.it.adopt(Policy(), Privilege())
    [text] = watched.degradations.texts
    assert text.endswith("/proc/pressure/memory: Cannot allocate memory")
    monkeypatch.setattr(foresight, "open_trigger", opens)
    watched.it.adopt(Policy(), Privilege())
    assert watched.degradations.texts == []
    assert watched.loop.watches(made[-1])


def test_a_process_that_ends_meanwhile_is_left_out(watched: Watched) -> None:
    """Of any moment between two reads."""
    watched.it.pass_ended()
    for pid in (100, 200, 300):
        watched.it.work(0)
        watched.proc.end(pid)
    watched.look()
    [sample] = watched.samples
    assert sample.holders == ()


def test_the_commit_limit_is_near_once_until_it_is_far(watched: Watched) -> None:
    """Under strict accounting nothing stalls before allocations fail."""
    for committed in (940, 950, 960, 930, 955, 899, 951):
        watched.it.promised(Memory(2000, 0, 0, 1000, committed))
    assert watched.messages == [
        f"{committed} KiB of 1000 KiB are promised (95 %):"
        " at the limit, every allocation fails, and nothing is killed"
        for committed in (950, 951)
    ]


def test_a_recorder_that_cannot_be_written_is_said_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning comes without what grew."""

    def fails(*_: object, in_episode: bool) -> None:
        raise OSError(5, f"Input/output error{'' if in_episode else ' of a pass'}")

    monkeypatch.setattr(Recorder, "record", fails)
    watched.memory(available_mib=100)
    watched.stall()
    watched.it.due(time.monotonic() + 1)
    watched.look()
    assert watched.degradations.texts == ["memory use is no longer recorded: Input/output error"]
    assert any("chrome[200] next" in said for said in watched.messages)


def test_a_recorder_that_cannot_be_read_delays_no_warning(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes without what grew."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    watched.memory(available_mib=100)
    monkeypatch.setattr(os, "pread", fails)
    watched.stall()
    assert "the kernel would kill chrome[200] next" in watched.messages[0]


def test_a_recorder_without_space_is_opened_when_there_is_some(
    proc: FakeProc, procfs: Procfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next pass: nobody has to reload."""
    with disk(tmp_path / "full", kib=1200) as place:
        folder = open_state_folder(str(place / "state"))
        fill(place)
        watched = Watched(proc, procfs, folder, monkeypatch)
        watched.memory(available_mib=8000)
        watched.end_pass()
        assert watched.degradations.texts == ["memory use is not recorded: No space left on device"]
        (place / "filler").unlink()
        watched.end_pass()
        assert watched.degradations.texts == []
        assert len(watched.samples) == 1
        for one in (watched.it, watched.recorder, watched.kernel, folder):
            one.close()


def test_a_recorder_that_was_removed_is_made_again(watched: Watched, folder: StateFolder) -> None:
    """With its folder: `oomguard history` would never see what goes to a file without a name."""
    watched.end_pass()
    shutil.rmtree(folder.path)
    watched.end_pass()
    assert len(read_samples(folder.path) or []) == 1


def test_a_host_of_ten_thousand_is_looked_at_in_slices(watched: Watched, tmp_path: Path) -> None:
    """Each is as long as a slice of a pass, so that a value never waits for a sample."""
    for pid in range(1000, 3000):
        folder = watched.proc.root / str(pid)
        folder.mkdir()
        (folder / "oom_score").write_text("0\n")
    watched.it.pass_ended()
    slices, longest = 0, 0.0
    while watched.it.is_busy:
        begun = time.thread_time()
        watched.it.work(time.monotonic() + 0.0005)
        longest = max(longest, time.thread_time() - begun)
        slices += 1
    assert slices > 5
    assert longest < 0.1, "the list of pids is one read"


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EACCES, errno.EIO, errno.ENOENT])
def test_what_cannot_be_seen_never_stops_the_daemon(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """To enforce the policy is more than to look: users decide what some files and paths are like."""

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(foresight, "open_memcg", fails)
    watched.stall()
    assert watched.degradations.texts == [f"oomguard cannot see what holds memory: {os.strerror(number)}"]
    assert len(watched.samples) == 1, "of the host"


def test_what_a_look_could_not_see_is_said_until_a_look_can(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glance, which reads less, does not count."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(foresight, "observe_stalled_percent", fails)
        watched.end_pass()
        watched.glance(seconds=15)
    assert watched.degradations.texts == [f"oomguard cannot see what holds memory: {os.strerror(errno.EIO)}"]
    watched.end_pass()
    assert watched.degradations.texts == []


def test_a_cgroup_that_is_short_hides_nothing_of_the_host(watched: Watched, tmp_path: Path) -> None:
    """Each has its own warning; one about a cgroup does not come again for some minutes."""
    watched.cgroup(tmp_path, "app.slice", used_mib=990, stalled_percent=5)
    watched.stall()
    assert [said.partition(":")[0] for said in watched.messages] == ["memory is running out in /app.slice"]
    assert not watched.it.status.short
    watched.memory(available_mib=50)
    watched.it.due(time.monotonic() + 1)
    watched.look()
    assert [said.partition(":")[0] for said in watched.messages[1:]] == ["memory is running out"]
    assert watched.it.status.short
    watched.memory(available_mib=9000)
    for _ in range(3):
        watched.it.due(time.monotonic() + 1)
        watched.look()
        watched.calm_down()
        watched.stall()
    begun = [said for said in watched.messages if said.startswith("memory is running out in /app")]
    assert len(begun) == 1
