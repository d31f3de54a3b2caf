"""What people and programs write about a kill is no report, but it is listed."""

import json

import pytest

from oomguard.oom.log_reader import OomLog

SPOKEN = [
    "mysqld was killed by the OOM killer (pid 1204)",
    "process 1204 (java) got OOM-killed",
    "the kernel OOM killer terminated pid 1204",
    "OOM killer killed mysqld",
    "The OOM-killer just shot postgres again",
    "oom-killer: killed java",
    "Out of memory killer took down mysqld",
    "Our database got oom killed tonight",
    "OUR DATABASE WAS KILLED BY THE OOM KILLER",
    "java (pid 1204) has been killed by the out-of-memory killer",
    "Process 1204 was terminated by the kernel because the system ran out of memory",
    "killed (OOM)",
    "[19:00] anna: mysqld was OOM-killed",
    "Jun  3 10:00:00 web1 monit[77]: mysqld was killed by the OOM killer",
    "[    1.000000] watchdog: pid 1204 was killed by the OOM killer",
    "    State: Terminated (OOMKilled)",
    "web-7f9c   0/2     Init:OOMKilled   0          5m",
    "pod web-7f9c was OOMKilled",
    '{"pod":"web","status":"OOMKilled"}',
    "   Active: failed (Result: oom-kill) since Mon 2026-10-12 19:00:20 UTC",
    "7.batch         batch     OUT_OF_ME+    0:125",
    "Alert: OOM kill detected on db1 (java)",
    "apache2 wurde vom OOM-Killer beendet",
    "mysqld a été tué par l'OOM killer",
    "OOM killer убил процесс 1204 (java)",
    "进程被 OOM killer 杀死了",
    "Task 7 failed: oom-kill",
    "task 12 FAILED (oom_kill)",
    "job 7 ended: exit reason=oom_kill",
    "Result=oom-kill",
    "failed because of oom-kill",
    "mysql.service: Unit entered failed state (oom-kill).",
    "db1: 3 OOM kills since boot",
    "warning: OOM kills since boot: 3",
    "We had two OOM kills last night",
    "alert: OOM kill on db1: java",
    "oom_kill 3",
    "oom_group_kill 1",
    "/sys/fs/cgroup/system.slice/mysql.service/memory.events:oom_kill 3",
    "node_vmstat_oom_kill 3",
    '{"oom":5,"oom_kill":3}',
]


@pytest.mark.parametrize("line", SPOKEN)
def test_words_about_a_kill_are_listed_and_no_report(line: str) -> None:
    """As a line, and within a string of a line."""
    for text in (
        line,
        json.dumps({"log": f"[    1.000000] x\n[    1.000000] y\n{line}"}, ensure_ascii=False),
    ):
        log = OomLog()
        assert list(log.read([f"x\n{text}\n"])) == []
        assert [one.number for one in log.unread.lines] == [2]


@pytest.mark.parametrize(
    "line",
    [
        "The OOM killer may kill any process.",
        "the OOM killer kills the process with the highest badness",
        "# sshd is never killed by the OOM killer",
        "  // was killed by the OOM killer",
        "protect it from being killed by the OOM killer",
        "a container can be OOMKilled if it exceeds its limit",
        "If a process was killed by the OOM killer, dmesg shows it.",
        "How to find which process was killed by the OOM killer?",
        "No process was killed by the OOM killer.",
        "mysqld wasn't killed by the OOM killer",
        "vm.oom_kill_allocating_task = 0",
        "PM: hibernation: OOM killer disabled.",
        "systemd[1]: Started systemd-oomd.service - Userspace Out-Of-Memory (OOM) Killer.",
        '            "OOMKilled": false,',
        "OOMKilled: false",
        "oom_kill 0",
        "memory.events:oom_kill 0",
        '{"oom":5,"oom_kill":0}',
        "0 OOM kills since boot",
        "OOM kills: 0",
        "no OOM kills since boot",
        "to avoid OOM kills, add memory",
        "alert if more than 3 OOM kills happen",
        "oom_kill_disable 1",
        "vm.oom_kill_allocating_task 1",
        "docker run --oom-kill-disable 1",
        "failed to disable oom-kill for container web",
        "expr: increase(node_vmstat_oom_kill[1m]) > 0",
        " oom_kill_process.cold+0xb/0x10",
        "test_oom_kill passed in 3 s",
        "1a2b3c oom-kill: print the cgroup",
        "java.lang.OutOfMemoryError: Java heap space",
        "Tasks in /a.service are going to be killed due to memory.oom.group set",
    ],
)
def test_what_tells_of_no_kill_is_not_listed(line: str) -> None:
    """Documentation, comments, settings, and what did not happen."""
    log = OomLog()
    assert list(log.read([f"x\n{line}\n"])) == []
    assert log.unread.lines == ()


def test_words_about_a_kill_that_a_report_has_are_not_listed() -> None:
    """Those that name another process are, and others may be about the same one."""
    kill = "[    1.000000] Out of memory: Killed process 1204 (mysqld) total-vm:9kB, anon-rss:9kB"
    log = OomLog()
    lines = ["mysqld was OOM-killed:", *SPOKEN[:2], "the OOM killer killed mysqld (777)", kill, SPOKEN[2]]
    assert len(list(log.read(["\n".join(lines)]))) == 1
    assert [(one.number, one.pid, one.why) for one in log.unread.lines] == [(4, 777, "words about a kill")]


@pytest.mark.parametrize(
    ("when", "lines"),
    [
        ("Jun  3 10:01:30", []),
        ("Jun  3 19:00:00", [2]),
        ("Jun 12 10:01:30", [2]),
        ("2026-06-03T08:01:30Z", []),
        ("", []),
    ],
)
def test_words_about_a_kill_at_another_time_are_listed(when: str, lines: list[int]) -> None:
    """Without a time, or with one of another form, they may be about the kill that a report has."""
    log = OomLog()
    kill = "Jun  3 10:00:00 db1 kernel: Out of memory: Killed process 7 (mysqld) total-vm:9kB, anon-rss:9kB"
    assert len(list(log.read([f"{kill}\n{when} db1 app: java was OOM-killed\n"]))) == 1
    assert [one.number for one in log.unread.lines] == lines


def test_words_that_are_reports_of_their_own_are_not_listed() -> None:
    """Also those that are about the same kill once more."""
    words = "systemd[1]: {}: A process of this unit has been killed by the OOM killer."
    log = OomLog()
    lines = [words.format(f"session-3.{kind}") for kind in ("scope", "slice")]
    assert len(list(log.read(["\n".join(lines)]))) == 1
    assert log.unread.lines == ()
