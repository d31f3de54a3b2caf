"""Reports that somebody retyped, or a camera read: nothing is invented, and no line about a kill is lost."""

import json
import random
import re

import pytest

import oom_formats as formats
from oomguard.oom.garbled import garbled_kills, is_garbled_kill
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.oom.unread import part_about_kill
from oomguard.report.postmortem import Incident, facts

FIGURES = "total-vm:400000kB, anon-rss:160000kB, file-rss:0kB"
KILL = f"Out of memory: Killed process 12 (a) {FIGURES}"
CONTEXT = "nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=a,pid={},uid=0"
CUT_TAIL = "rocess 1204 (mysqld) total-vm:400000kB, anon-rss:160000kB"

GARBLED = [
    f"Out of memory: Killed process 12O4 (mysqld) {FIGURES}",
    f"Out of memory: KiIled process 1204 (mysqld) {FIGURES}",
    "0ut of mem0ry: Killed pr0cess 1204 (mysqld) tota1-vm:400000kB, an0n-rss:160000kB",
    "Out of memory Killed process 1204 mysqld total-vm:400000kB",
    "Out of memory: Killedprocess 1204 (mysqld) total-vm:400000kB",
    f"Out of memory: Killed process l204 (mysqld) {FIGURES}",
    f"Out of memory: Killed process 12 04 (mysqld) {FIGURES}",
    f"Out of memory: Killed process 1204 (mysqld {FIGURES}",
    f"Out of memory: Killed process 1204 {{mysqld}} {FIGURES}",
    "Out of memory: Killed process 1204 (mysqld) total-vm:4OOOOOkB, anon-rss:16OOOOkB",
    f"Out of memory: Killed 1204 (mysqld) {FIGURES}",
    "0ut 0f mem0ry: Ki1led pr0cess 1204 (mysqld)",
    "Outofmemory:Killedprocess1204(mysqld)total-vm:400000kB,anon-rss:160000kB",
    f"oom-kill:constraint=CONSTRAINT_NONE,{CONTEXT.format('12O4')}",
    f"oom-kiIl:c0nstraint=CONSTRAINT_NONE,{CONTEXT.format(1204)}",
    f"oom-kill: constraint=CONSTRAINT_NONE, {CONTEXT.format(1204)}",
    "mysqld inv0ked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
    "mysqld invoked oom-killer: gfp mask=0xl00cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
    "mysqld invoked oom-ki11er: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
    "Out of memory: Kill process 1204 (mysqld) sc0re 900 or sacrifice child",
    f"[ 1234.S67890] Out of memory: Killed process 1204 (mysqld) {FIGURES}",
    f"process 1204 (mysqld) {FIGURES}",
    "Out%20of%20memory%3A%20Killed%20process%201204%20%28mysqld%29",
    "https://example.org/search?q=Out+of+memory%3A+Killed+process+1204+%28mysqld%29",
    "Subject: =?utf-8?Q?Out_of_memory=3A_Killed_process_1204_=28mysqld=29?=",
    f"OUT OF MEMORY: KILLED PROCESS 1204 (MYSQLD) {FIGURES.upper()}",
    "MYSQLD INVOKED OOM-KILLER: GFP_MASK=0X100CCA(GFP_HIGHUSER_MOVABLE), ORDER=0, OOM_SCORE_ADJ=0",
    "Out of memory: Killed p",
    "Memory cgroup out of memory: Kill",
    "Out of memory (oom_kill_allocating_task): Killed",
    f"Out of memory: Killed proc{FIGURES[5:]}",
    f"[  903]    26      903   180000    90000   t (new) x) {FIGURES}",
    "[  903]    26      903   180000    90000   illed process 1204 (mysqld)",
    f"11000 reserved pagesOut of memory: Killed p{FIGURES[12:]}",
    "t (new) x) score 413 or sacrifice child",
    f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memKilled {FIGURES}",
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,glo",
    "mysqld invoked oom-killer",
    f"{'[ 903] 26 903 180000 90000 a' * 40}{CUT_TAIL}",
]


@pytest.mark.parametrize("line", GARBLED)
def test_garbled_line_is_listed_and_no_report(line: str) -> None:
    """Wherever it stands, and whatever is known of the process with the pid that it seems to have."""
    log = OomLog()
    assert list(log.read([f"x\n{line}\n"])) == []
    assert [(one.number, one.why.partition(" ")[0]) for one in log.unread.lines] == [(2, "unknown")]
    log = OomLog()
    (report,) = log.read([f"{line}\nusb 1-1: new device\nOut of memory: Killed process 12 (a) {FIGURES}\n"])
    assert [kill.pid for kill in report.kills] == [12]
    assert [one.number for one in log.unread.lines] == [1]


