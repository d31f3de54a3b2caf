"""Reports of the OOM killer, of every generation of kernels, whole and in pieces."""

import re
from pathlib import Path

import pytest

import oom_formats as formats
from oomguard.oom.log_reader import OomLog
from oomguard.oom.report import Report, Task

REPORTS = Path(__file__).parent.parent / "reports"


def read(text: str, *, block: int = 1 << 20) -> list[Report]:
    """Read a log in blocks of that many characters."""
    return list(OomLog().read(text[at : at + block] for at in range(0, len(text), block)))


def captured(name: str) -> str:
    """Return a log that a kernel printed in our own tests."""
    return (REPORTS / name).read_text()


@pytest.mark.parametrize("kernel", formats.KERNELS, ids=lambda kernel: kernel.release)
def test_report_of_each_kernel_tells_the_same(kernel: formats.Kernel) -> None:
    """Whatever a kernel prints in its own way is the same report."""
    (report,) = read("\n".join(formats.host_report(kernel)))
    assert report.release == kernel.release
    assert report.invoker is not None
    assert (report.invoker.comm, report.invoker.pid, report.invoker.order) == ("in:imjournal", 77, 0)
    assert report.tasks == tuple(
        Task(
            row.pid,
            row.uid,
            row.comm,
            row.rss * 2,
            row.rss,
            row.swap if kernel.has_swap else 0,
            row.page_tables if kernel.has_page_tables else 0,
            row.value,
        )
        for row in formats.ROWS
    )
    assert report.memory.total_pages == formats.RAM_PAGES - formats.RESERVED_PAGES
    assert report.memory.swap_total_kib == formats.SWAP_KIB
    assert report.memory.pages["free"] == 12163
    assert [(kill.pid, kill.comm) for kill in report.kills] == [(1377, "report (new) x")]
    assert (report.choice is not None) == bool(kernel.choice)
    assert (report.context is not None) == kernel.context


@pytest.mark.parametrize("block", [97, 1 << 20])
def test_a_report_has_the_lines_that_it_was_read_from(block: int) -> None:
    """Of its host alone, in their order, and none of the next report; without being asked, none."""
    one, other = (
        [f"[  100.5] {line}" for line in captured(f"{name}-host.txt").splitlines()]
        for name in ("6.1", "6.12")
    )
    both = [
        f"Jan  1 00:00:00 {host} kernel: {line}"
        for lines in zip(one, other, strict=False)
        for host, line in zip("ab", lines, strict=True)
    ]
    text = "\n".join([*both, *(line.replace("[  100.5]", "[  200.5]") for line in both), ""])
    reports = list(OomLog(raw_limit=1 << 20).read(text[at : at + block] for at in range(0, len(text), block)))
    assert len(reports) == 4
    for report in reports:
        kept = report.raw.replace("[  200.5]", "[  100.5]").splitlines()
        whole = [line for line in both if f" {report.host} kernel: " in line]
        rest = iter(whole)
        assert all(line in rest for line in kept), "in order, each once"
        assert [line for line in whole if "oom-killer:" in line or "Killed process" in line] == [
            line for line in kept if "oom-killer:" in line or "Killed process" in line
        ]
        assert sum("]  " in line for line in kept) >= len(report.tasks)
    (short,) = OomLog(raw_limit=500).read(["\n".join(one)])
    assert len(short.raw) == 500
    assert all(report.raw == "" for report in read(text))


def test_captured_reports_are_read_whole() -> None:
    """What our own kernels printed: whole hosts and cgroups, on four kernels."""
    for name, victim, constraint, tasks in (
        ("6.1-host.txt", "python3", "none", 8),
        ("6.1-memcg-group-exiting.txt", "vm-expendable", "memcg", 2),
        ("6.12-host.txt", "python3", "none", 8),
        ("6.12-memcg-group.txt", "vm-expendable", "memcg", 2),
        ("6.18-memcg-value-decides.txt", "cache-worker", "memcg", 3),
        ("6.18-memcg-newline-name.txt", "a\nOut of memo", "memcg", 1),
        ("6.18-memcg-parenthesis-name.txt", "x) total-vm:9kB", "memcg", 1),
        ("6.18-memcg-no-table.txt", "worker", "memcg", 0),
        ("7.2-host.txt", "vm-expendable", "none", 11),
        ("7.2-memcg.txt", "vm-expendable", "memcg", 1),
    ):
        (report,) = read(captured(name))
        assert report.victim is not None
        assert (report.victim.comm, report.constraint, len(report.tasks)) == (victim, constraint, tasks), name
        assert report.invoker is not None
        assert report.release.startswith(name.partition("-")[0])


