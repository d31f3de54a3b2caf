"""The decision behind a report, computed again: which process was ahead, by how much, and why."""

import re
from pathlib import Path

import pytest

import oom_formats as formats
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


def test_cpuset_is_its_nodes_memory() -> None:
    """Only the nodes that it may use ran out."""
    finding = found(formats.CPUSET_5_10)
    assert finding.constraint == "cpuset"
    assert finding.total_pages == 1_000_000


def test_kernels_of_another_formula_are_not_ranked() -> None:
    """Before 2.6.36 there was no oom_score_adj; what is not known is not made up."""
    finding = found(formats.LINUX_2_6_32)
    assert finding.era is None
    assert finding.ranked == ()
    assert finding.victim is not None
    assert finding.victim.task.comm == "mysqld"


def test_release_is_guessed_from_what_is_printed() -> None:
    """Without the line that names it, the columns tell how old a kernel is at least; it is said so."""
    lines = [
        line
        for line in formats.host_report(formats.KERNELS[1])
        if not line.startswith(("CPU:", "Killed process", "Out of memory"))
    ]
    finding = found(
        "\n".join([*lines, "Killed process 1377 (report (new) x) total-vm:400000kB, anon-rss:1kB"])
    )
    assert finding.era is not None
    assert finding.era.since == (3, 14, 0)
    assert any("release" in text for text in finding.assumed)


def test_victim_that_was_not_ahead_is_told() -> None:
    """Where the table and the choice do not agree, it is not explained away."""
    text = "\n".join(formats.host_report(formats.KERNELS[-1])).replace("     300 report", "       0 report")
    finding = found(text)
    assert finding.why == "lower"
    assert "about to exit, or killed before." in dict(facts(Incident(1, finding)))["Why"]


def test_reasons_that_the_report_gives_are_taken() -> None:
    """Who asked died for asking, or somebody pressed a key."""
    assert found(formats.ALLOCATING_6_1).why == "allocating"
    pressed = "\n".join(formats.host_report(formats.KERNELS[-1])).replace("order=0", "order=-1")
    assert found(pressed).why == "sysrq"


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
