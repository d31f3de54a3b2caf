"""Reports as each generation of kernels prints them, written from its own print formats.

The formats are those of mm/oom_kill.c (dump_header, dump_tasks, oom_kill_process) and mm/memcontrol.c
(mem_cgroup_print_oom_info) of the release that names each; all tell of the same host and the same death.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """A process of the table, in pages."""

    pid: int
    uid: int
    rss: int
    page_tables: int
    swap: int
    value: int
    comm: str


ROWS = (
    Row(240, 0, 900, 20, 100, -250, "systemd-journal"),
    Row(812, 0, 1200, 14, 0, -1000, "sshd"),
    Row(903, 26, 90000, 300, 5000, 0, "postgres"),
    Row(1377, 1000, 40000, 120, 3000, 300, "report (new) x"),
)
VICTIM = ROWS[3]
"""With 300 thousandths of a GiB it is ahead of the one that holds twice as much."""

RAM_PAGES, RESERVED_PAGES, SWAP_KIB = 262005, 12005, 524288


class Kernel(NamedTuple):
    """How one release prints."""

    release: str
    header: str
    cpu: str
    columns: str
    kill: str
    choice: str = ""
    context: bool = False
    has_swap: bool = True
    has_page_tables: bool = True
    further: tuple[str, ...] = ()
    """Lines between those about memory and the table."""


_TOTAL = "total-vm:400000kB, anon-rss:160000kB, file-rss:0kB"

KERNELS = (
    Kernel(
        "2.6.39",
        "{comm} invoked oom-killer: gfp_mask=0x201da, order=0, oom_adj=0, oom_score_adj=0",
        "Pid: {pid}, comm: {comm} Not tainted 2.6.39 #1",
        "[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name",
        f"Killed process {{pid}} ({{comm}}) {_TOTAL}",
        "Out of memory: Kill process {pid} ({comm}) score 431 or sacrifice child",
        has_swap=False,
        has_page_tables=False,
    ),
    Kernel(
        "3.10.0-514.el7.x86_64",
        "{comm} invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0",
        "CPU: 4 PID: {pid} Comm: {comm} Not tainted 3.10.0-514.el7.x86_64 #1",
        "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name",
        f"Killed process {{pid}} ({{comm}}), UID {{uid}}, {_TOTAL}",
        "Out of memory: Kill process {pid} ({comm}) score 413 or sacrifice child",
    ),
    Kernel(
        "4.4.0-21-generic",
        "{comm} invoked oom-killer: gfp_mask=0x24201ca, order=0, oom_score_adj=0",
        "CPU: 0 PID: {pid} Comm: {comm} Tainted: G        W       4.4.0-21-generic #37-Ubuntu",
        "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name",
        f"Killed process {{pid}} ({{comm}}) {_TOTAL}",
        "Out of memory: Kill process {pid} ({comm}) score 413 or sacrifice child",
    ),
    Kernel(
        "4.19.0-9-amd64",
        "{comm} invoked oom-killer: gfp_mask=0x6200ca(GFP_HIGHUSER_MOVABLE), nodemask=(null), order=0, "
        "oom_score_adj=0",
        "CPU: 0 PID: {pid} Comm: {comm} Kdump: loaded Not tainted 4.19.0-9-amd64 #1",
        "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
        f"Killed process {{pid}} ({{comm}}) {_TOTAL}, shmem-rss:0kB",
        "Out of memory: Kill process {pid} ({comm}) score 413 or sacrifice child",
    ),
    Kernel(
        "5.4.0-26-generic",
        "{comm} invoked oom-killer: gfp_mask=0x100dca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO), order=0, "
        "oom_score_adj=0",
        "CPU: 1 PID: {pid} Comm: {comm} Not tainted 5.4.0-26-generic #30-Ubuntu",
        "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
        f"Out of memory: Killed process {{pid}} ({{comm}}) {_TOTAL}, shmem-rss:0kB, UID:{{uid}} "
        "pgtables:480kB oom_score_adj:300",
        context=True,
    ),
    Kernel(
        "6.12.1",
        "{comm} invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, "
        "oom_score_adj=0",
        "CPU: 1 UID: 0 PID: {pid} Comm: {comm} Tainted: [W]=WARN, [O]=OOT_MODULE 6.12.1 #1",
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents "
        "oom_score_adj name",
        f"Out of memory: Killed process {{pid}} ({{comm}}) {_TOTAL}, shmem-rss:0kB, UID:{{uid}} "
        "pgtables:480kB oom_score_adj:300",
        context=True,
    ),
    Kernel(
        "7.0.0",
        "{comm} invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, "
        "oom_score_adj=0",
        "CPU: 1 UID: 0 PID: {pid} Comm: {comm} Kdump: loaded Not tainted 7.0.0 #1 PREEMPT(lazy)",
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents "
        "oom_score_adj name",
        f"Out of memory: Killed process {{pid}} ({{comm}}) {_TOTAL}, shmem-rss:0kB, UID:{{uid}} "
        "pgtables:480kB oom_score_adj:300",
        context=True,
        further=("Memory cgroup min protection 0kB -- low protection 0kB",),
    ),
)

MEM_INFO = (
    "Mem-Info:",
    "active_anon:132000 inactive_anon:1000 isolated_anon:0",
    " active_file:29 inactive_file:186 isolated_file:0",
    " slab_reclaimable:1000 slab_unreclaimable:2000",
    " mapped:10 shmem:19 pagetables:700",
    " free:12163 free_pcp:0 free_cma:0",
    "Node 0 DMA32 free:48000kB min:44kB low:55kB high:66kB present:1048000kB managed:1000000kB mlocked:0kB",
    "lowmem_reserve[]: 0 0 0 0",
    "Node 0 DMA32: 375*4kB (UE) 204*8kB (UME) = 43804kB",
    "84 total pagecache pages",
    "0 pages in swap cache",
    "Free swap  = 0kB",
    f"Total swap = {SWAP_KIB}kB",
    f"{RAM_PAGES} pages RAM",
    f"{RESERVED_PAGES} pages reserved",
)


def table(kernel: Kernel, values: "tuple[int, ...]" = ()) -> list[str]:
    """Return the task table as this kernel prints it, with other values of oom_score_adj."""
    lines = [kernel.columns]
    names = kernel.columns.replace("[", " ").replace("]", " ").split()
    for at, row in enumerate(ROWS):
        figures = {
            "uid": row.uid,
            "tgid": row.pid,
            "total_vm": row.rss * 2,
            "rss": row.rss,
            "rss_anon": row.rss,
            "nr_ptes": row.page_tables,
            "pgtables_bytes": row.page_tables * 4096,
            "swapents": row.swap,
            "oom_score_adj": values[at] if values else row.value,
        }
        fields = " ".join(f"{figures.get(name, 0):8}" for name in names[1:-1])
        lines.append(f"[{row.pid:7}] {fields} {row.comm}")
    return lines


def host_report(kernel: Kernel, values: "tuple[int, ...]" = ()) -> list[str]:
    """Return the report of a host that ran out of memory, without anything in front of its lines."""
    fill = {"pid": VICTIM.pid, "comm": VICTIM.comm, "uid": VICTIM.uid}
    asking = {"pid": 77, "comm": "in:imjournal"}
    lines = [
        kernel.header.format(**asking),
        "in:imjournal cpuset=/ mems_allowed=0",
        kernel.cpu.format(**asking),
    ]
    lines += [
        "Call Trace:",
        " dump_stack+0x5c/0x80",
        " [<ffffffff81720bf6>] dump_header+0x6b/0x286",
        *MEM_INFO,
        *kernel.further,
    ]
    lines += ["Tasks state (memory values in pages):"] if "[  pid  ]" in kernel.columns else []
    lines += table(kernel, values)
    if kernel.context:
        lines.append(
            "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
            "task_memcg=/user.slice/user-1000.slice/session-3.scope,task={comm},pid={pid},uid={uid}".format(
                **fill
            )
        )
    lines += [kernel.choice.format(**fill)] if kernel.choice else []
    return [*lines, kernel.kill.format(**fill)]


RHEL5 = """\
httpd invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0
Mem-info:
Node 0 DMA per-cpu:
Free swap  =        0kB
Total swap = 2096472kB
524288 pages of RAM
11000 reserved pages
Out of memory: Killed process 5430, UID 48, (httpd).
"""

LINUX_2_6_32 = """\
mysqld invoked oom-killer: gfp_mask=0x201da, order=0, oom_adj=0
mysqld cpuset=/ mems_allowed=0
Pid: 4012, comm: mysqld Not tainted 2.6.32-5-amd64 #1
Mem-Info:
active_anon:380000 inactive_anon:100000 isolated_anon:0
 free:3400 slab_reclaimable:1700 slab_unreclaimable:3300