def test_kills_that_the_kernel_reported_in_short_are_counted() -> None:
    """Ten reports in five seconds are all it prints; of the others there is only the line of the kill."""
    reports = read(captured("6.18-memcg-rate-limited.txt"))
    assert len(reports) == 14
    assert [bool(report.tasks) for report in reports] == [True] * 10 + [False] * 3 + [True]
    assert reports[-1].suppressed == 3


@pytest.mark.parametrize("block", [1, 7, 100, 4096])
def test_blocks_may_end_anywhere(block: int) -> None:
    """A log that comes in small pieces is the same log."""
    for name in ("6.12-host.txt", "6.18-memcg-newline-name.txt"):
        assert read(captured(name), block=block) == read(captured(name))


@pytest.mark.parametrize("lines", [1, 3, 4, 9])
def test_message_of_many_lines_is_one_however_it_comes(lines: int) -> None:
    """A kill may stand at the end of a message that goes on and on."""
    kill = "Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:9kB"
    text = "[    1.000000] " + "x\n               " * lines + f"y\n[    2.000000] {kill}\n"
    assert read(text) == read(text, block=61) == read(text, block=1)
    within = "[    1.000000] " + "x\n               " * lines + f"{kill}\n[    2.000000] z\n"
    assert read(within) == read(within, block=61) == read(within, block=1) == []


def test_old_memory_cgroups_are_read() -> None:
    """Before 5.0 the cgroups stand in a sentence of their own."""
    (report,) = read(formats.MEMCG_3_16)
    assert (report.constraint, report.oom_memcg, report.task_memcg) == ("memcg", "/lxc/web", "/lxc/web/a")
    assert report.memory.cgroup["memory+swap"].limit_kib == 131072
    assert report.memory.cgroup["kmem"].limit_kib is None
    assert report.choice is not None
    assert report.choice.score == 735


def test_group_is_one_report() -> None:
    """memory.oom.group kills a whole cgroup, and prints the first victim twice."""
    (report,) = read(formats.GROUP_5_15)
    assert [kill.pid for kill in report.kills] == [900, 901]
    assert report.group == "/app.slice/web.service"
    (report,) = read(captured("6.12-memcg-group.txt"))
    assert [kill.pid for kill in report.kills] == [627, 626]
    assert report.group == "/scenario.slice/vm-expendable.service"


def test_victim_of_a_group_that_already_exits_is_no_report_of_its_own() -> None:
    """The kernel prints so of the first one, which it killed before it killed the group."""
    (report,) = read(captured("6.1-memcg-group-exiting.txt"))
    assert [kill.pid for kill in report.kills] == [2074, 2073]
    assert report.ending == ""


def test_child_that_was_sacrificed_is_the_victim() -> None:
    """Old kernels chose a parent and killed a child."""
    (report,) = read(formats.CHILD_3_19)
    assert report.choice is not None
    assert report.victim is not None
    assert (report.choice.pid, report.victim.pid) == (9772, 9787)


def test_kernels_without_oom_score_adj_are_read() -> None:
    """Before 2.6.36 the value was oom_adj, and nothing was said of sizes."""
    (report,) = read(formats.LINUX_2_6_32)
    assert report.has_oom_adj
    assert [task.oom_score_adj for task in report.tasks] == [0, -17, 0]
    assert report.victim is not None
    assert (report.victim.pid, report.victim.rss_kib) == (4012, None)
    (oldest,) = read(formats.RHEL5)
    assert oldest.victim is not None
    assert (oldest.victim.pid, oldest.victim.uid) == (5430, 48)


def test_panic_is_a_report_without_a_victim() -> None:
    """With panic_on_oom nobody is killed, and everything is gone."""
    (report,) = read(formats.PANIC_6_1)
    assert report.victim is None
    assert "panic_on_oom" in report.ending
    assert len(report.tasks) == 1


