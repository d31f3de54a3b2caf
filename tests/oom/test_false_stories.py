"""What a report must not claim: names, joins and reasons that a log does not have."""

import pytest

import oom_formats as formats
from oomguard.core.policy import Policy
from oomguard.oom.backtest import Backtester
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import Finding, examine
from oomguard.oom.report import Report
from oomguard.report.postmortem import Incident, facts, headline

SYSRQ = "SysRq-f asked for it (a key, or /proc/sysrq-trigger)"

HEADER = "mem_use invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0"
KILLED = "Killed process {} ({}) total-vm:400000kB, anon-rss:160000kB, file-rss:0kB"
CHOSEN = "Out of memory: Kill process {} ({}) score 431 or sacrifice child"
CONTEXT = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/,task={},pid={},uid=0"
)


def read(*lines: str) -> list[Report]:
    """Read a log of these lines."""
    return list(OomLog().read(["\n".join(lines)]))


def found(*lines: str) -> Finding:
    """Examine the only report of a log."""
    (report,) = read(*lines)
    return examine(report)


def pids(reports: list[Report]) -> list[list[int]]:
    """Return the victims of each report."""
    return [[kill.pid for kill in report.kills] for report in reports]


def shown(finding: Finding) -> dict[str, str]:
    """Return what is said of a report, by the word in front."""
    return dict(facts(Incident(1, finding)))


@pytest.mark.parametrize("prefix", ["    Sep 26 19:38:54 h kernel: ", "node-7 KMSG ", "> > ", "\t| "])
def test_prefix_is_no_part_of_a_name(prefix: str) -> None:
    """However it looks: the lines around it have it, too."""
    lines = [HEADER, "Mem-Info:", CHOSEN.format(5450, "mem_use"), KILLED.format(5450, "mem_use")]
    (report,) = read(*(prefix + line for line in lines))
    assert report.invoker is not None
    assert report.invoker.comm == "mem_use"
    assert pids([report]) == [[5450]]


def test_name_that_does_not_fit_is_taken_from_the_next_line() -> None:
    """A name has 15 bytes, so the beginning of the line is something else."""
    cpu = "CPU: 0 PID: 7 Comm: mem_use Kdump: loaded Not tainted 5.4.0 #1"
    finding = found(f"[    1.000000] some driver: {HEADER}", f"[    1.000001] {cpu}")
    assert finding.report.invoker is not None
    assert (finding.report.invoker.comm, finding.report.invoker.pid) == ("mem_use", 7)
    assert found(f"[    1.000000] some driver: {HEADER}").report.invoker.comm == ""  # type: ignore[union-attr]


def test_name_of_more_than_15_bytes_is_no_name() -> None:
    """Escaped bytes count once."""
    assert read(KILLED.format(7, "x" * 16)) == []
    assert pids(read(KILLED.format(7, "#033" * 15))) == [[7]]
    assert pids(read(KILLED.format(7, "\ufffd" * 15))) == [[7]]
    assert pids(read(KILLED.format(7, "ä" * 7))) == [[7]]
    assert read(KILLED.format(7, "ä" * 8)) == []
    assert read(CONTEXT.format("x" * 16, 7)) == []


def test_line_below_a_kill_is_no_part_of_a_name() -> None:
    """Where no figures show that the line ends, as before 2.6.34: it may seem wrapped."""
    prefix = "  107 | 2026-10-12 19:00:20 | [ 8523.347107] "
    (report,) = read(f"{prefix}Out of memory: Killed process 5430 (httpd).\n(70 rows)\n")
    assert [(kill.pid, kill.comm) for kill in report.kills] == [(5430, "httpd")]