Free swap  = 0kB
Total swap = 1048568kB
524272 pages RAM
11000 pages reserved
[ pid ]   uid  tgid total_vm      rss cpu oom_adj name
[    1]     0     1     2000      100   0       0 init
[  812]     0   812    12000      200   1     -17 sshd
[ 4012]   101  4012   600000   350000   0       0 mysqld
Out of memory: kill process 4012 (mysqld) score 300000 or a child
Killed process 4012 (mysqld)
"""

MEMCG_3_16 = """\
sh invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
CPU: 1 PID: 900 Comm: sh Not tainted 3.16.0-4-amd64 #1 Debian 3.16.7
Task in /lxc/web/a killed as a result of limit of /lxc/web
memory: usage 65536kB, limit 65536kB, failcnt 36
memory+swap: usage 65536kB, limit 131072kB, failcnt 0
kmem: usage 0kB, limit 18014398509481983kB, failcnt 0
Memory cgroup stats for /lxc/web: cache:0KB rss:65536KB
[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name
[  900]     0   900     1000      500      10        0             0 sh
[  901]    33   901    90000    15000     100     9000             0 apache2
Memory cgroup out of memory: Kill process 901 (apache2) score 735 or sacrifice child
Killed process 901 (apache2) total-vm:360000kB, anon-rss:58000kB, file-rss:2000kB
"""

GROUP_5_15 = """\
worker invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
CPU: 1 PID: 900 Comm: worker Not tainted 5.15.0-1 #1
memory: usage 65536kB, limit 65536kB, failcnt 36
swap: usage 0kB, limit 0kB, failcnt 0
Memory cgroup stats for /app.slice:
anon 66000000
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    900]    33   900    20000    12000   118784        0             0 worker
[    901]    33   901     9000     3000    61440        0             0 helper
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/app.slice,\
task_memcg=/app.slice/web.service,task=worker,pid=900,uid=33
Memory cgroup out of memory: Killed process 900 (worker) total-vm:80000kB, anon-rss:48000kB, \
file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:116kB oom_score_adj:0
Tasks in /app.slice/web.service are going to be killed due to memory.oom.group set
Memory cgroup out of memory: Killed process 900 (worker) total-vm:80000kB, anon-rss:48000kB, \
file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:116kB oom_score_adj:0
Memory cgroup out of memory: Killed process 901 (helper) total-vm:36000kB, anon-rss:12000kB, \
file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:60kB oom_score_adj:0
oom_reaper: reaped process 900 (worker), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB
"""

PANIC_6_1 = """\
stress invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
CPU: 1 PID: 900 Comm: stress Not tainted 6.1.0-18-amd64 #1 Debian
Mem-Info:
active_anon:0 inactive_anon:0 isolated_anon:0
 free:12163 free_pcp:0 free_cma:0
