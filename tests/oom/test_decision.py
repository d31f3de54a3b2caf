"""The decision behind a report, computed again: which process was ahead, by how much, and why."""

import re
from pathlib import Path

import pytest

import oom_formats as formats
from cpu import takes_at_most
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import Finding, examine, share_of
from oomguard.report.postmortem import Incident, facts, headline, paths

SYSRQ = "SysRq-f asked for it (a key, or /proc/sysrq-trigger)"

REPORTS = Path(__file__).parent.parent / "reports"


def found(text: str) -> Finding:
    """Examine the only report of a log."""
    (report,) = OomLog().read([text])
    return examine(report)


@pytest.mark.parametrize("kernel", formats.KERNELS, ids=lambda kernel: kernel.release)
def test_decision_of_each_kernel_is_understood(kernel: formats.Kernel) -> None:
    """The victim comes out first by each generation's own formula, and its value is what decided."""
    finding = found("\n".join(formats.host_report(kernel)))
    assert finding.total_pages == formats.RAM_PAGES - formats.RESERVED_PAGES + formats.SWAP_KIB // 4
    assert finding.constraint == "none"
    assert finding.why == "highest"
    assert finding.victim is not None
    assert finding.victim.place == 1
    assert finding.runner_up is not None
    assert finding.runner_up.task.comm == "postgres"
    assert finding.largest is not None
    assert finding.largest.task.comm == "postgres"
    assert [one.task.comm for one in finding.ranked if one.place is None][-1] == "sshd"