def test_report_during_which_the_clock_is_set_is_one() -> None:
    """A host without a clock of its own learns the time when its network is up."""
    lines = formats.host_report(formats.KERNELS[-1])
    times = [("Jan  1 00:00:20", at) for at in range(20)] + [("Oct 12 19:00:20", at) for at in range(20, 99)]
    text = [
        f"{when} pi kernel: [   20.{at:03}000] {line}" for (when, at), line in zip(times, lines, strict=False)
    ]
    (report,) = read(*text)
    assert (report.invoker is not None, len(report.tasks), len(report.kills)) == (True, 4, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Oct 12 19:00:20 db1 kernel: ", "Oct 13 19:00:20 db1 kernel: "),
        ("2026-10-12T19:00:20+02:00 db1 kernel: ", "2026-10-13T19:00:20+02:00 db1 kernel: "),
        ("[ 8523.347168] ", "[94923.347168] "),
        ("[Di Mär  4 12:00:01 2025] ", "[Mi Mär  5 12:00:01 2025] "),
        ("Oct 12 19:00:20 db1 kernel: [ 8523.347168] ", "Oct 16 19:00:20 db1 kernel: [ 8523.447168] "),
    ],
)
def test_kills_of_two_days_are_two(first: str, second: str) -> None:
    """A group's, the same pid's, or those of a choice and a child."""
    group = formats.GROUP_5_15.splitlines()
    mysqld = KILLED.format(777, "mysqld")
    assert pids(read(*(first + line for line in group), second + mysqld)) == [[900, 901], [777]]
    assert pids(read(first + mysqld, second + mysqld)) == [[777], [777]]
    reports = read(first + CHOSEN.format(10, "aaa"), second + KILLED.format(20, "bbb"))
    assert pids(reports) == [[], [20]]
    assert reports[0].chosen is not None


def test_kill_around_midnight_is_one() -> None:
    """The day changes within a report."""
    reports = read(
        f"Oct 12 23:59:59 db1 kernel: {CHOSEN.format(10, 'aaa')}",
        f"Oct 13 00:00:00 db1 kernel: {KILLED.format(10, 'aaa')}",
    )
    assert pids(reports) == [[10]]


def test_context_and_kill_of_two_processes_are_two_reports() -> None:
    """The pids must agree."""
    reports = read(CONTEXT.format("a", 1733), KILLED.format(1734, "b"))
    assert [report.context is not None for report in reports] == [True, False]
    assert pids(reports) == [[], [1734]]
    assert pids(read(CONTEXT.format("a", 1733), KILLED.format(1733, "a"))) == [[1733]]


def test_leader_that_ended_was_killed_by_its_thread() -> None:
    """The kernel names the thread that still has the memory, in the table and in the kill."""
    heading = "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name"
    row = "[   1734]     0  1733    100000    40000   118784        0             0 a"
    (report,) = read(heading, row, CONTEXT.format("a", 1733), KILLED.format(1734, "a"))
    assert pids([report]) == [[1734]]


def test_group_has_one_message_and_a_pid_one_name() -> None:
    """Without times, too: another message or name is of another kill."""
    group, mysqld = formats.GROUP_5_15.splitlines(), KILLED.format(777, "mysqld")
    assert pids(read(*group, f"Out of memory: {mysqld}")) == [[900, 901], [777]]
    assert pids(read(mysqld, KILLED.format(777, "nginx"))) == [[777], [777]]
    assert pids(read(mysqld, mysqld)) == [[777]]


def test_page_size_follows_from_any_victim() -> None:
    """The first may be in no row; without one that is, the size is an assumption."""
    lines = formats.MEMCG_64K.splitlines()
    group = "Tasks in /app.slice are going to be killed due to memory.oom.group set"
    other = lines[-1].replace("process 50", "process 49")
    context = lines[-2].replace("pid=50", "pid=49")
    assert found(*lines[:-2], context, other, group, lines[-1]).report.memory.page_kib == 64
    assert "pages of 4 KiB" in shown(found(*lines[:-1]))["Assumed"]
    assert "pages of 4 KiB" not in shown(found(*lines)).get("Assumed", "")


def test_page_size_of_a_cgroup_follows_from_the_kill() -> None:
    """A memory cgroup's report does not show it: total-vm in KiB by total_vm in pages."""
    finding = found(*formats.MEMCG_64K.splitlines())
    assert finding.report.memory.page_kib == 64
    assert finding.report.tasks[0].page_tables == 100
    assert finding.victim is not None
    assert finding.victim.badness == 12000 + 100
    assert "756.2 MiB: 750.0 MiB in RAM + 6.2 MiB of page tables" in shown(finding)["Why"]


