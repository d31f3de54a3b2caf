"""An incident that shows all that a page can: a leak on a desktop, recorded until the kill."""

import math

from oomguard.core.sample import Holder, Left, Sample
from oomguard.oom.kill import Kill
from oomguard.oom.postmortem import examine
from oomguard.oom.report import Invoker, Memory, Report, Task
from oomguard.report.postmortem import Incident, ValueOrigin

KILLED_AT = 1_790_000_000.0
MIB, GIB = 1024, 1 << 20
PAGE_KIB = 4
PROCESSES = (
    (1234, 1000, "chrome", "app-chrome.scope", 700, 2900, 300),
    (1190, 1000, "chrome", "app-chrome.scope", 520, 560, 300),
    (2210, 1000, "code", "app-code.scope", 610, 940, 100),
    (812, 113, "postgres", "postgresql.service", 900, 910, -900),
    (1100, 1000, "gnome-shell", "session.slice", 310, 320, 0),
    (1377, 1000, "report-gen", "batch-report.service", 180, 190, 200),
    (640, 0, "sshd", "ssh.service", 6, 6, -1000),
    (412, 0, "systemd-journal", "systemd-journald.service", 24, 26, -250),
)
"""Pid, uid, name, unit, MiB before and at the kill, and the value of each."""


def told(*, name: str = "chrome") -> Incident:
    """Return the report, with `name` for the process that leaks."""
    tasks = [
        Task(pid, uid, name if pid == 1234 else comm, mib * 400, mib * MIB // PAGE_KIB, 0, mib // 2, value)
        for pid, uid, comm, _, _, mib, value in PROCESSES
    ]
    kill = Kill(1234, name, uid=1000, oom_score_adj=300, total_vm_kib=9 * GIB, anon_rss_kib=2900 * MIB)
    pages = {"free": 21_000, "slab_unreclaimable": 61_000, "slab_reclaimable": 30_000, "shmem": 90_000}
    report = Report(
        when=f"{KILLED_AT}",
        uptime_seconds=9000.0,
        host="ws-17",
        release="6.12.57+deb13-amd64",
        invoker=Invoker(name, 1234, "0x140cca", 0, 300),
        constraint="none",
        task_memcg="/user.slice/user-1000.slice/user@1000.service/app.slice/app-chrome.scope",
        memory=Memory(
            PAGE_KIB, 6 * GIB // PAGE_KIB, 40_000, swap_total_kib=512 * MIB, swap_free_kib=0, pages=pages
        ),
        columns=("pid", "uid", "total_vm", "rss", "swapents", "pgtables_bytes", "oom_score_adj", "name"),
        tasks=tuple(tasks),
        kills=(kill,),
        raw=f"Out of memory: Killed process 1234 ({name}) total-vm:9437184kB, anon-rss:2969600kB, UID:1000\n",
    )
    origin = ValueOrigin("300", "name=chrome", "/etc/oomguard.yaml:12", "2026-09-21 13:40:11")
    return Incident(1, examine(report), origin, before=samples(name))


def samples(name: str = "chrome") -> list[Sample]:
    """Return a sample a minute, and then each second."""
    return [_sample(seconds, name) for seconds in (*range(420, 30, -60), *range(29, 0, -1))]


def _sample(seconds: int, name: str) -> Sample:
    part = math.exp(-seconds / 150)
    holders = [
        Holder(
            pid, pid, name if pid == 1234 else comm, unit, int((now + (then - now) * part) * MIB), 0, value
        )
        for pid, _, comm, unit, now, then, value in PROCESSES
    ]
    holders.sort(key=lambda one: one.rss_kib / 6144 + one.oom_score_adj, reverse=True)
    left = Left(int((2900 - 2800 * part) * MIB), 6 * GIB, int(512 * MIB * (1 - part)), 512 * MIB)
    at = KILLED_AT - seconds
    return Sample(at, 9000.0 - seconds, left, 7 * GIB, round(40 * part, 1), tuple(holders))