@pytest.mark.parametrize("line", [*GARBLED, "cpu1: KILLED PROCESS 7", "x was killed by the OOM killer"])
def test_part_of_a_line_that_is_shown_has_what_it_is_about(line: str) -> None:
    """Of a long one, and of an entry of the journal, of which nobody can count the lines."""
    entry = json.dumps({"__CURSOR": "s=" * 99, "MESSAGE": line, "_TRANSPORT": "stdout", "x": "y" * 300})
    for text in (line, "x " * 300 + line + " y" * 300, entry):
        assert _PARTS.search(part := part_about_kill(text))
        assert len(part) <= 102


_PARTS = re.compile(r"(?i)k[i1j][il1j]l|rocess \d|oom.k|ut ?.f ?m|tota.?.vm|sacrif")


@pytest.mark.parametrize(
    "line",
    [
        "systemd[1]: x.service: Killing process 1204 (mysqld) with signal SIGKILL.",
        "systemd[1]: x.service: Main process exited, code=killed, status=9/KILL",
        "bash: kill: (1204) - No such process",
        "$ kill -9 1204 (mysqld)",
        "failed to kill process group",
        "oom_kill 12 (total)",
        "killed 12 jobs",
        "java.lang.OutOfMemoryError: Java heap space",
        " [<ffffffff8118475e>] oom_kill_process+0x24e/0x3c0",
        "[    1.000000]  oom_kill_process+0x24e/0x3c0",
        "[    1.000000] oom_kill_process: 5 callbacks suppressed",
    ],
)
def test_other_words_about_killing_are_not_listed(line: str) -> None:
    """Programs have their own."""
    log = OomLog()
    assert list(log.read([f"{line}\n"])) == []
    assert log.unread.lines == ()


OTHER = f"Killed process 1204 (mysqld) {FIGURES}"
MARKED, LATER = f"[    1.000000] {KILL}", f"[    3.000000] {KILL}"
HEADER = "in:imjournal invoked oom-killer: gfp_mask=0x24201ca, order=0, oom_score_adj=0"
HEADING = "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name"
ROW = "[ 9772]   500  9772   545695   470615    1060    62734             0 "


@pytest.mark.parametrize(
    "lines",
    [
        f"{KILL}[    2.000000] {OTHER}",
        f"{MARKED}\n[    1.000000] Total swap = 9kB[    2.000000] Out of memory: {OTHER}",
        f"{HEADING}\n{ROW}mysqld) {FIGURES}\n{KILL}",
        f"    {HEADING}\n[    1.000000]     {ROW}mysqld\n    {OTHER}\n{LATER}",
        f"{MARKED}\n12.10.2026 19:00:20 {OTHER}",
        f"dmesg.txt-[    1.000000] Killed process 1204 (mysqld)\n4,8,8523000000,-;{HEADER}\n{LATER}",
        f"b'{MARKED}'; c'[    2.000000] Killed process 1204 (mysqld)'",
        f'{{"log": "[    1.000000] Killed process 1204 (mysqld)", "stream\n{LATER}',
        f"oom_reaper: reaped process 12 (a), now anon-rss:0kB[    2.000000] Killed process 1204 (a)\n{LATER}",
    ],
)
def test_kill_that_lost_the_break_before_it_is_never_lost(lines: str) -> None:
    """Nor one behind a long line, with which it would be joined if a terminal had wrapped it."""
    log = OomLog()
    reports = list(log.read([f"{lines}\n"]))
    killed = {kill.pid for report in reports for kill in report.kills}
    assert killed - {1204} == {12}
    assert log.unread.count == (1204 not in killed)


@pytest.mark.parametrize(
    ("exact", "garbled"), [("Out of", "0ut of"), ("memory", "mcmory"), ("Killed", "Kjl1ed"), ("00kB", "OOkB")]
)
def test_garbled_kill_is_listed_beside_what_was_chosen(exact: str, garbled: str) -> None:
    """The report says that the line of the kill is missing: that is this one."""
    lines = formats.host_report(formats.KERNELS[-1])
    lines[-1] = lines[-1].replace(exact, garbled)
    log = OomLog()
    (report,) = log.read(["\n".join(lines)])
    assert (report.kills, report.chosen and report.chosen.pid) == ((), formats.VICTIM.pid)
    assert [one.number for one in log.unread.lines] == [len(lines)]


def test_garbled_rows_are_missed() -> None:
    """The process that was next may be in one of them."""
    lines = formats.host_report(formats.KERNELS[-1])
    row = next(at for at, line in enumerate(lines) if "postgres" in line)
    lines[row] = lines[row].replace("90000", "9OOOO")
    other = next(at for at, line in enumerate(lines) if "sshd" in line)
    lines[other] = lines[other].replace("  812]", "  8I2]")
    (report,) = OomLog().read(["\n".join(lines)])
    assert [task.comm for task in report.tasks] == ["systemd-journal", "report (new) x"]
    missing = dict(facts(Incident(1, examine(report))))["Missing"]
    assert missing == "2 rows of the task table, garbled: the order may be wrong"