def test_value_that_decided_is_the_others() -> None:
    """The victim has 0; a larger process was protected."""
    finding = found("\n".join(formats.host_report(formats.KERNELS[-1], values=(0, 0, -500, 0))))
    assert finding.victim is not None
    assert finding.victim.task.oom_score_adj == 0
    next_one = shown(finding)["Next"]
    assert "postgres[903] (372.3 MiB) has oom_score_adj -500; with 0 it would have been" in next_one


def test_bonus_of_root_is_taken_where_the_score_has_it() -> None:
    """Uid 0 need not have CAP_SYS_ADMIN; the kernel's own score tells."""
    lines = formats.CHILD_3_19.replace("[ 9772]   500  9772", "[ 9772]     0  9772").splitlines()
    for score, bonus in (("940", "none"), ("910", "usage")):
        finding = found(*(line.replace("score 940", f"score {score}") for line in lines))
        assert finding.era is not None
        assert finding.era.root_bonus == bonus
        assert not any("CAP_SYS_ADMIN" in text for text in finding.assumed)


def test_thread_that_was_chosen_is_no_parent() -> None:
    """RHEL 7 names a thread of the victim: it has no row, and may have a name of its own."""
    lines = formats.CHILD_3_19.replace("Kill process 9772", "Kill process 9999").splitlines()
    lines = [line.replace("Killed process 9787", "Killed process 9772") for line in lines]
    finding = found(*lines)
    assert finding.why == "highest"
    assert examine(finding.report._replace(rows_left_out=1)).why == "child"
    assert found(CHOSEN.format(9999, "a"), KILLED.format(9772, "ruby")).why == "child"
    assert found(*(line.replace("9999 (ruby)", "9999 (GC Thread#1)") for line in lines)).why == "highest"
    assert found(*(line.replace("[ 9787]", "[ 97O7]") for line in lines)).why == "child"  # a row is unread


def test_cgroup_is_known_without_its_constraint() -> None:
    """5.0 prints CONSTRAINT_NONE; a stack, or nothing to kill without a panic, say it as well."""
    context = (
        CONTEXT.format("a", 7).replace("global_oom", "oom_memcg=/a").replace("task_memcg=/", "task_memcg=/a")
    )
    kill = "Memory cgroup out of memory: " + KILLED.format(7, "a")
    finding = found(HEADER, context, kill)
    assert (finding.constraint, finding.report.oom_memcg) == ("memcg", "/a")
    assert found(HEADER, "Out of memory and no killable processes...").constraint == "memcg"
    assert found(HEADER, " mem_cgroup_out_of_memory+0x4b/0x80", KILLED.format(7, "a")).constraint == "memcg"
    arm = " mem_cgroup_out_of_memory from try_charge_memcg+0x6df/0x7a0"
    assert found(HEADER, arm, KILLED.format(7, "a")).constraint == "memcg"
    assert found(HEADER, " pagefault_out_of_memory+0x44/0x44", KILLED.format(7, "a")).constraint == "none"
    for ending in ("Out of memory and no killable processes...", "out of memory. panic_on_oom is selected"):
        assert found(HEADER, f"Kernel panic - not syncing: {ending}").constraint == "none"  # before 4.20
    panic = "Kernel panic - not syncing: System is deadlocked on memory"
    finding = found(HEADER, "Out of memory and no killable processes...", panic)
    assert finding.constraint == "none"
    assert headline(finding).startswith("The kernel panicked")


