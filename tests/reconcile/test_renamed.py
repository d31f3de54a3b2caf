"""A rule that raises by a name or a cgroup is not escaped by taking another."""

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


def test_one_that_takes_a_name_that_is_raised_more_is_raised_more(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """It escapes nothing by that."""
    reconciler = started(proc, procfs, policy(f"{RULES[:-1]}, {{name: boar, oom_score_adj: 900}}]"))
    rename(proc, "boar")
    assert changes(reconciler) == [900]


def test_running_a_program_of_the_same_name_does_not_free_it_later(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """The rule governs that program, too: the name it takes then is of its own choice."""
    reconciler = started(proc, procfs, policy(RULES))
    assert changes(reconciler) == []  # from here on nothing of it is read while it is as it was
    reconciler.managed.executed[20] = 1
    assert changes(reconciler) == []
    rename(proc, "sheep")
    assert changes(reconciler) == []


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


HOG, LAMB = "name: hog, oom_score_adj", "name: lamb, oom_score_adj"


@pytest.mark.parametrize(
    ("rules", "own", "steps"),
    [
        (f"{{{HOG}: 800}}, {{user: {PERSON}, oom_score_adj: 100}}", 0, [900, 5]),
        (f"{{{HOG}: 800}}", 0, [900, "sheep", 5]),
        (f"{{{HOG}: 800}}, {{{LAMB}: keep}}", 800, ["lamb", 5]),
        (f"{{{HOG}: {{at_least: 800}}}}, {{{LAMB}: {{at_least: 100}}}}", 900, ["lamb", 5]),
        (f"{{{HOG}: {{at_least: 800}}}}, {{{LAMB}: keep}}", 0, [900, "lamb", 5]),
        (f"{{user: {PERSON}, {HOG}: 800}}, {{user: {PERSON}, oom_score_adj: -500}}", 900, ["lamb", 5]),
        (f"{{user: {PERSON}, {HOG}: 800}}, {{{LAMB}: keep}}", 900, ["lamb", 5]),
    ],
)
def test_a_high_value_of_its_own_frees_no_process(
    proc: FakeProc,
    procfs: Procfs,
    policy: Callable[[str], Policy],
    rules: str,
    own: int,
    steps: list[int | str],
) -> None:
    """It may choose one at any time, and a lower one later: no rule that leaves it that raises it."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=own))
    reconciler = Reconciler(policy(f"rules: [{rules}]"), Ledger(), procfs)
    for step in ("hog", *steps):
        if isinstance(step, str):
            proc.rename(20, step.encode())
        else:
            proc.set_oom_score_adj(20, step)
        reconciler.process(20, "exec", 0.0)
        assert proc.oom_score_adj(20) >= 800
    assert proc.oom_score_adj(20) == 800


def test_a_rule_for_less_than_a_process_chose_is_refused(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """It still matches: that a process chose more is no escape, and lowering that takes trust."""
    rules = f"rules: [{{{HOG}: 800}}, {{user: {PERSON}, oom_score_adj: 100}}]"
    reconciler = started(proc, procfs, policy(rules))
    proc.set_oom_score_adj(20, 900)
    (outcome,) = reconciler.everything("resync", 0.0)
    assert (outcome.result, outcome.change.before, outcome.change.after) == ("refused", 900, 800)


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


@pytest.mark.parametrize("value", ["{at_most: 300}", "{at_least: 0}", "{at_least: -500}"])
def test_a_rule_that_raises_nothing_is_left_by_a_name(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], value: str
) -> None:
    """The value above 0 is the process's own, and within the bound."""
    rules = f"rules: [{{name: hog, oom_score_adj: {value}}}, {{user: {PERSON}, oom_score_adj: -100}}]"
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=5))
    reconciler = Reconciler(policy(rules), Ledger(), procfs)
    assert changes(reconciler) == []
    rename(proc, "sheep")
    assert changes(reconciler) == [-100]