def test_sum_is_the_kernels() -> None:
    """RAM, swap and page tables in pages, and a thousandth of all memory for each point."""
    finding = found("\n".join(formats.host_report(formats.KERNELS[-1])))
    assert finding.total_pages is not None
    assert finding.point_pages == finding.total_pages // 1000
    assert finding.victim is not None
    assert finding.victim.badness == 40000 + 3000 + 120 + 300 * (finding.total_pages // 1000)


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.txt")), ids=lambda path: path.stem)
def test_kernels_choice_is_ours(path: Path) -> None:
    """In every report that our own kernels printed in full, the victim is the one that comes out first."""
    findings = [examine(report) for report in OomLog().read([path.read_text()])]
    assert findings
    for finding in findings:
        if finding.report.tasks:
            assert finding.why == "highest"


def test_thousandths_of_old_kernels_are_told_as_such() -> None:
    """Before 3.5 the sum itself was in thousandths: no amount of memory is made of it."""
    finding = found("\n".join(formats.host_report(formats.KERNELS[0])))
    assert finding.victim is not None
    assert finding.victim.badness is not None
    assert share_of(finding.victim, finding) == finding.victim.badness / 1000 <= 1
    shown = dict(facts(Incident(1, finding)))
    assert f"badness, {finding.victim.badness} thousandths of memory: " in shown["Why"]
    assert re.search(r"badness was \d+ thousandths of memory lower", shown["Next"])


def test_least_badness_of_old_kernels_is_told_as_such() -> None:
    """Before 5.9 no sum is below one page: protected processes are equal, whatever they use."""
    lines = formats.host_report(formats.KERNELS[3], values=(-999, -1000, -999, -999))
    shown = dict(facts(Incident(1, found("\n".join(lines)))))
    assert "highest badness, 4 KiB: 156.2 MiB in RAM" in shown["Why"]
    assert "its oom_score_adj, but at least one page." in shown["Why"]
    assert shown["Next"].startswith("systemd-journal[240]")
    assert "its badness was the same." in shown["Next"]


def test_value_that_decided_is_named() -> None:
    """The smallest of three died, for its value."""
    finding = found((REPORTS / "6.18-memcg-value-decides.txt").read_text())
    assert finding.total_pages == 64 << 8
    assert finding.victim is not None
    assert finding.largest is not None
    assert (finding.victim.task.comm, finding.largest.task.comm) == ("cache-worker", "db-server")


def test_value_of_the_victim_is_named_where_either_one_sufficed() -> None:
    """With 0, the victim would have had less than the largest with its -200."""
    text = (REPORTS / "6.18-memcg-value-decides.txt").read_text()
    for before, after in ((" 0 db", " -200 db"), ("500 cache", "100 cache"), (" 0 report", " -500 report")):
        text = text.replace(before, after)
    decider = found(text).decider
    assert decider is not None
    assert decider.task.comm == "cache-worker"


def test_value_without_which_two_would_be_equal_is_not_said_to_decide() -> None:
    """With 0, the victim would have had as much as the largest, and the order of the scan would decide."""
    text = (REPORTS / "6.18-memcg-value-decides.txt").read_text()
    text = text.replace("9738     8176", "9736     8176").replace(" 0 db", " -255 db")
    text = text.replace(" 0 report", " -500 report").replace("500 cache", "100 cache")
    finding = found(text)
    assert [one.badness for one in finding.ranked] == [7286, 5686, -11]
    assert finding.decider is not None
    assert finding.decider.task.comm == "db-server"


def test_value_that_would_not_have_sufficed_is_not_blamed() -> None:
    """With 0, the largest would still have had less than the victim with its 700: all values decided."""
    shown = dict(facts(Incident(1, found((REPORTS / "7.2-host.txt").read_text()))))
    assert "Without oom_score_adj, vm-precious[343] (362.7 MiB) would have been killed" in shown["Next"]
    assert "with 0" not in shown["Next"].lower()


def test_score_of_old_kernels_agrees() -> None:
    """What the kernel printed as score is our badness in thousandths."""
    finding = found(formats.CHILD_3_19)
    assert finding.why == "child"
    first = finding.ranked[0]
    assert first.badness is not None
    assert finding.total_pages is not None
    assert finding.report.choice is not None
    assert finding.report.choice.score is not None
    assert abs(first.badness * 1000 // finding.total_pages - finding.report.choice.score) <= 2


def test_score_of_a_process_without_a_value_shows_the_size_of_memory() -> None:
    """Where the report does not show it: 43120 pages were 413 thousandths. A value is part of the score."""
    for value, score, total in ((0, 413, 104406), (300, 413, None), (0, 0, None)):
        lines = formats.host_report(formats.KERNELS[2], values=(0, -1000, 0, value))
        text = "\n".join(line for line in lines if not line.endswith(("pages RAM", "pages reserved")))
        assert found(text.replace("score 413", f"score {score}")).total_pages == total


def test_cgroup_with_swap_counts_it() -> None:
    """A version 1 cgroup's swap is what its second limit leaves; version 2 says it itself."""
    assert found(formats.MEMCG_3_16).total_pages == 131072 // 4
    finding = found(formats.GROUP_5_15)
    assert finding.total_pages == 65536 // 4
    assert finding.assumed == ()
    unlimited = formats.GROUP_5_15.replace("limit 0kB", "limit 9007199254740988kB")
    assert found(unlimited).total_pages == 65536 // 4
    swapping = unlimited.replace("    61440        0", "    61440      500")
    finding = found(swapping)
    assert finding.total_pages == 65536 // 4 + 500
    assert any("swap" in text for text in finding.assumed)
    lower = formats.MEMCG_3_16.replace("limit 131072kB", "limit 32768kB")
    assert found(lower).total_pages == 65536 // 4
    assert found(formats.GROUP_5_15.replace("limit 65536kB", "limit 0kB")).total_pages == 1


def test_swap_limit_does_not_count_where_no_swap_was_used() -> None:
    """Docker allows a container as much swap as memory, also on a host without: the kernel counts none."""
    for text in (
        formats.GROUP_5_15.replace("usage 0kB, limit 0kB", "usage 0kB, limit 65536kB"),
        re.sub(r" 9000( +0 apache2)", r"    0\1", formats.MEMCG_3_16),
    ):
        finding = found(text)
        assert finding.total_pages == 65536 // 4
        assert any("no swap" in one for one in finding.assumed)
    used = formats.GROUP_5_15.replace("usage 0kB, limit 0kB", "usage 4kB, limit 65536kB")
    assert found(used).total_pages == 131072 // 4  # by tmpfs


def test_cgroup_is_known_by_its_amounts_alone() -> None:
    """The lines that name it are lost."""
    assert found(formats.MEMCG_64K.partition("oom-kill:")[0]).constraint == "memcg"


def test_cpuset_is_its_nodes_memory() -> None:
    """Only the nodes that it may use ran out."""
    finding = found(formats.CPUSET_5_10)
    assert finding.constraint == "cpuset"
    assert finding.total_pages == 1_000_000


def test_nodes_count_once() -> None:
    """The kernel lists each once; a log that repeats them takes no longer than its length."""
    listed, repeated = (
        formats.CPUSET_5_10.replace("mems_allowed=1,", f"mems_allowed={nodes},")
        for nodes in ("0-1023", ",".join(["0-999"] * 600))
    )
    (one,), (other,) = OomLog().read([listed]), OomLog().read([repeated])
    assert examine(one).total_pages == examine(other).total_pages == 3_000_000
    takes_at_most(20, lambda: examine(other), lambda: examine(one), "a list with repeats")


def test_kernels_of_another_formula_are_not_ranked() -> None:
    """Before 2.6.36 there was no oom_score_adj; what is not known is not made up."""
    finding = found(formats.LINUX_2_6_32)
    assert finding.era is None
    assert finding.ranked == ()
    assert finding.victim is not None
    assert finding.victim.task.comm == "mysqld"
    lines = formats.host_report(formats.KERNELS[-1])
    text = "\n".join(line.replace("oom_score_adj name", "oom_adj name") for line in lines)
    assert found(text.replace(" 7.0.0 ", " ")).era is None


@pytest.mark.parametrize(
    ("kernel", "release", "since"),
    [
        (formats.KERNELS[0], "2.6.39", (2, 6, 39)),
        (formats.KERNELS[1], "3.14", (3, 14, 0)),
        (formats.KERNELS[2], "4.1", (3, 14, 0)),
        (formats.KERNELS[3], "4.15", (3, 14, 0)),
        (formats.KERNELS[5], "6.8", (5, 9, 0)),
    ],
)
def test_release_is_guessed_from_what_is_printed(
    kernel: formats.Kernel, release: str, since: tuple[int, int, int]
) -> None:
    """Without the line that names it, the columns tell how old a kernel is at least; it is said so."""
    lines = [
        line
        for line in formats.host_report(kernel)
        if not line.startswith(("CPU:", "Pid:", "Killed process", "Out of memory", "oom-kill:"))
    ]
    finding = found(
        "\n".join([*lines, "Killed process 1377 (report (new) x) total-vm:400000kB, anon-rss:1kB"])
    )
    assert finding.era is not None
    assert finding.era.since == since
    assert f"Linux {release} or later (the report does not show the release)" in finding.assumed


def test_victim_that_was_not_ahead_is_told() -> None:
    """Where the table and the choice do not agree, it is not explained away."""
    text = "\n".join(formats.host_report(formats.KERNELS[-1])).replace("     300 report", "       0 report")
    finding = found(text)
    assert finding.why == "lower"
    assert "about to exit, or killed before." in dict(facts(Incident(1, finding)))["Why"]


def test_victim_that_could_not_be_chosen_is_told() -> None:
    """Its row has -1000, so it has no place in the order."""
    finding = found("\n".join(formats.host_report(formats.KERNELS[-1], values=(0, 0, 0, -1000))))
    assert finding.victim is not None
    assert finding.victim.place is None
    assert "By this calculation it could not be chosen" in dict(facts(Incident(1, finding)))["Why"]


def test_bonus_of_root_that_may_decide_who_is_next_is_told() -> None:
    """3 % less is what puts sshd, of uid 0, behind postgres; that it has CAP_SYS_ADMIN is assumed."""
    for value, is_told in ((247, True), (200, False)):
        finding = found("\n".join(formats.host_report(formats.KERNELS[2], values=(0, value, 0, 900))))
        assert finding.runner_up is not None
        assert finding.runner_up.task.comm == "postgres"
        assert any("CAP_SYS_ADMIN" in text for text in finding.assumed) == is_told


def test_reasons_that_the_report_gives_are_taken() -> None:
    """Who asked died for asking, or somebody pressed a key."""
    assert found(formats.ALLOCATING_6_1).why == "allocating"
    pressed = "\n".join(formats.host_report(formats.KERNELS[-1])).replace("order=0", "order=-1")
    assert found(pressed).why == "sysrq"
    nothing = f"{pressed.partition('Tasks state')[0]}Out of memory and no killable processes...\n"
    assert found(nothing).constraint == "none"


def test_pages_of_64_kib_are_counted_as_such() -> None:
    """The page tables are printed in bytes."""
    finding = found(formats.PAGES_64K)
    assert finding.victim is not None
    assert finding.victim.badness == 12000 + 100


def test_init_is_never_taken() -> None:
    """Old tables list it; the kernel passes it over."""
    text = formats.CHILD_3_19.replace("[ 9772]   500  9772", "[    1]     0     1")
    finding = found(text)
    assert [one.task.pid for one in finding.ranked if one.place is not None] == [9787]


def test_what_ran_out_is_named() -> None:
    """The host, a cgroup with its limit, or nodes of memory; a key that somebody pressed is no lack of it."""
    host = "\n".join(formats.host_report(formats.KERNELS[-1]))
    for text, shown in (
        (host, "report (new) x[1377] was killed: the host ran out of memory."),
        (
            host.replace("order=0", "order=-1"),
            f"report (new) x[1377] was killed: {SYSRQ}.",
        ),
        (formats.MEMCG_3_16, "apache2[901] was killed: cgroup /lxc/web reached its limit of 64.0 MiB."),
        (formats.CPUSET_5_10, "batch[900] was killed: memory node 1 of its cpuset ran out of memory."),
        (formats.PANIC_6_1, "The kernel panicked: the host ran out of memory."),
        (
            "a invoked oom-killer: gfp_mask=0x0, order=0\nMem-Info:\n9 pages RAM\n",
            "The host ran out of memory; the log does not show which process was killed.",
        ),
    ):
        assert headline(found(text)) == shown


def test_limit_of_memory_and_swap_is_not_taken_for_that_of_memory() -> None:
    """A cgroup of version 1 has both, and may reach the second with much left of the first."""
    text = formats.MEMCG_3_16.replace("usage 65536kB, limit 65536kB", "usage 32768kB, limit 65536kB")
    finding = found(text.replace("usage 65536kB, limit 131072kB", "usage 131072kB, limit 131072kB"))
    assert headline(finding).endswith("/lxc/web reached its limit of 128.0 MiB for memory and swap.")
    shown = dict(facts(Incident(1, finding)))
    assert "used 32.0 MiB of 64.0 MiB. With swap, it used 128.0 MiB of 128.0 MiB." in shown["Memory"]
    assert "With swap" not in dict(facts(Incident(1, found(formats.MEMCG_3_16))))["Memory"]


def test_what_a_group_loses_as_well_was_neither_next_nor_saved() -> None:
    """With memory.oom.group, all of it is killed, whichever is chosen."""
    row = "[    901]    33   901     9000     3000    61440        0 {:13} {}"
    text = formats.GROUP_5_15.replace(row.format(0, "helper"), row.format(900, "helper")).replace(
        "oom-kill:", f"{row.replace('901', '902').replace(' 3000', '  900').format(0, 'other')}\noom-kill:"
    )
    text = text.replace("task=worker,pid=900", "task=helper,pid=901")
    before, _, behind = text.partition("Memory cgroup out of memory: Killed process 900")
    text = (
        f"{before}Memory cgroup out of memory: Killed process 901 (helper)\n{behind[behind.index('Tasks') :]}"
    )
    shown = dict(facts(Incident(1, found(text))))
    assert shown["Next"].startswith("other[902] (")
    assert shown["Next"].endswith("Without oom_score_adj, the same processes would have been killed.")
    assert shown["Also"].startswith("The kernel also killed worker[900].")


def test_cgroups_are_shown_in_full_once() -> None:
    """A short path is in a sentence; a long one is not, and follows on a line of its own."""
    assert [*paths(found(formats.MEMCG_3_16).report)] == []
    assert [*paths(found(formats.GROUP_5_15).report)] == [("Cgroup", "/app.slice/web.service")]
    moved = formats.GROUP_5_15.replace("task_memcg=/app.slice/web", "task_memcg=/other.slice/web")
    assert [*paths(found(moved).report)] == [("Limit", "/app.slice"), ("Cgroup", "/other.slice/web.service")]


def test_swap_that_the_report_does_not_show_is_not_said_to_be_none() -> None:
    """What is assumed is listed as such."""
    finding = found("\n".join(one for one in formats.host_report(formats.KERNELS[-1]) if "swap" not in one))
    shown = dict(facts(Incident(1, finding)))
    assert "swap" not in shown["Memory"]
    assert "swap is not counted" in shown["Assumed"]