def test_policy_that_changes_nothing_kills_nobody_else() -> None:
    """If the kernel did not kill the first by this calculation, neither does an empty policy."""
    text = "\n".join(formats.host_report(formats.KERNELS[-1], values=(0, 0, 0, 0)))
    for finding in (found(text), found(formats.CHILD_3_19), found(formats.ALLOCATING_TABLE)):
        backtest = Backtester(Policy()).replay(finding)
        assert backtest is not None
        assert backtest.result == "same"


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("line", [CONTEXT, CHOSEN])
def test_choice_alone_is_a_report(line: str, count: int) -> None:
    """As `grep -i oom` leaves it: what was chosen, and that the kill is missing."""
    names = ["a", "b", "c", "d", "e"][:count]
    lines = [
        line.format(*((name, at) if line is CONTEXT else (at, name))) for at, name in enumerate(names, 7)
    ]
    reports = read(*lines)
    assert [(report.chosen.pid, report.chosen.comm) for report in reports if report.chosen] == [
        (at, name) for at, name in enumerate(names, 7)
    ]
    assert pids(reports) == [[]] * count
    assert headline(examine(reports[0])) == (
        "a[7] was chosen: the host ran out of memory; the line about its kill is missing."
    )


def test_headers_of_4_11_to_4_14_are_read() -> None:
    """They have two spaces before the order."""
    mask = "0x14201ca(GFP_HIGHUSER_MOVABLE|__GFP_COLD), nodemask=(null)"
    invoker = found(f"a invoked oom-killer: gfp_mask={mask},  order=3, oom_score_adj=5").report.invoker
    assert invoker is not None
    assert (invoker.comm, invoker.order, invoker.oom_score_adj) == ("a", 3, 5)


def test_memory_of_2_6_18_is_read() -> None:
    """`Mem-info:`, `pages of RAM`, and a score that ends otherwise."""
    report = found(*formats.RHEL5.splitlines()).report
    assert (report.memory.ram_pages, report.memory.swap_free_kib) == (524288, 0)
    (report,) = read(
        "Out of memory: Kill process 7 (a) score 12 and children.", "Out of memory: Killed process 7 (a)."
    )
    assert report.choice is not None
    assert report.choice.score == 12


@pytest.mark.parametrize(
    ("message", "constraint", "why"),
    [
        ("Out of memory (oom_kill_allocating_task)", "none", "allocating"),
        ("Memory cgroup out of memory", "memcg", "unknown"),
        ("No available memory in cpuset", "cpuset", "unknown"),
        ("No available memory (MPOL_BIND)", "memory-policy", "unknown"),
    ],
)
def test_message_of_a_choice_is_read(message: str, constraint: str, why: str) -> None:
    """Kernels before 5.1 print it there only."""
    finding = found(f"{message}: Kill process 7 (a) score 9 or sacrifice child", KILLED.format(7, "a"))
    assert (finding.constraint, finding.why) == (constraint, why)
    finding = found(f"{message}: Killed process 7 (a).")  # as 2.6.18 prints it
    assert (finding.constraint, finding.why) == (constraint, why)


def test_victim_that_exits_is_told_behind_its_message() -> None:
    """The line has the message of a kill in front."""
    finding = found(HEADER, "Out of memory: OOM victim 7 (a) is already exiting. Skip killing the task")
    assert headline(finding).startswith("No process was killed, because one was already exiting")


def test_rhel_6_is_ranked_by_the_formula_it_has() -> None:
    """Its release is older than the formula, which it has backported."""
    release = "2.6.32-754.el6.x86_64"
    lines = formats.host_report(formats.KERNELS[0]._replace(release=release))
    finding = found("\n".join(lines).replace("2.6.39 #1", f"{release} #1"))
    assert finding.report.release == release
    assert finding.why == "highest"


def test_order_needs_no_total_where_no_value_matters() -> None:
    """With 0 for all, the largest is first however large memory is."""
    lines = formats.host_report(formats.KERNELS[-1], values=(0, 0, 0, 0))
    lines = [line for line in lines if "pages" not in line or "Tasks" in line]
    finding = found("\n".join(lines))
    assert finding.total_pages is None
    assert finding.ranked[0].task.comm == "postgres"
    assert "not ranked" not in shown(finding)["Missing"]