Free swap  = 0kB
Total swap = 0kB
262005 pages RAM
12005 pages reserved
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    900]     0   900   200000   190000  1600000        0             0 stress
Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled
CPU: 1 PID: 900 Comm: stress Not tainted 6.1.0-18-amd64 #1 Debian
"""

CPUSET_5_10 = """\
batch invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0
CPU: 1 PID: 900 Comm: batch Not tainted 5.10.0-1 #1
Mem-Info:
active_anon:0 inactive_anon:0 isolated_anon:0
 free:900000 free_pcp:0 free_cma:0
Node 0 Normal free:3000000kB min:44kB low:55kB high:66kB present:8000000kB managed:8000000kB mlocked:0kB
Node 1 Normal free:4000kB min:44kB low:55kB high:66kB present:4000000kB managed:3900000kB mlocked:0kB
Node 0 Normal: 375*4kB (UE) = 43804kB
Free swap  = 0kB
Total swap = 0kB
3000000 pages RAM
25000 pages reserved
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    900]  1000   900   990000   980000  8000000        0             0 batch
oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=(null),cpuset=batch,mems_allowed=1,global_oom,\
task_memcg=/batch,task=batch,pid=900,uid=1000
Out of memory: Killed process 900 (batch) total-vm:3960000kB, anon-rss:3920000kB, file-rss:0kB, \
shmem-rss:0kB, UID:1000 pgtables:7812kB oom_score_adj:0
"""

CHILD_3_19 = """\
ruby invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0
CPU: 3 PID: 9772 Comm: ruby Not tainted 3.19.1 #1
Mem-Info:
active_anon:0 inactive_anon:0 isolated_anon:0
 free:13182 slab_reclaimable:1736 slab_unreclaimable:8268
