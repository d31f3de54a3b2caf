"""The kernel's lines about a kill, in every form it has printed them."""

import pytest

from oomguard.oom.kill import Context, Kill, parse_context, parse_kill

KILLS = {
    "2.6.9": ("Out of Memory: Killed process 7 (httpd).", Kill(7, "httpd", "Out of Memory")),
    "2.6.32": ("Killed process 7 (httpd)", Kill(7, "httpd")),
    "2.6.34": (
        "Killed process 7 (httpd) vsz:900kB, anon-rss:500kB, file-rss:20kB",
        Kill(7, "httpd", total_vm_kib=900, anon_rss_kib=500, file_rss_kib=20),
    ),
    "2.6.32-el6": (
        "Killed process 7, UID 48, (httpd) total-vm:900kB, anon-rss:500kB, file-rss:20kB",
        Kill(7, "httpd", uid=48, total_vm_kib=900, anon_rss_kib=500, file_rss_kib=20),
    ),
    "3.10-el7": (
        "Killed process 7 (httpd), UID 48, total-vm:900kB, anon-rss:500kB, file-rss:20kB, shmem-rss:1kB",
        Kill(7, "httpd", uid=48, total_vm_kib=900, anon_rss_kib=500, file_rss_kib=20, shmem_rss_kib=1),
    ),
    "4.19": (
        "Killed process 7 (httpd) total-vm:900kB, anon-rss:500kB, file-rss:20kB, shmem-rss:0kB",
        Kill(7, "httpd", total_vm_kib=900, anon_rss_kib=500, file_rss_kib=20, shmem_rss_kib=0),
    ),
    "5.1": (
        "Out of memory: Killed process 7 (httpd) total-vm:900kB, anon-rss:500kB, file-rss:20kB",
        Kill(7, "httpd", "Out of memory", total_vm_kib=900, anon_rss_kib=500, file_rss_kib=20),
    ),
    "6.12": (
        (
            "Memory cgroup out of memory: Killed process 7 (httpd) total-vm:900kB, anon-rss:500kB, "
            "file-rss:20kB, shmem-rss:0kB, UID:48 pgtables:44kB oom_score_adj:-900"
        ),
        Kill(7, "httpd", "Memory cgroup out of memory", 48, -900, 900, 500, 20, 0, 44),
    ),
    "6.12, root": (
        (
            "Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:5kB, file-rss:2kB, shmem-rss:0kB, "
            "UID:0 pgtables:4kB oom_score_adj:0"
        ),
        Kill(7, "a", "Out of memory", 0, 0, 9, 5, 2, 0, 4),
    ),
    "allocating task": (
        "Out of memory (oom_kill_allocating_task): Killed process 7 (a) total-vm:9kB",
        Kill(7, "a", "Out of memory (oom_kill_allocating_task)", total_vm_kib=9),
    ),
}


@pytest.mark.parametrize("kernel", KILLS)
def test_kill_is_read_from_the_line_of_each_kernel(kernel: str) -> None:
    """Whatever a kernel printed of its victim is told, and nothing else."""
    line, kill = KILLS[kernel]
    assert parse_kill(line) == kill


@pytest.mark.parametrize(
    "comm", ["", "a b", "x) total-vm:9kB", "(sd-pam)", "a\nOut of memo", ") UID:0", "Killed process", "),"]
)
def test_name_cannot_be_taken_for_figures(comm: str) -> None:
    """A name ends at the last parenthesis before the figures, whatever it looks like."""
    line = f"Out of memory: Killed process 7 ({comm}) total-vm:900kB, anon-rss:5kB, UID:48 oom_score_adj:3"
    kill = parse_kill(line)
    assert kill == Kill(7, comm, "Out of memory", 48, 3, 900, 5)


@pytest.mark.parametrize("cut", range(45, 115))
def test_line_that_is_cut_has_whole_figures(cut: int) -> None:
    """A terminal or a mail often cuts the end off; half a number is none."""
    line = (
        "Out of memory: Killed process 7 (httpd) total-vm:9000kB, anon-rss:5000kB, file-rss:200kB, "
        "shmem-rss:100kB, UID:48"
    )
    kill = parse_kill(line[:cut])
    assert kill is not None
    assert kill.total_vm_kib in (None, 9000)
    assert kill.anon_rss_kib in (None, 5000)
    assert kill.file_rss_kib in (None, 200)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Killed process",
        "Killed process x (a)",
        "Killed process 7 a",
        "earlyoom: Killed process 7 (a)",
        "he said: it was an omen. Killed process 7 (a)",
        "[  900.1] Out of memory: Killed process 7 (a)",
        "oom_reaper: reaped process 7 (a), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
        "Out of memory: Kill process 7 (a) score 9 or sacrifice child",
    ],
)
def test_other_lines_are_no_kills(line: str) -> None:
    """Only the kernel's own sentence, from the beginning of the line to its end, is a kill."""
    assert parse_kill(line) is None


def test_global_context_is_read() -> None:
    """When the whole host was out of memory, no cgroup's limit was hit."""
    line = (
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        "task_memcg=/system.slice/db.service,task=postgres,pid=356,uid=26"
    )
    assert parse_context(line) == Context(
        "none", 356, "postgres", 26, task_memcg="/system.slice/db.service", nodes="0"
    )


def test_context_of_a_cgroup_without_cpusets_is_read() -> None:
    """A kernel without CONFIG_CPUSETS says nothing of them."""
    line = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=0-1,oom_memcg=/a,task_memcg=/a/b,task=x,pid=3,uid=0"
    assert parse_context(line) == Context("memcg", 3, "x", 0, "/a", "/a/b", nodes="0-1")


@pytest.mark.parametrize("comm", ["", "a,task=b", ",pid=1,uid=0", "b,pid=7", "a\nb"])
def test_name_cannot_be_taken_for_fields(comm: str) -> None:
    """Neither what a name says of a pid nor what it says of a task is believed."""
    line = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,"
        f"task_memcg=/a/some,task=thing-or-other,task={comm},pid=3,uid=9"
    )
    context = parse_context(line)
    assert context is not None
    assert (context.pid, context.uid, context.comm) == (3, 9, comm)
    assert context.task_memcg == "/a/some,task=thing-or-other"


def test_name_cannot_be_taken_for_the_field_where_the_kernel_has_no_memory_cgroups() -> None:
    """Nothing is left out before `task=` there."""
    line = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task=x task=y,pid=3,uid=9"
    assert parse_context(line) == Context("none", 3, "x task=y", 9)


@pytest.mark.parametrize(
    "line",
    [
        "oom-kill:constraint=CONSTRAINT_OTHER,nodemask=(null),global_oom,task_memcg=/,task=a,pid=1,uid=0",
        "oom-kill:constraint=CONSTRAINT_NONE",
        "some oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/,task=a,pid=1,uid=0",
    ],
)
def test_other_lines_are_no_contexts(line: str) -> None:
    """A line that was cut short, or is another's, says nothing."""
    assert parse_context(line) is None
