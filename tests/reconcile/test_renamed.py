"""A rule that raises by a name is not escaped by taking another name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.kernel.procfs import Procfs
from oomguard.policy.load import load
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

PERSON = 1000
RULES = "rules: [{name: hog, oom_score_adj: 800}, {name: lamb, oom_score_adj: 100}]"


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Policy]:
    """Return policies of a text."""

    def made(text: str) -> Policy:
        file = tmp_path / "policy.yaml"
        file.write_text(text)
        return load(str(file)).policy

    return made


def changes(reconciler: Reconciler) -> list[int]:
    """Make a pass, and return what was written."""
    return [
        outcome.change.after
        for outcome in reconciler.everything("resync", 0.0)
        if outcome.result == "applied"
    ]


def rename(proc: FakeProc, comm: str) -> None:
    """Have the process take another name."""
    (proc.root / "20/comm").write_text(f"{comm}\n")


def started(proc: FakeProc, procfs: Procfs, policy: Policy, *, uid: int = PERSON) -> Reconciler:
    """Return a reconciler that has raised the process `hog`."""
    proc.process(Process(Identity(20, 1), b"hog", uid=uid))
    reconciler = Reconciler(policy, Ledger(), procfs)
    assert changes(reconciler) == [800]
    return reconciler


@pytest.mark.parametrize("name", ["sheep", "lamb"])
def test_a_process_that_takes_another_name_stays_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], name: str
) -> None:
    """Whether no rule names it then, or one that raises it less; lowering itself does not help."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, name)
    assert changes(reconciler) == []
    (proc.root / "20/oom_score_adj").write_text("0\n")
    assert changes(reconciler) == [800]


def test_one_that_chooses_a_higher_value_meanwhile_stays_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """That value is its own, and so is what it then chooses below the rule's."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, "sheep")
    assert changes(reconciler) == []
    for chosen, written in ((801, []), (0, [800]), (900, []), (900, []), (5, [800])):
        (proc.root / "20/oom_score_adj").write_text(f"{chosen}\n")
        assert changes(reconciler) == written
    reconciler.adopt(policy("{}"))
    assert changes(reconciler) == [0]


@pytest.mark.parametrize("name", ["sheep", "lamb"])
def test_one_that_had_the_rules_value_by_itself_stays_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], name: str
) -> None:
    """There was nothing to write, so it is not in the ledger."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=800))
    reconciler = Reconciler(policy(RULES), Ledger(), procfs)
    assert changes(reconciler) == []
    rename(proc, name)
    assert changes(reconciler) == []
    (proc.root / "20/oom_score_adj").write_text("0\n")
    assert changes(reconciler) == [800]
    assert changes(reconciler) == []


@pytest.mark.parametrize(("name", "value"), [("sheep", 0), ("lamb", 100)])
def test_one_that_runs_another_program_is_judged_by_that(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], name: str, value: int
) -> None:
    """An exec is not a change of name."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, name)
    assert changes(reconciler) == []
    reconciler.planner.executed.add(20)
    assert changes(reconciler) == [value]
    assert changes(reconciler) == []


def test_a_reload_does_not_forget_who_was_renamed(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """The rule's new value counts, and a rule that is gone governs nobody."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, "sheep")
    assert changes(reconciler) == []
    reconciler.adopt(policy(RULES.replace("800", "700")))
    assert changes(reconciler) == [700]
    reconciler.adopt(policy("rules: [{name: lamb, oom_score_adj: 100}]"))
    assert changes(reconciler) == [0]


def test_what_a_process_cannot_choose_still_decides(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """Who becomes another user is no longer governed by the rule for the first."""
    reconciler = started(proc, procfs, policy(f"rules: [{{name: hog, user: {PERSON}, oom_score_adj: 800}}]"))
    proc.process(Process(Identity(20, 1), b"sheep", uid=PERSON + 1, oom_score_adj=800))
    assert changes(reconciler) == [0]


def test_roots_processes_may_take_any_name(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """Root has no rule to escape: it writes them."""
    reconciler = started(proc, procfs, policy(RULES), uid=0)
    rename(proc, "sheep")
    assert changes(reconciler) == [0]


def test_a_pid_that_is_used_again_starts_anew(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """The name of the one before is not held against it."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, "sheep")
    assert changes(reconciler) == []
    proc.process(Process(Identity(20, 9), b"sheep", uid=PERSON, oom_score_adj=0))
    assert changes(reconciler) == []
    assert (proc.root / "20/oom_score_adj").read_text() == "0\n"