Free swap  = 0kB
Total swap = 262140kB
511886 pages RAM
10170 pages reserved
[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name
[ 9772]   500  9772   545695   470615    1060    62734             0 ruby
[ 9787]   500  9787   127992    59739     257    62582             0 ruby
Out of memory: Kill process 9772 (ruby) score 940 or sacrifice child
Killed process 9787 (ruby) total-vm:511968kB, anon-rss:238956kB, file-rss:0kB
"""

ALLOCATING_6_1 = """\
worker invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
Out of memory (oom_kill_allocating_task): Killed process 900 (worker) total-vm:80000kB, anon-rss:48000kB, \
file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:116kB oom_score_adj:0
"""

PAGES_64K = """\
java invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
CPU: 3 PID: 50 Comm: java Not tainted 6.6.1 #1
Mem-Info:
active_anon:0 inactive_anon:0 isolated_anon:0
 free:1000 free_pcp:0 free_cma:0
Node 0 DMA: 10*64kB (UE) 4*128kB (UME) = 43804kB
Free swap  = 0kB
Total swap = 0kB
16384 pages RAM
384 pages reserved
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[     50]  1000    50    20000    12000  6553600        0             0 java
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
task_memcg=/,task=java,pid=50,uid=1000
Out of memory: Killed process 50 (java) total-vm:1280000kB, anon-rss:768000kB, file-rss:0kB, \
shmem-rss:0kB, UID:1000 pgtables:6400kB oom_score_adj:0
"""

MEMCG_64K = """\
java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
CPU: 3 PID: 50 Comm: java Not tainted 5.14.0-70.el9.ppc64le #1
memory: usage 1048576kB, limit 1048576kB, failcnt 36
swap: usage 0kB, limit 0kB, failcnt 0
Memory cgroup stats for /app.slice:
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[     50]  1000    50    20000    12000  6553600        0             0 java
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/app.slice,\
task_memcg=/app.slice/web.service,task=java,pid=50,uid=1000
Memory cgroup out of memory: Killed process 50 (java) total-vm:1280000kB, anon-rss:768000kB, \
file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:6400kB oom_score_adj:0
"""

ALLOCATING_TABLE = CHILD_3_19.replace(
    "Out of memory: Kill process 9772 (ruby) score 940",
    "Out of memory (oom_kill_allocating_task): Kill process 9787 (ruby) score 240",
)

TEXTS = (
    "RHEL5",
    "LINUX_2_6_32",
    "MEMCG_3_16",
    "GROUP_5_15",
    "PANIC_6_1",
    "CPUSET_5_10",
    "CHILD_3_19",
    "ALLOCATING_6_1",
    "PAGES_64K",
    "MEMCG_64K",
    "ALLOCATING_TABLE",
)
"""The names of the reports above."""
