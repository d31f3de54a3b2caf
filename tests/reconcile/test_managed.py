"""The table of managed processes: only a recorded finding changes it, and it outlives the policy."""

from copy import copy

import pytest

from fakeproc import FakeProc
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.known import Known
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.matching import Itself
from oomguard.reconcile.reconciler import Reconciler

PERSON = 1000
RULES = (
    Rule(0, (b"hog",), Terms(Value("exact", 800)), "p.yaml", 1),
    Rule(1, (b"guard",), Terms(Value("exact", -900), scope="main"), "p.yaml", 2),
    Rule(2, (b"zygote",), Terms(Value("exact", 300), cmdlines=("--tab",)), "p.yaml", 3),
)


def state(reconciler: Reconciler) -> dict[str, object]:
    """Return a copy of all that is known of processes, without the memo of parents that one pass has."""
    whole = {**vars(reconciler.managed), **vars(reconciler.inheritance)}
    known = {
        pid: [getattr(one, name) for name in Known.__slots__ if name != "start_time_ticks"]
        for pid, one in reconciler.managed.known.items()
    }
    kept = {dict, set, bool, int}
    found = {name: copy(value) for name, value in whole.items() if type(value) in kept}
    return found | {"known": known, "_by_parent": 0}


@pytest.mark.parametrize(
    ("name", "value", "parent"),
    [
        pytest.param(b"other", 0, 1, id="no rule matches it"),
        pytest.param(b"other", -900, 10, id="it inherited a value"),
        pytest.param(b"hog", 0, 1, id="a rule raises it"),
        pytest.param(b"hog", 800, 1, id="it has the rule's value by itself"),
        pytest.param(b"guard", 0, 1, id="a rule must not protect it"),
        pytest.param(b"zygote", 0, 1, id="it may match a rule later"),
    ],
)
def test_what_is_found_out_changes_nothing_until_it_is_recorded(
    proc: FakeProc, procfs: Procfs, name: bytes, value: int, parent: int
) -> None:
    """Found out twice, it is the same. Once recorded, later decisions know of it, if they need to."""
    proc.process(Process(Identity(10, 1), b"guard"))
    reconciler = Reconciler(Policy(rules=RULES), Ledger(), procfs)
    list(reconciler.everything("start", 0.0))
    assert proc.oom_score_adj(10) == -900
    proc.process(Process(Identity(20, 2), name, parent_pid=parent, uid=PERSON, oom_score_adj=value))
    reconciler.managed.on_fork(parent, 20, 5)
    handle = procfs.open(20)
    assert handle is not None
    with handle:
        before = state(reconciler)
        known = reconciler.managed.recall(handle)
        found = reconciler.planner.find(handle, known)
        assert reconciler.planner.find(handle, known) == found
        assert state(reconciler) == before
        reconciler.managed.update(handle, known, found)
    assert (state(reconciler) == before) is (name in (b"other", b"guard"))


def test_a_reload_translates_rules_by_their_conditions(proc: FakeProc, procfs: Procfs) -> None:
    """Their value may differ, and their number; of a rule that is gone, nothing is left."""
    for pid, name in ((10, b"guard"), (20, b"hog")):
        proc.process(Process(Identity(pid, pid), name))
    reconciler = Reconciler(Policy(rules=RULES), Ledger(), procfs)
    list(reconciler.everything("start", 0.0))
    assert reconciler.managed.rule_of == {10: 1, 20: 0}
    known = reconciler.managed.rule_of
    moved = RULES[0]._replace(number=1, terms=Terms(Value("exact", 700)))
    reconciler.adopt(Policy(rules=(RULES[2]._replace(number=0), moved)))
    assert reconciler.managed.rule_of == {20: 1}
    assert known == {10: 1, 20: 0}, "what the status file shows until the first pass ends"


@pytest.mark.parametrize("has_ended", [False, True])
def test_what_no_rule_matches_any_more_is_not_counted(
    proc: FakeProc, procfs: Procfs, *, has_ended: bool
) -> None:
    """The status and the metrics have their number."""
    for pid in (10, 20):
        proc.process(Process(Identity(pid, 1), b"hog"))
    reconciler = Reconciler(Policy(rules=RULES), Ledger(), procfs)
    list(reconciler.everything("start", 0.0))
    assert reconciler.managed.matched == 2
    if has_ended:
        proc.end(20)
    else:
        proc.rename(20, b"other")
    list(reconciler.everything("resync", 0.0))
    assert reconciler.managed.matched == 1


def test_the_forks_of_what_no_rule_can_match_wake_nobody(proc: FakeProc, procfs: Procfs) -> None:
    """Of init, a zombie and oomguard itself, whatever they are called."""
    for pid, state in ((1, "S"), (20, "Z"), (21, "S"), (22, "S")):
        proc.process(Process(Identity(pid, 1), b"zygote"), state=state)
    reconciler = Reconciler(Policy(rules=RULES), Ledger(), procfs, itself=Itself(21))
    list(reconciler.everything("start", 0.0))
    assert reconciler.managed.watched == {22}
