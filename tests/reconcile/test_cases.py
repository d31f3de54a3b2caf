"""The cases of `tests/cases/*.yaml`, in a tree of files: what `oomguard test` decides is also applied.

Each case checks that the plan, applied, gives what the case expects and leaves only what was refused, and
that a restore then gives back the start. What case files cannot say, such as a ledger, is in `WITH_LEDGER`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fakeproc import FakeProc, due
from oomguard.core.change import Change, SetOomScoreAdj
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.diagnose.case_runner import run_case
from oomguard.kernel.procfs import Procfs
from oomguard.policy.cases.case_file import Case, load_cases
from oomguard.policy.load import parse
from oomguard.policy.source import Source
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.report.case_results import result_lines

if TYPE_CHECKING:
    from oomguard.policy.cases.actors import Expected

Values = dict[int | str, int]

FOLDER = Path(__file__).parent.parent / "cases"

CASES: dict[str, Case] = {
    f"{path.stem}: {case.title}": case
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in load_cases(str(path))
}
RESTORED: dict[str, Values] = {
    # The start would not allow what is promised by now.
    "sysctls: under strict accounting a higher limit is never refused": {"vm.overcommit_ratio": 20}
}
"""What `restore` leaves, where that is not the start."""


def build(case: Case, proc: FakeProc) -> None:
    """Make the tree that the case takes place in."""
    for actor in case.actors:
        process = actor.process
        proc.process(process._replace(identity=Identity(process.identity.pid, process.identity.pid)))
    for name, value in case.sysctls.items():
        proc.sysctl(name, value)
    proc.meminfo(**case.meminfo)


def planned(reconciler: Reconciler) -> list[Change]:
    """Return every change that is due."""
    return [*reconciler.planner.sysctl_changes("policy"), *due(reconciler)]


def target(change: Change) -> int | str:
    """Return the pid or the sysctl of a change."""
    return change.identity.pid if isinstance(change, SetOomScoreAdj) else change.name


def values(proc: FakeProc) -> Values:
    """Return every value there is."""
    return dict([*proc.oom_score_adjs().items(), *proc.sysctls().items()])


def follow_the_laws(reconciler: Reconciler, proc: FakeProc, restored: Values) -> None:
    """Apply and restore everything: only what is refused stays to be done, and the start comes back."""
    start, found = values(proc), planned(reconciler)
    assert values(proc) == start, "planning wrote something"
    outcomes = list(reconciler.everything("policy", now=0.0))
    assert [outcome.result for outcome in outcomes] == [
        "refused" if change.obstacle is not None else "applied" for change in found
    ]
    for change in found:
        assert values(proc)[target(change)] == (
            change.before if change.obstacle is not None else change.after
        )
    refused = [(change.before, change.after) for change in found if change.obstacle is not None]
    assert [(change.before, change.after) for change in planned(reconciler)] == refused

    reconciler.adopt(Policy())
    assert {outcome.result for outcome in reconciler.everything("restore", now=0.0)} <= {"applied", "refused"}
    assert values(proc) == start | restored
    assert all(change.obstacle is not None for change in planned(reconciler))


@pytest.mark.parametrize("name", CASES)
def test_a_case(name: str, proc: FakeProc, procfs: Procfs) -> None:
    """`oomguard test` finds no difference, and files lead to the same plan, in the order of the case."""
    case = CASES[name]
    assert list(result_lines([run_case("case", case)])) == []
    build(case, proc)
    start, reconciler = values(proc), Reconciler(case.policy, Ledger(), procfs)
    changes = {target(change): change for change in planned(reconciler)}
    expected: dict[int | str, Expected] = dict(case.expected.items())
    expected |= {one.process.identity.pid: one.expected for one in case.actors if one.expected is not None}
    for one, told in expected.items():
        change = changes.get(one)
        obstacle = None if change is None else change.obstacle
        value = change.after if change is not None and obstacle is None else start[one]
        assert told.value in (value, None), one
        assert (told.refused or "") in ("" if obstacle is None else obstacle.reason), one
    assert changes.keys() <= expected.keys()
    assert list(changes) == [one for one in expected if one in changes]
    follow_the_laws(reconciler, proc, RESTORED.get(name, {}))


SAID = {
    "a percentage of RAM is rounded down to a kB": {"vm.min_free_kbytes": "3 % of 64.0 GiB"},
    "a percentage comes to no more than its max": {"vm.min_free_kbytes": "3 % of 1.0 TiB, at most 2 GiB"},
    "a percentage comes to no less than its min": {"vm.min_free_kbytes": "3 % of 1.0 GiB, at least 64 MiB"},
    "sizes come in the unit of each sysctl": {
        "vm.admin_reserve_kbytes": "128 MiB",
        "vm.nr_hugepages": "1 GiB",
        "vm.mmap_min_addr": "64 KiB",
        "vm.dirty_bytes": "1.5 GiB",
    },
    "a value that is too low is raised": {"vm.max_map_count": "at least 262144"},
    "a value that is too high is lowered": {
        "vm.swappiness": "at most 10",
        "vm.min_free_kbytes": "at most 1 % of 16.0 GiB",
    },
    "a commit limit that leaves RAM takes the place of a ratio": {
        "vm.overcommit_kbytes": "commit_limit leaves 8 GiB of 64.0 GiB",
        "vm.overcommit_memory": "",
    },
    "a commit limit counts the huge pages that are reserved": {
        "vm.overcommit_kbytes": "commit_limit 90 % of 14.0 GiB without huge pages"
    },
}
"""How the policy says the values of some cases."""


@pytest.mark.parametrize("title", SAID)
def test_a_value_is_shown_as_it_is_written(title: str, proc: FakeProc, procfs: Procfs) -> None:
    """With what it is a share of."""
    case = CASES[f"values: {title}"]
    build(case, proc)
    planner = Reconciler(case.policy, Ledger(), procfs).planner
    assert {change.name: change.said for change in planner.sysctl_changes("policy")} == SAID[title]


class WithLedger(NamedTuple):
    """Values and their entries in the ledger, a policy, and the value that each should get."""

    policy: str
    had: dict[int | str, tuple[int, Entry | None]]
    expected: Values
    restored: Values


WITH_LEDGER = {
    "a value that something rewrote is drift, and its original stays known": WithLedger(
        "{vm: {swappiness: 10}, rules: [{name: worker, oom_score_adj: 300}]}",
        {
            "vm.swappiness": (99, Entry(60, 10)),
            10: (20, Entry(5, 300)),
            11: (300, Entry(6, 300)),
            12: (0, None),
        },
        {"vm.swappiness": 10, 10: 300, 11: 300, 12: 300},
        {"vm.swappiness": 60, 10: 5, 11: 6},
    ),
    "what no rule and no line asks for any more gets its original back": WithLedger(
        "{rules: [{name: other, oom_score_adj: 300}]}",
        {"vm.swappiness": (10, Entry(60, 10)), 10: (300, Entry(5, 300))},
        {"vm.swappiness": 60, 10: 5},
        {"vm.swappiness": 60, 10: 5},
    ),
    "a value that something else set since is not restored": WithLedger(
        "",
        {"vm.swappiness": (33, Entry(60, 10)), 10: (7, Entry(5, 300))},
        {"vm.swappiness": 33, 10: 7},
        {},
    ),
    "an absolute limit that something else set outlives the ratio of before": WithLedger(
        "",
        {
            "vm.overcommit_memory": (0, None),
            "vm.overcommit_ratio": (0, Entry(50, 0)),
            "vm.overcommit_kbytes": (5000, Entry(0, 1000)),
        },
        {"vm.overcommit_ratio": 0, "vm.overcommit_kbytes": 5000},
        {},
    ),
    "what oomguard had set before is not its own any more once another value was written": WithLedger(
        "",
        {"vm.swappiness": (20, Entry(60, 10, 20)), 10: (200, Entry(5, 300, 200))},
        {"vm.swappiness": 20, 10: 200},
        {},
    ),
    "while another value is not known to be written, what oomguard had set before is its own": WithLedger(
        "",
        {
            "vm.swappiness": (20, Entry(60, 10, 20, is_written=False)),
            10: (200, Entry(5, 300, 200, is_written=False)),
        },
        {"vm.swappiness": 60, 10: 5},
        {"vm.swappiness": 60, 10: 5},
    ),
    "keep gives a process its original back": WithLedger(
        "{rules: [{name: worker, oom_score_adj: keep}]}", {10: (300, Entry(5, 300))}, {10: 5}, {10: 5}
    ),
    "bounds are compared with the original": WithLedger(
        "{rules: [{name: worker, trust: name, oom_score_adj: {at_least: 100}}]}",
        {10: (900, Entry(0, 900)), 11: (900, Entry(500, 900))},
        {10: 100, 11: 500},
        {10: 0, 11: 500},
    ),
    "a ratio for an absolute limit that oomguard set itself": WithLedger(
        "{vm: {overcommit_ratio: 70}}",
        {
            "vm.overcommit_memory": (0, None),
            "vm.overcommit_ratio": (0, Entry(50, 0)),
            "vm.overcommit_kbytes": (4000000, Entry(0, 4000000)),
        },
        {"vm.overcommit_ratio": 70},
        {"vm.overcommit_ratio": 50, "vm.overcommit_kbytes": 0},
    ),
    "a value that something else raised further than asked is kept, and is not restored": WithLedger(
        "{vm: {max_map_count: {at_least: 262144}}}",
        {"vm.max_map_count": (1048576, Entry(65530, 262144))},
        {"vm.max_map_count": 1048576},
        {},
    ),
    "a value that something else lowered is raised again, and restored": WithLedger(
        "{vm: {max_map_count: {at_least: 262144}}}",
        {"vm.max_map_count": (100000, Entry(65530, 262144))},
        {"vm.max_map_count": 262144},
        {"vm.max_map_count": 65530},
    ),
    "a lower bound than before takes back what oomguard set itself": WithLedger(
        "{vm: {max_map_count: {at_least: 262144}}}",
        {"vm.max_map_count": (1048576, Entry(65530, 1048576))},
        {"vm.max_map_count": 262144},
        {"vm.max_map_count": 65530},
    ),
    "an original within a new bound is restored": WithLedger(
        "{vm: {max_map_count: {at_least: 262144}}}",
        {"vm.max_map_count": (100000, Entry(500000, 100000))},
        {"vm.max_map_count": 500000},
        {"vm.max_map_count": 500000},
    ),
    "something else set less than a bound that is the original": WithLedger(
        "{vm: {max_map_count: {at_least: 262144}}}",
        {"vm.max_map_count": (100000, Entry(262144, 500000))},
        {"vm.max_map_count": 262144},
        {"vm.max_map_count": 262144},
    ),
    "an original beyond what a host can spare is restored, and one nearer to it is allowed": WithLedger(
        "{vm: {max_map_count: 500}}",
        {"vm.min_free_kbytes": (67584, Entry(8388608, 67584)), "vm.max_map_count": (400, None)},
        {"vm.min_free_kbytes": 8388608, "vm.max_map_count": 500},
        {"vm.min_free_kbytes": 8388608},
    ),
}


@pytest.mark.parametrize("case", WITH_LEDGER.values(), ids=WITH_LEDGER)
def test_a_case_with_a_ledger(case: WithLedger, proc: FakeProc, procfs: Procfs) -> None:
    """What oomguard did before counts."""
    ledger = Ledger()
    for one, (value, entry) in case.had.items():
        if isinstance(one, int):
            proc.process(Process(Identity(one, one), b"worker", oom_score_adj=value))
        else:
            proc.sysctl(one, value)
        if entry is not None:
            ledger.record(Identity(one, one) if isinstance(one, int) else one, entry)
    policy = parse((Source("policy.yaml", case.policy.encode() or b"#"),)).policy
    reconciler = Reconciler(policy, ledger, procfs)
    found = {target(change): change.after for change in planned(reconciler)}
    assert {one: found.get(one, values(proc)[one]) for one in case.expected} == case.expected
    follow_the_laws(reconciler, proc, case.restored)


def test_a_child_with_its_parents_value_gets_what_the_parent_had(proc: FakeProc, procfs: Procfs) -> None:
    """Whatever the policy is now."""
    ledger = Ledger()
    ledger.record(Identity(10, 10), Entry(5, 300))
    proc.process(Process(Identity(10, 10), b"master", oom_score_adj=300))
    proc.process(Process(Identity(11, 11), b"worker", parent_pid=10, oom_score_adj=300))
    policy = parse((Source("policy.yaml", b"{rules: [{name: worker, oom_score_adj: 400}]}"),)).policy
    reconciler = Reconciler(policy, ledger, procfs)
    assert {target(change): change.after for change in planned(reconciler)} == {10: 5, 11: 400}
    follow_the_laws(reconciler, proc, {10: 5, 11: 5})


def test_kernel_threads_zombies_and_pid_1_are_left_alone(proc: FakeProc, procfs: Procfs) -> None:
    """Even by a rule for every name."""
    proc.process(Process(Identity(1, 1), b"systemd", parent_pid=0))
    proc.process(Process(Identity(2, 2), b"kthreadd", parent_pid=0), kernel_thread=True)
    proc.process(Process(Identity(3, 3), b"kworker/0:0", parent_pid=2), kernel_thread=True)
    proc.process(Process(Identity(10, 10), b"defunct"), state="Z")
    proc.process(Process(Identity(11, 11), b"worker"))
    policy = parse((Source("policy.yaml", b"{rules: [{name: '*', oom_score_adj: 100}]}"),)).policy
    reconciler = Reconciler(policy, Ledger(), procfs)
    assert [target(change) for change in planned(reconciler)] == [11]
    follow_the_laws(reconciler, proc, {})


def test_what_is_no_utf_8_matches_as_other_text_does(proc: FakeProc, procfs: Procfs) -> None:
    """Names and command lines are bytes."""
    proc.process(Process(Identity(10, 10), b"\xff\xfe"))
    proc.process(Process(Identity(11, 11), b"a", arguments=(b"\xff\xc3(", b"--serve")))
    rules = b"{rules: [{cmdline: '--serve$', oom_score_adj: 100}, {name: '*', oom_score_adj: 200}]}"
    reconciler = Reconciler(parse((Source("policy.yaml", rules),)).policy, Ledger(), procfs)
    assert {target(change): change.after for change in planned(reconciler)} == {10: 200, 11: 100}
    follow_the_laws(reconciler, proc, {})


def test_a_sysctl_that_the_kernel_lacks_is_skipped(proc: FakeProc, procfs: Procfs) -> None:
    """And the others are set."""
    proc.sysctl("vm.swappiness", 60)
    text = b"{vm: {swappiness: 10, compaction_proactiveness: 5}}"
    reconciler = Reconciler(parse((Source("policy.yaml", text),)).policy, Ledger(), procfs)
    assert [target(change) for change in planned(reconciler)] == ["vm.swappiness"]
    follow_the_laws(reconciler, proc, {})


def test_a_limit_that_the_kernel_computes_otherwise_is_not_enforced(proc: FakeProc, procfs: Procfs) -> None:
    """Then the limit under other sysctls is unknown, too."""
    for name, value in {"memory": 0, "ratio": 50, "kbytes": 0}.items():
        proc.sysctl(f"vm.overcommit_{name}", value)
    proc.meminfo(MemTotal=8388608, Committed_AS=1, CommitLimit=3145728)
    text = b"{vm: {overcommit_memory: 2, overcommit_ratio: 80}}"
    reconciler = Reconciler(parse((Source("policy.yaml", text),)).policy, Ledger(), procfs)
    reasons = [change.obstacle.reason for change in planned(reconciler) if change.obstacle is not None]
    assert len(reasons) == 2
    assert all("the kernel's CommitLimit is 3145728 KiB, but MemTotal" in reason for reason in reasons)
    follow_the_laws(reconciler, proc, {})