@pytest.mark.parametrize(("name", "value"), [("sheep", 0), ("lamb", 100)])
def test_one_that_runs_another_program_is_judged_by_that(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], name: str, value: int
) -> None:
    """An exec is not a change of name."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, name)
    assert changes(reconciler) == []
    reconciler.managed.executed[20] = 1
    assert changes(reconciler) == [value]
    assert changes(reconciler) == []


def test_a_process_whose_program_gets_another_path_stays_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """The link follows its file (fs/d_path.c), which its user may rename, until it runs another program."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, exe="/home/a/hog"))
    reconciler = Reconciler(policy("rules: [{exe: /home/a/hog, oom_score_adj: 800}]"), Ledger(), procfs)
    assert changes(reconciler) == [800]
    link = proc.root / "20/exe"
    link.unlink()
    link.symlink_to("/home/a/sheep")
    assert changes(reconciler) == []
    reconciler.managed.executed[20] = 1
    assert changes(reconciler) == [0]


def test_one_that_cannot_be_read_once_is_judged_by_its_program_later(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """As in a shortage of memory."""
    reconciler = started(proc, procfs, policy(RULES))
    rename(proc, "sheep")
    reconciler.managed.executed[20] = 1
    value = proc.root / "20/oom_score_adj"
    value.unlink()
    value.mkdir()
    assert changes(reconciler) == []
    value.rmdir()
    proc.set_oom_score_adj(20, 800)
    assert changes(reconciler) == [0]


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


@pytest.mark.parametrize("renamed_first", [False, True])
@pytest.mark.parametrize("own", [0, 800])
def test_a_reload_frees_no_process_that_takes_another_name_before_or_after_it(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], own: int, *, renamed_first: bool
) -> None:
    """Whether it had the rule's value by itself or not; the rule has another number by then."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=own))
    reconciler = Reconciler(policy(RULES), Ledger(), procfs)
    assert changes(reconciler) == ([800] if own == 0 else [])
    if renamed_first:
        rename(proc, "sheep")
        assert changes(reconciler) == []
    reconciler.adopt(policy(f"rules: [{{name: first, oom_score_adj: 1}}, {RULES[8:]}"))
    rename(proc, "sheep")
    proc.set_oom_score_adj(20, 0)
    assert changes(reconciler) == [800]
    reconciler.adopt(policy("{}"))
    assert changes(reconciler) == [0]


def test_an_edit_of_the_policy_exempts_what_runs(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """Not what takes the name later, or took it to leave a rule before."""
    everybody = f"{{name: calf, oom_score_adj: 1}}, {{user: {PERSON}, oom_score_adj: 800}}"
    for pid, comm in ((18, b"sheep"), (19, b"hog"), (20, b"hog")):
        proc.process(Process(Identity(pid, 1), comm, uid=PERSON))
    reconciler = Reconciler(policy(f"rules: [{everybody}]"), Ledger(), procfs)
    assert changes(reconciler) == [800] * 3
    rename(proc, "calf")
    assert changes(reconciler) == []
    rename(proc, "sheep")
    exempting = policy(f"rules: [{{name: sheep, oom_score_adj: 0}}, {everybody}]")
    reconciler.adopt(exempting)
    assert changes(reconciler) == [0]
    assert proc.oom_score_adjs() == {18: 0, 19: 800, 20: 800}
    reconciler.adopt(exempting)  # as when a user changes /etc/passwd
    (proc.root / "19/comm").write_text("sheep\n")
    assert changes(reconciler) == []


def test_an_edit_that_is_read_twice_before_a_pass_ends_still_exempts(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """By the watch on the file, and by a reload or a change of users."""
    everybody = f"{{user: {PERSON}, oom_score_adj: 800}}"
    reconciler = started(proc, procfs, policy(f"rules: [{everybody}]"))
    exempting = policy(f"rules: [{{name: hog, oom_score_adj: 0}}, {everybody}]")
    reconciler.adopt(exempting)
    reconciler.adopt(exempting)
    assert changes(reconciler) == [0]


def test_an_edit_exempts_who_has_the_pid_of_one_that_took_another_name(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """It left no rule itself."""
    everybody = f"{{name: calf, oom_score_adj: 1}}, {{user: {PERSON}, oom_score_adj: 800}}"
    for pid in (19, 20):
        proc.process(Process(Identity(pid, 1), b"hog", uid=PERSON))
    reconciler = Reconciler(policy(f"rules: [{everybody}]"), Ledger(), procfs)
    assert changes(reconciler) == [800, 800]
    rename(proc, "calf")
    assert changes(reconciler) == []
    reconciler.adopt(policy(f"rules: [{{name: sheep, oom_score_adj: 0}}, {everybody}]"))
    child = Process(Identity(20, 9), b"sheep", parent_pid=19, uid=PERSON, oom_score_adj=800)
    proc.process(child, forked=True)
    reconciler.managed.on_fork(19, 20, 10)
    assert changes(reconciler) == [0]


def test_what_a_process_cannot_choose_still_decides(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """Who becomes another user is no longer governed by the rule for the first."""
    reconciler = started(proc, procfs, policy(f"rules: [{{name: hog, user: {PERSON}, oom_score_adj: 800}}]"))
    proc.process(Process(Identity(20, 1), b"sheep", uid=PERSON + 1, oom_score_adj=800))
    assert changes(reconciler) == [0]


BATCH = "/system.slice/batch.service"
OWN = "/user.slice/user-1000.slice/user@1000.service/app.slice/own.scope"


def moved(proc: FakeProc, cgroup: str, *, by_root: bool = False, uid: int = PERSON, value: int = 800) -> None:
    """Have the process in another cgroup."""
    process = Process(
        Identity(20, 1), b"hog", uid=uid, cgroup=cgroup, cgroup_is_roots=by_root, oom_score_adj=value
    )
    proc.process(process)


@pytest.mark.parametrize("own", [0, 800])
@pytest.mark.parametrize(
    ("condition", "before"),
    [("unit: batch.service", BATCH), ("cgroup: '*/batch.service'", BATCH), ("user_unit: a.scope", OWN[:-9])],
)
def test_a_process_that_moves_to_a_cgroup_of_its_user_stays_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], condition: str, before: str, own: int
) -> None:
    """Until it runs another program, under whatever rule that raises less; and so does what it forks."""
    rules = f"{{{condition}, oom_score_adj: 800}}, {{user: {PERSON}, oom_score_adj: 300}}"
    before = before if before == BATCH else f"{before}a.scope"
    moved(proc, before, value=own)
    reconciler = Reconciler(policy(f"rules: [{rules}]"), Ledger(), procfs)
    assert changes(reconciler) == ([800] if own == 0 else [])
    moved(proc, OWN)
    assert changes(reconciler) == []
    proc.set_oom_score_adj(20, 0)
    reconciler.managed.on_fork(20, 21, 10)
    proc.process(Process(Identity(21, 9), b"hog", uid=PERSON, cgroup=OWN), forked=True)
    assert changes(reconciler) == [800, 800]
    reconciler.managed.executed[20] = 11
    assert changes(reconciler) == [300]


@pytest.mark.parametrize(("by_root", "uid"), [(True, PERSON), (False, 0), (False, PERSON + 1)])
def test_what_root_moves_is_no_longer_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], uid: int, *, by_root: bool
) -> None:
    """To a cgroup that only root can write to; nor is a process of root's, or of another user by now."""
    rules = f"rules: [{{unit: batch.service, user: [root, {PERSON}], oom_score_adj: 800}}]"
    moved(proc, BATCH, uid=uid if uid == 0 else PERSON, value=0)
    reconciler = Reconciler(policy(rules), Ledger(), procfs)
    assert changes(reconciler) == [800]
    moved(proc, "/system.slice/run-7.scope", by_root=by_root, uid=uid)
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