def test_key_that_was_pressed_is_told_by_its_own_line() -> None:
    """Before Linux 4.2 the header does not show it, and a panic has none."""
    lines = formats.host_report(formats.KERNELS[1])
    for key in ("SysRq : Manual OOM execution", "sysrq: Manual OOM execution"):
        assert found(key, *lines).why == "sysrq"
        panic = "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled"
        assert headline(found(key, panic)) == f"The kernel panicked: {SYSRQ}."
    first, second = read(f"[    1.0] {key}", f"[    1.1] {HEADER}", f"[    9.0] {HEADER}")
    assert (first.is_sysrq, second.is_sysrq) == (True, False)
    assert not found(f"[    1.0] {key}", f"[  999.0] {HEADER}").report.is_sysrq
    other = HEADER.replace("0x201da,", "0xcc0(GFP_KERNEL),")
    assert not found(f"[    1.0] {key}", f"[    1.1] {other}").report.is_sysrq  # Linux would print -1


def test_victim_is_before_others_of_its_badness() -> None:
    """A cgroup is scanned in another order than the table has, and small sums are cut off."""
    lines = formats.host_report(formats.KERNELS[3], values=(-999, -1000, -999, -999))
    finding = found("\n".join(lines))
    assert finding.why == "highest"
    assert [place.place for place in finding.ranked] == [1, 2, 3, None]


def test_reserved_pages_below_zero_are_no_memory_lost() -> None:
    """A kernel prints the difference without a sign."""
    lines = "\n".join(formats.host_report(formats.KERNELS[3]))
    for bits in (32, 64):
        reserved = f"{2**bits - 1849} pages reserved"
        finding = found(lines.replace(f"{formats.RESERVED_PAGES} pages reserved", reserved))
        assert finding.report.memory.total_pages == formats.RAM_PAGES + 1849
    assert found(*formats.RHEL5.splitlines()).report.memory.total_pages == 524288 - 11000


@pytest.mark.parametrize("reserved", [f"{2**32 - 1849}", "295"])
def test_reserved_pages_without_those_of_cma_are_no_memory_gained(reserved: str) -> None:
    """Kernels around 4.1 print so many fewer, below zero if CMA has more. The zones are right."""
    lines = "\n".join(formats.host_report(formats.KERNELS[2]))
    lines = lines.replace(f"{formats.RAM_PAGES} pages RAM", "262000 pages RAM")
    lines = lines.replace(f"{formats.RESERVED_PAGES} pages reserved", f"{reserved} pages reserved")
    assert found(lines).report.memory.total_pages == 250000


@pytest.mark.parametrize(
    "ending",
    [
        "Out of memory and no killable processes...",
        "Kernel panic - not syncing: System is deadlocked on memory",
    ],
)
def test_kill_behind_the_end_of_a_report_is_another_ones(ending: str) -> None:
    """Its own lines may be left out, or rate-limited. A cgroup that could kill nothing is not its reason."""
    first, second = read(f"[    1.0] {HEADER}", f"[    1.1] {ending}", "[    1.9] Killed process 9 (b)")
    assert (first.ending, first.kills) == (ending, ())
    assert headline(examine(second)) == "b[9] was killed: memory ran out."


def test_formula_of_2_6_18_is_not_assumed_to_be_new() -> None:
    """It begins the line of a kill as 5.1 does."""
    finding = found("oom-killer: gfp_mask=0x201d2, order=0", "Out of memory: Killed process 7, UID 9, (a).")
    assert finding.era is None


@pytest.mark.parametrize(
    ("mask", "nodes", "constraint"),
    [
        ("0x280da", "1", "cpuset"),
        ("0x24280ca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO)", "1", "cpuset"),
        ("0x24200c0(GFP_KERNEL|__GFP_HARDWALL)", "1", "cpuset"),
        ("0x280da", "0-1", "none"),
        ("0x280da", "0-99999999999", "none"),
        ("0xd0", "1", "none"),
        ("0x24000c0(GFP_KERNEL)", "1", "none"),
    ],
)
def test_cpuset_is_known_before_its_name_is_printed(mask: str, nodes: str, constraint: str) -> None:
    """Before 5.0 only the nodes show it, and the kernel's own allocations are not limited."""
    lines = [line for line in formats.CPUSET_5_10.splitlines() if not line.startswith("oom-kill:")]
    lines[0] = f"batch invoked oom-killer: gfp_mask={mask}, order=0, oom_score_adj=0"
    lines.insert(1, f"batch cpuset=batch mems_allowed={nodes}")
    finding = found(*(f"[    1.000000] {line}" for line in lines))
    assert finding.constraint == constraint
    assert finding.total_pages == (1_000_000 if constraint == "cpuset" else 2_975_000)