def test_nobody_to_kill_is_a_report() -> None:
    """A cgroup in which everything is immune can kill nobody."""
    text = "sh invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=-1000\n"
    (report,) = read(text + "Out of memory and no killable processes...\n")
    assert report.ending.startswith("Out of memory and no killable")


def test_page_size_is_learned() -> None:
    """Figures in pages mean nothing without it: 64 KiB on some machines."""
    (report,) = read(formats.PAGES_64K)
    assert report.memory.page_kib == 64
    assert report.tasks[0].page_tables == 100


@pytest.mark.parametrize("cut", range(0, 66, 5))
def test_log_that_begins_late_tells_what_it_has(cut: int) -> None:
    """However much of the beginning is gone, who died is told."""
    lines = captured("6.1-host.txt").splitlines(keepends=True)
    reports = read("".join(lines[cut:]))
    assert [report.victim.comm for report in reports if report.victim] == ["python3"]


@pytest.mark.parametrize("cut", range(1, 66, 5))
def test_log_that_ends_early_tells_what_it_has(cut: int) -> None:
    """However much of the end is gone, that memory ran out is told, and nobody is named who did not die."""
    lines = captured("6.1-host.txt").splitlines(keepends=True)
    (report,) = read("".join(lines[:cut]))
    assert report.victim is None
    assert report.invoker is not None


def test_other_lines_in_between_change_nothing() -> None:
    """Other parts of the kernel, and other programs, talk while it reports."""
    lines = captured("6.12-host.txt").splitlines(keepends=True)
    mixed = []
    for number, line in enumerate(lines):
        mixed.append(line)
        if not lines[min(number + 1, len(lines) - 1)].startswith(
            " "
        ):  # a message of more than one line is whole
            mixed.append(f"[   34.{number:06}] usb 1-1: new high-speed USB device number {number}\n")
    assert read("".join(mixed)) == read("".join(lines))


def test_hosts_of_one_log_are_kept_apart() -> None:
    """A log server has the lines of many hosts, one between the other."""
    text = captured("6.12-host.txt")
    single = "\n".join(
        re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in text.splitlines() if line.startswith("[")
    ).splitlines()
    both = []
    for one, two in zip(single, formats.host_report(formats.KERNELS[-1]) + [""] * 99, strict=False):
        both.append(f"Nov  2 10:00:01 node1 kernel: {one}")
        if two:
            both.append(f"Nov  2 10:00:01 node2 kernel: {two}")
    reports = {report.host: report for report in read("\n".join(both))}
    assert set(reports) == {"node1", "node2"}
    assert reports["node1"].tasks == read(text)[0].tasks
    assert [task.pid for task in reports["node2"].tasks] == [row.pid for row in formats.ROWS]
    assert reports["node2"].victim is not None
    assert reports["node2"].victim.comm == formats.VICTIM.comm


def test_others_that_repeat_the_kernel_are_not_believed() -> None:
    """What monitors write of a kill is no second kill; nor can a user forge one."""
    kill = "Out of memory: Killed process 7 (sshd) total-vm:1kB, anon-rss:1kB, file-rss:0kB"
    text = "\n".join(
        (
            f"Oct 12 19:00:20 aks kernel: [ 8523.347333] {kill}",
            f"Oct 12 19:00:20 aks node-problem-detector[3240]: Message:{kill}",
            f"Oct 12 19:00:20 aks alice: {kill}",
            f"2026-10-12T19:00:20.123+00:00 aks logger[12]: {kill}",
            f"12,900,5000,-;{kill}",
            '{"MESSAGE":"' + kill + '","_TRANSPORT":"syslog"}',
        )
    )
    assert len(read(text)) == 1


def test_refused_allocations_are_counted_and_are_no_kills() -> None:
    """Strict accounting refuses, and kills nobody."""
    log = OomLog()
    line = "__vm_enough_memory: pid: 12, comm: java, bytes: 4096 not enough memory for the allocation\n"
    assert list(log.read([line * 3])) == []
    assert log.refusals == 3


def test_report_whose_end_never_comes_is_given_up() -> None:
    """After thousands of other lines it is told as it is, and the next one is read."""
    text = captured("6.1-host.txt")
    half = "".join(text.splitlines(keepends=True)[:30])
    noise = "".join(f"[  200.{number:06}] eth0: link is up\n" for number in range(6000))
    reports = read(half + noise + text)
    assert [bool(report.victim) for report in reports] == [False, True]