def test_a_program_that_one_with_the_same_pid_ran_frees_no_child(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """It ended before it was examined."""
    reconciler = started(proc, procfs, policy(RULES))
    reconciler.managed.executed[21] = 9
    reconciler.managed.on_fork(20, 21, 10)
    child = Process(Identity(21, 9), b"sheep", parent_pid=20, uid=PERSON, oom_score_adj=800)
    proc.process(child, forked=True)
    assert changes(reconciler) == []


@pytest.mark.parametrize("own", [0, 800])
def test_a_child_of_one_with_a_pid_that_is_used_again_is_not_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], own: int
) -> None:
    """The end of the first was not noticed yet, and the second forks before it is examined."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=own))
    reconciler = Reconciler(policy(RULES), Ledger(), procfs)
    assert changes(reconciler) == ([800] if own == 0 else [])
    proc.process(Process(Identity(20, 9), b"sheep", uid=PERSON))
    proc.process(Process(Identity(21, 9), b"sheep", parent_pid=20, uid=PERSON), forked=True)
    reconciler.managed.on_fork(1, 20, 10)
    reconciler.managed.on_fork(20, 21, 11)
    assert changes(reconciler) == []


def test_one_that_had_the_value_by_itself_and_was_raised_to_it_later_leaves_by_an_exec_for_good(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """What is remembered of a process that had the value is forgotten once it is in the ledger."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=800))
    reconciler = Reconciler(policy(RULES), Ledger(), procfs)
    assert changes(reconciler) == []
    rename(proc, "sheep")
    (proc.root / "20/oom_score_adj").write_text("0\n")
    assert changes(reconciler) == [800]
    reconciler.managed.executed[20] = 1
    assert changes(reconciler) == [0]
    assert changes(reconciler) == []