@pytest.mark.parametrize(
    ("nodemask", "constraint"),
    [
        *(("(null), ", "none"), ("(null),", "none"), ("0-1, ", "none"), ("0-1,3,", "none")),
        *(("1, ", "memory-policy"), ("1,", "memory-policy")),
    ],
)
def test_memory_policy_is_known_by_the_nodes_in_the_header(nodemask: str, constraint: str) -> None:
    """As 4.10 to 4.20 print them; their line of the kill is the same for any limit."""
    lines = [line for line in formats.CPUSET_5_10.splitlines() if not line.startswith("oom-kill:")]
    mask = "0x14000c0(GFP_KERNEL)"
    lines[0] = f"a invoked oom-killer: gfp_mask={mask}, nodemask={nodemask} order=0, oom_score_adj=0"
    lines.insert(1, "a cpuset=/ mems_allowed=0-1")
    finding = found(*lines)
    assert finding.constraint == constraint
    assert finding.report.invoker is not None
    assert (finding.report.invoker.comm, finding.report.invoker.order) == ("a", 0)
    if constraint == "memory-policy":
        assert (
            headline(finding)
            == "batch[900] was killed: memory node 1 of its memory policy ran out of memory."
        )


def test_policy_does_not_claim_a_kill_that_the_log_does_not_show() -> None:
    """A panic killed nothing, and a report without its end does not show what."""
    finding = found(*formats.PANIC_6_1.splitlines())
    told = Incident(1, finding, backtest=Backtester(Policy()).replay(finding), policy="p.yaml")
    assert dict(facts(told))["Policy"] == (
        "Under p.yaml, first in the kill order would be stress[900] (oom_score_adj 0, no rule)."
    )


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2)])
def test_choices_that_interleave_are_not_joined_with_the_other_kill(order: tuple[int, ...]) -> None:
    """Nothing is lost, and no kill has the other's cgroup."""
    lines = [
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),"
        f"oom_memcg={path},task_memcg={path},task=a,pid={pid},uid=0"
        for path, pid in (("/x", 7), ("/y", 8))
    ] + [
        f"Memory cgroup out of memory: Killed process {pid} (a) total-vm:9kB, anon-rss:9kB" for pid in (7, 8)
    ]
    log = OomLog()
    reports = list(log.read(["\n".join(f"[   10.00000{at}] {lines[at]}" for at in order)]))
    found = {(one.oom_memcg, kill.pid) for one in reports for kill in one.kills}
    assert found <= {("/x", 7), ("/y", 8), ("", 7), ("", 8)}
    assert sorted(kill.pid for one in reports for kill in one.kills) == [7, 8]
    assert {one.oom_memcg: one.chosen.pid for one in reports if one.chosen is not None} == {"/x": 7, "/y": 8}
    assert log.unread.count == 0


def test_kill_that_a_group_has_twice_is_one_without_the_line_between() -> None:
    """The kernel prints the first victim again, and `grep` leaves only the kills."""
    kills = [line for line in formats.GROUP_5_15.splitlines() if "Killed process" in line]
    assert pids(read(*kills, *kills[:1])) == [[900], [901]]
    assert pids(read(f"[    1.000000] {kills[0]}", f"[99999.000000] {kills[0]}")) == [[900], [900]]


def test_lines_behind_the_name_of_who_pasted_them_are_read() -> None:
    """The date of a chat is no mark of the kernel's."""
    lines = formats.host_report(formats.KERNELS[-1])
    (report,) = read("[12.10.26 19:00] Anna: look", *lines)
    assert (len(report.kills), len(report.tasks)) == (1, 4)