def test_memory_of_a_victim_that_no_report_has_is_listed() -> None:
    """`grep oom_` leaves the line of the reaper; in a report, it belongs to the kill."""
    reaped = "oom_reaper: reaped process {} (a), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"
    kills = [f"Out of memory: Killed process {pid} (a) {FIGURES}" for pid in (7, 8)]
    log = OomLog()
    reports = [*log.read(["\n".join([reaped.format(6), *kills, *map(reaped.format, (7, 8, 9))])])]
    assert [kill.pid for report in reports for kill in report.kills] == [7, 8]
    assert [(one.number, one.pid, one.why) for one in log.unread.lines] == [
        (1, 6, "no kill before"),
        (6, 9, "no kill before"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        f"MESSAGE={HEADER}",
        f'\t"MESSAGE" : "{HEADER}",',
        f"Oct 12 19:00:20 dbkernel:  [ 8523.000000] {HEADER}",
        f'{{"message": "{HEADER[:60]}": "kernel"}}',
        f'{{"log": "{{\\"message\\": \\"{HEADER}',
        f"Oct 12 19:00:20 db1 app[7]: {HEADER}",
        f"[Mon Oct 12 19:00:20 2026] [  903]    26   903 180000   90000        0       300 post{HEADER}",
        HEADER.removeprefix("in:imjournal "),
    ],
)
def test_beginning_of_a_report_in_an_unknown_form_is_never_lost(line: str) -> None:
    """Not even in a program's line, unless the log has reports: programs repeat what the kernel printed."""
    log = OomLog()
    assert list(log.read([f"{line}\n"])) == []
    assert log.unread.count == 1


def test_programs_may_repeat_the_beginning_of_a_report() -> None:
    """The kernel's own is there."""
    log = OomLog()
    lines = [*formats.host_report(formats.KERNELS[-1]), f"Oct 12 19:00:20 db1 app[7]: {HEADER}"]
    assert len(list(log.read(["\n".join(lines)]))) == 1
    assert log.unread.count == 0


@pytest.mark.parametrize(
    "before",
    [
        "[  903]    26   903   180000   90000        0       300 postgr",
        "[  903]    26   903   18",
        "[ pid ]   uid  tgid total_vm      rss ",
        " free:1 free_pcp:0",
        "CPU: 1 PID: 77 Comm: a ",
        " dump_stack+0x5c/0x80",
        "Mem-Info:",
    ],
)
def test_lines_that_lost_the_break_between_them_are_listed(before: str) -> None:
    """The second one names a kill or a choice."""
    heading = "[ pid ]   uid  tgid total_vm      rss swapents oom_score_adj name"
    for line in (f"oom-kill:constraint=CONSTRAINT_NONE,{CONTEXT.format(7)}", f"Killed process 7 ({FIGURES}"):
        log = OomLog()
        (report,) = log.read(["\n".join([HEADER, "Mem-Info:", heading, f"{before}{line}", KILL])])
        assert ([kill.pid for kill in report.kills], log.unread.count) == ([12], 1), line


def test_garbled_line_is_listed_far_behind_the_beginning() -> None:
    """As far as anybody copies a log."""
    log = OomLog()
    assert list(log.read(["x\n" * 400_000 + "0ut 0f mem0ry: Ki1led pr0cess 1204 (mysqld)\n"])) == []
    assert [one.number for one in log.unread.lines] == [400_001]


def test_garbled_line_of_a_program_is_listed_beside_reports() -> None:
    """Nobody knows whether one of them is about its kill."""
    log = OomLog()
    line = "Oct 12 19:00:20 db1 app[7]: Out of memory: KiIled pr0cess 12O4 (mysqld)"
    assert len(list(log.read([f"{KILL}\n{line}\n"]))) == 1
    assert [one.number for one in log.unread.lines] == [2]


def test_garbled_lines_in_many_are_those_that_are_alone() -> None:
    """A search over many lines finds no kill that begins in one and ends in the next, and misses none."""
    chance = random.Random(20261127)
    found = 0
    for _ in range(3000):
        line = chance.choice(GARBLED)
        text = "\n".join(chance.choices(["", "kill", " process 12 (a)", "KILL: ", line, line.upper()], k=9))
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(["\n", " ", "k", "0", "K"]) + text[place:]
        alone, at = [], 0
        for one in text.split("\n"):
            if is_garbled_kill(one):
                alone.append(at)
            at += len(one) + 1
        assert garbled_kills(text, 0, len(text)) == alone
        found += len(alone)
    assert found > 3000