@pytest.mark.parametrize("own", [0, 800])
@pytest.mark.parametrize("is_orphan", [False, True])
@pytest.mark.parametrize("renamed_first", [False, True])
def test_what_a_raised_process_forks_stays_raised_under_any_name(
    proc: FakeProc,
    procfs: Procfs,
    policy: Callable[[str], Policy],
    own: int,
    *,
    is_orphan: bool,
    renamed_first: bool,
) -> None:
    """Whether it was renamed itself or its child, has ended, or had the value by itself; and its children."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=own))
    reconciler = Reconciler(policy(RULES), Ledger(), procfs)
    managed = reconciler.managed
    assert changes(reconciler) == ([800] if own == 0 else [])
    if renamed_first:
        rename(proc, "sheep")
        assert changes(reconciler) == []
    managed.on_fork(20, 21, 10)
    managed.on_fork(21, 22, 11)
    for pid, parent in ((21, 1), (22, 1)) if is_orphan else ((21, 20), (22, 21)):
        child = Process(Identity(pid, pid), b"sheep", parent_pid=parent, uid=PERSON, oom_score_adj=800)
        proc.process(child, forked=True)
    if is_orphan:
        proc.end(20)
    assert changes(reconciler) == []
    for pid in (21, 22):
        proc.set_oom_score_adj(pid, 0)
    assert changes(reconciler) == [800, 800]
    assert changes(reconciler) == []
    proc.process(Process(Identity(21, 21), b"sheep", parent_pid=1, uid=PERSON, oom_score_adj=800))
    managed.executed[21] = 12
    written = changes(reconciler)
    assert proc.oom_score_adj(22) == 800
    assert written == [0], "it runs another program, and its own value is what it chose"


def test_what_the_topmost_of_a_tree_forks_is_not_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """`scope: main` says so, until its parent ends and it is the topmost itself."""
    reconciler = started(proc, procfs, policy("rules: [{name: hog, scope: main, oom_score_adj: 800}]"))
    reconciler.managed.on_fork(20, 21, 10)
    child = Process(Identity(21, 9), b"hog", parent_pid=20, uid=PERSON, oom_score_adj=800)
    proc.process(child, forked=True)
    assert changes(reconciler) == [0]
    assert changes(reconciler) == []
    proc.end(20)
    proc.process(child._replace(parent_pid=1, oom_score_adj=0), forked=True)
    assert changes(reconciler) == [800]


@pytest.mark.parametrize("lowers_itself_to", [0, 5])
def test_a_child_that_lowers_itself_before_it_is_seen_is_raised(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], lowers_itself_to: int
) -> None:
    """It has a rule by the program that it runs; which other value it chose does not count."""
    reconciler = started(proc, procfs, policy(RULES))
    reconciler.managed.on_fork(20, 21, 10)
    child = Process(Identity(21, 9), b"sheep", parent_pid=1, uid=PERSON, oom_score_adj=lowers_itself_to)
    proc.process(child, forked=True)
    assert changes(reconciler) == [800]
    reconciler.adopt(policy(RULES.replace("800", "700")))
    assert changes(reconciler) == [700, 700]
    reconciler.adopt(policy("{}"))
    assert changes(reconciler) == [0, lowers_itself_to]


def test_what_runs_another_program_before_it_forks_frees_its_child(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """The times of exec and fork tell, though neither was seen yet; and so does the kernel's flag."""
    reconciler = started(proc, procfs, policy(RULES))
    managed = reconciler.managed
    managed.on_fork(20, 21, 10)
    managed.executed[21] = 20
    managed.on_fork(21, 22, 19)
    managed.on_fork(21, 23, 21)
    managed.on_fork(20, 24, 30)
    for pid in (21, 22, 23, 24):
        child = Process(Identity(pid, 9), b"sheep", parent_pid=1, uid=PERSON, oom_score_adj=800)
        proc.process(child, forked=pid in (22, 23))
    assert changes(reconciler) == [0, 0, 0]
    assert [proc.oom_score_adj(pid) for pid in (21, 22, 23, 24)] == [0, 800, 0, 0]


@pytest.mark.parametrize("has_ended", [False, True])
def test_what_a_program_forks_has_no_part_in_the_rule_for_another(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy], *, has_ended: bool
) -> None:
    """A raised program starts a shell, which forks another shell long after it was examined, or has ended."""
    reconciler = started(proc, procfs, policy(RULES))
    managed = reconciler.managed
    managed.on_fork(20, 21, 10)
    managed.executed[21] = 11
    if not has_ended:
        proc.process(Process(Identity(21, 9), b"sheep", parent_pid=20, uid=PERSON, oom_score_adj=800))
    outcome = reconciler.process(21, "exec", 0.0)
    assert (outcome is None) == has_ended
    managed.on_fork(21, 22, 2**62)
    proc.process(Process(Identity(22, 19), b"sheep", parent_pid=1, uid=PERSON), forked=True)
    assert changes(reconciler) == []


def test_a_fork_that_is_reported_after_its_parent_ended_counts(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """Until a pass has forgotten who is gone; and a pid that is used again begins anew."""
    reconciler = started(proc, procfs, policy(RULES))
    managed = reconciler.managed
    proc.end(20)
    assert reconciler.process(20, "exec", 0.0) is None
    managed.on_fork(20, 21, 10)
    managed.on_fork(1, 20, 11)
    managed.on_fork(20, 22, 12)
    for pid in (21, 22):
        child = Process(Identity(pid, 9), b"sheep", parent_pid=1, uid=PERSON)
        proc.process(child, forked=True)
    assert changes(reconciler) == [800]
    assert proc.oom_score_adj(21) == 800


def test_a_rule_that_lowered_a_process_holds_it_no_longer(
    proc: FakeProc, procfs: Procfs, policy: Callable[[str], Policy]
) -> None:
    """Only what a rule raised must not choose less."""
    proc.process(Process(Identity(20, 1), b"hog", uid=PERSON, oom_score_adj=300))
    reconciler = Reconciler(policy(f"rules: [{{user: {PERSON}, {HOG}: 100}}]"), Ledger(), procfs)
    assert changes(reconciler) == [100]
    rename(proc, "sheep")
    assert changes(reconciler) == [300]
    proc.set_oom_score_adj(20, 0)
    assert changes(reconciler) == []


@pytest.mark.parametrize("own", [0, 800])
@pytest.mark.parametrize(("uid", "after"), [(PERSON, {19: 800, 20: 800}), (0, {19: 800, 20: 0})])
def test_a_parent_that_takes_the_name_frees_no_child_of_a_user(
    proc: FakeProc,
    procfs: Procfs,
    policy: Callable[[str], Policy],
    uid: int,
    after: dict[int, int],
    own: int,
) -> None:
    """Under `scope: main` it is the topmost then; of root's, the child is none any more."""
    proc.process(Process(Identity(19, 1), b"sheep", uid=uid))
    proc.process(Process(Identity(20, 2), b"hog", parent_pid=19, uid=uid, oom_score_adj=own))
    reconciler = Reconciler(policy(f"rules: [{{{HOG}: 800, scope: main}}]"), Ledger(), procfs)
    assert changes(reconciler) == ([800] if own == 0 else [])
    (proc.root / "19/comm").write_text("hog\n")
    changes(reconciler)
    if own == 800:
        proc.set_oom_score_adj(20, 0)
        changes(reconciler)
    assert proc.oom_score_adjs() == after
